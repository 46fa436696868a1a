// What TanStack AI's client shows after each case, read by its own transport from connections that drop.
import { fetchServerSentEvents } from '@tanstack/ai-client'
import { cases, print } from './cases.mjs'
import { shownOver } from './tanstack_client.mjs'

async function shown(bodies) {
  let came = 0
  const fetchClient = async (_, { headers }) => {
    const id = new Headers(headers).get('last-event-id')
    if (came > 0 && !id?.startsWith(`wf/${came - 1}-`)) throw new Error(`connection ${came} has the id ${id}`)
    return new Response(bodies[came++], { headers: { 'content-type': 'text/event-stream' } })
  }
  const transport = fetchServerSentEvents('http://gateway/agui', { fetchClient, reconnect: { delayMs: 0 } })
  const answer = await shownOver(transport)
  const dropped = came < bodies.length ? `${came} of ${bodies.length} connections` : undefined
  return { ...answer, error: answer.error ?? dropped }
}

const answers = []
for (const { frames } of cases()) answers.push({ shown: await shown(frames), marked: [] })
print(answers)
