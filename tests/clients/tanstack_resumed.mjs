// What TanStack AI's client shows after each case, read by its own transport from connections that drop.
import { ChatClient, fetchServerSentEvents } from '@tanstack/ai-client'
import { cases, print } from './cases.mjs'

async function shown(bodies) {
  let messages = [], error, came = 0
  const fetchClient = async (_, { headers }) => {
    const id = new Headers(headers).get('last-event-id')
    if (came > 0 && !id?.startsWith(`wf/${came - 1}-`)) throw new Error(`connection ${came} has the id ${id}`)
    return new Response(bodies[came++], { headers: { 'content-type': 'text/event-stream' } })
  }
  const client = new ChatClient({
    connection: fetchServerSentEvents('http://gateway/agui', { fetchClient, reconnect: { delayMs: 0 } }),
    onMessagesChange: now => { messages = now },
    onError: failed => { error = String(failed) },
  })
  await client.append({ id: 'user', role: 'user', content: 'hi' }).catch(failed => { error = String(failed) })
  await new Promise(resolve => setTimeout(resolve, 2))
  const parts = messages.filter(message => message.role !== 'user').flatMap(message => message.parts)
  return {
    text: parts.filter(part => part.type === 'text').map(part => part.content),
    reasoning: parts.filter(part => part.type === 'thinking').map(part => part.content),
    tool_call: parts.filter(part => part.type === 'tool-call').map(part => part.arguments ?? ''),
    error: error ?? (came < bodies.length ? `${came} of ${bodies.length} connections` : undefined),
  }
}

const answers = []
for (const { frames } of cases()) answers.push({ shown: await shown(frames), marked: [] })
print(answers)
