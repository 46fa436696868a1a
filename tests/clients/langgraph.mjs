// What `useStream` shows after each case: a page for each, some at once, against a server that replays the events.
// A case with messages is a page that was reloaded, and has these as its state; one with several lists of frames asks
// as many questions.
import { createServer } from 'node:http'
import { cases, page, print, until } from './cases.mjs'

const every = cases()
const threads = new Map() // which case a thread replays, and which of its runs; a page names it by its assistant
const sent = new Set() // the runs of cases whose messages were sent to their ends
const turns = number => Array.isArray(every[number].frames[0]) ? every[number].frames : [every[number].frames]

async function body(request) {
  let text = ''
  for await (const piece of request) text += piece
  return JSON.parse(text || '{}')
}

const state = thread => thread in every ? { messages: every[thread].messages } : {}

const server = createServer(async (request, response) => {
  const [, , thread, ...rest] = request.url.split('/')
  const json = value => response.setHeader('content-type', 'application/json').end(JSON.stringify(value))
  const asked = await body(request)
  switch (rest.join('/')) {
    case 'commands':
      threads.set(thread, [Number(asked.params.assistant_id), (threads.get(thread)?.[1] ?? -1) + 1])
      return json({ type: 'success', id: asked.id, result: { run_id: 'run' }, meta: {} })
    case 'state':
      return json({ values: state(thread), next: thread in every ? ['workflow'] : [], tasks: [], metadata: {}, checkpoint: null, created_at: null, parent_checkpoint: null })
    case 'history':
      return json([])
    case 'stream/events': {
      response.setHeader('content-type', 'text/event-stream')
      response.write(': open\n\n')
      await until(() => threads.has(thread), 'a run')
      const [number, run] = threads.get(thread)
      for (const [at, event] of turns(number)[run].entries()) {
        if (asked.channels.includes(event.method)) response.write(`event: ${event.method}\ndata: ${JSON.stringify(event)}\n\n`)
        if (at % 5 === 0) await new Promise(resolve => setTimeout(resolve, 1))
      }
      if (asked.channels.includes('messages')) sent.add(`${number}/${run}`)
      if (turns(number).length > 1) response.end() // as a gateway does; a client comes again for the next run
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
  const isReloaded = every[number].messages.length > 0
  if (isReloaded) threads.set(String(number), [number, 0])
  let stream
  const root = createRoot(document.createElement('div'))
  root.render(createElement(() => {
    const threadId = isReloaded ? String(number) : undefined
    stream = useStream({ assistantId: String(number), apiUrl: url, messagesKey: 'messages', threadId })
    return null
  }))
  await until(() => stream, 'a page')
  let error
  for (const [run] of turns(number).entries()) {
    if (!isReloaded) {
      const question = { type: 'human', content: 'hi', id: run ? `user${run}` : 'user' }
      stream.submit({ messages: [question] }).catch(failed => { error = String(failed) })
      await until(() => stream.isLoading, 'the run')
    }
    await until(() => !stream.isLoading && sent.has(`${number}/${run}`), 'the end')
    let before, same = 0
    await until(() => { // what is left is read and rendered
      const now = JSON.stringify(stream.messages)
      same = now === before ? same + 1 : 0
      before = now
      return same > 40
    }, 'rest')
  }
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
