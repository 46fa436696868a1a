// What TanStack AI's client shows after each case.
import { ChatClient } from '@tanstack/ai-client'
import { cases, print } from './cases.mjs'

async function shown(events) {
  let messages = [], error
  const client = new ChatClient({
    connection: { async *connect() { for (const event of structuredClone(events)) yield { timestamp: 1, ...event } } },
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
    error,
  }
}

const answers = []
for (const { frames } of cases()) answers.push({ shown: await shown(frames), marked: [] })
print(answers)
