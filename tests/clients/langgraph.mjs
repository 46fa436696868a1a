// What `useStream` shows after each case: a page for each, all at once, against a server that replays the events.
import { createServer } from 'node:http'
import { cases, page, print, until } from './cases.mjs'

const every = cases()
const threads = new Map() // which case a thread replays; a page names it by its assistant
const sent = new Set() // the cases whose messages were sent to their ends

async function body(request) {
  let text = ''
  for await (const piece of request) text += piece
  return JSON.parse(text || '{}')
}

const server = createServer(async (request, response) => {
  const [, , thread, ...rest] = request.url.split('/')
  const json = value => response.setHeader('content-type', 'application/json').end(JSON.stringify(value))
  const asked = await body(request)
  switch (rest.join('/')) {
    case 'commands':
      threads.set(thread, Number(asked.params.assistant_id))
      return json({ type: 'success', id: asked.id, result: { run_id: 'run' }, meta: {} })
    case 'state':
      return json({ values: {}, next: [], tasks: [], metadata: {}, checkpoint: null, created_at: null, parent_checkpoint: null })
    case 'history':
      return json([])
    case 'stream/events': {
      response.setHeader('content-type', 'text/event-stream')
      response.write(': open\n\n')
      await until(() => threads.has(thread), 'a run')
      for (const [number, event] of every[threads.get(thread)].frames.entries()) {
        if (asked.channels.includes(event.method)) response.write(`event: ${event.method}\ndata: ${JSON.stringify(event)}\n\n`)
        if (number % 5 === 0) await new Promise(resolve => setTimeout(resolve, 1))
      }
      if (asked.channels.includes('messages')) sent.add(threads.get(thread))
    }
  }
})
await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
const url = `http://127.0.0.1:${server.address().port}`

const document = await page(url)
const { createElement } = (await import('react')).default
const { createRoot } = await import('react-dom/client')
const { useStream } = await import('@langchain/react')

async function shown(number) {
  let stream
  const root = createRoot(document.createElement('div'))
  root.render(createElement(() => {
    stream = useStream({ assistantId: String(number), apiUrl: url, messagesKey: 'messages' })
    return null
  }))
  await until(() => stream, 'a page')
  let error
  stream.submit({ messages: [{ type: 'human', content: 'hi', id: 'user' }] }).catch(failed => { error = String(failed) })
  await until(() => stream.isLoading, 'the run')
  await until(() => !stream.isLoading && sent.has(number), 'the end')
  let before, same = 0
  await until(() => { // what is left is read and rendered
    const now = JSON.stringify(stream.messages)
    same = now === before ? same + 1 : 0
    before = now
    return same > 40
  }, 'rest')
  const messages = stream.messages.filter(message => message.type === 'ai')
  const joined = ({ content }, type) => typeof content === 'string' ? type === 'text' ? content : ''
    : content.filter(block => block.type === type).map(block => block[type]).join('')
  root.unmount()
  return {
    messages: Object.fromEntries(messages.map(one => [one.id, [joined(one, 'text'), joined(one, 'reasoning')]])),
    users: stream.messages.filter(message => message.id === 'user').length,
    error,
  }
}

const answers = []
for (let at = 0; at < every.length; at += 8) {
  const some = every.slice(at, at + 8).map((_, n) => shown(at + n))
  for (const one of await Promise.all(some)) answers.push({ shown: one, marked: [] })
}
print(answers)
