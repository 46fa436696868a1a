// `useChat` of AI SDK 7: sends a message, and is reloaded while the answer comes.
import { done, page, show, until } from './cases.mjs'

const [url, thread] = process.argv.slice(2)
const document = await page(url)
const { createElement } = (await import('react')).default
const { createRoot } = await import('react-dom/client')
const { useChat } = await import('ai7-react')
const { DefaultChatTransport } = await import('ai7')

function open(options) {
  const root = createRoot(document.createElement('div'))
  const now = { text: '', status: '', close: () => root.unmount() }
  root.render(createElement(() => {
    const chat = useChat({ id: thread, transport: new DefaultChatTransport({ api: url + '/ai' }), ...options })
    const answers = chat.messages.filter(message => message.role === 'assistant')
    now.text = answers.flatMap(message => message.parts).map(part => part.text ?? '').join('')
    now.ids = answers.map(message => message.id)
    now.status = chat.status
    now.send = chat.sendMessage
    show({ text: now.text })
    return null
  }))
  return now
}

const first = open({})
await until(() => first.send, 'a page')
first.send({ text: 'How many people live in Paris?' })
await until(() => first.text.includes('2.1'), 'the retry', 60)
const [id] = first.ids
first.close()
const user = { id: 'user', role: 'user', parts: [{ type: 'text', text: 'How many people live in Paris?' }] }
const second = open({ resume: true, messages: [user] })
await until(() => second.status === 'ready' && second.text, 'the end', 60)
if (second.ids.length !== 1 || second.ids[0] !== id) throw new Error(`${second.ids} in place of ${id}`)
done({ done: second.text, resumed: 1 })
