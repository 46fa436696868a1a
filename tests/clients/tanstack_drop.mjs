// TanStack AI: its connection is lost in mid-answer, and it comes again with the id of the last event.
import { done, show } from './cases.mjs'

const { ChatClient, fetchServerSentEvents } = await import('@tanstack/ai-client')
const [url, thread] = process.argv.slice(2)
let resumed = 0, text = ''

async function lossy(address, options) {
  const response = await fetch(address, options)
  if (new Headers(options.headers).has('last-event-id')) resumed++
  if (resumed) return response
  let seen = ''
  const cut = new TransformStream({
    transform(chunk, controller) {
      controller.enqueue(chunk)
      seen += new TextDecoder().decode(chunk)
      if (seen.includes('2.1')) controller.error(new TypeError('the connection is lost'))
    },
  })
  return new Response(response.body.pipeThrough(cut), { status: response.status, headers: response.headers })
}

const client = new ChatClient({
  threadId: thread,
  connection: fetchServerSentEvents(url + '/agui', { fetchClient: lossy }),
  onMessagesChange: messages => {
    const parts = messages.filter(one => one.role === 'assistant').flatMap(one => one.parts)
    text = parts.map(part => part.content ?? '').join('')
    show({ text })
  },
})
await client.append({ id: 'user', role: 'user', content: 'How many people live in Paris?' })
done({ done: text, resumed })
