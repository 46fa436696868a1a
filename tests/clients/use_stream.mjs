// `useStream` of LangGraph: submits, and is reloaded while the answer comes.
import { done, page, show, until } from './cases.mjs'

const [url, thread] = process.argv.slice(2)
const document = await page(url)
const { createElement } = (await import('react')).default
const { createRoot } = await import('react-dom/client')
const { useStream } = await import('@langchain/react')

function open() {
  const root = createRoot(document.createElement('div'))
  const now = { text: '', close: () => root.unmount() }
  root.render(createElement(() => {
    const stream = useStream({ assistantId: 'agent', apiUrl: url + '/langgraph', messagesKey: 'messages', threadId: thread })
    now.stream = stream
    const answers = stream.messages.filter(one => (one.type ?? one._getType?.()) === 'ai')
    now.text = answers.map(({ content }) => typeof content === 'string' ? content : content.map(block => block.text ?? '').join('')).join('')
    show({ text: now.text })
    return null
  }))
  return now
}

const first = open()
await until(() => first.stream, 'a page')
first.stream.submit({ messages: [{ type: 'human', content: 'How many people live in Paris?', id: 'user' }] })
await until(() => first.text.includes('2.1'), 'the retry', 60)
first.close()
const second = open()
await until(() => second.text.includes('people.'), 'the end', 60)
await until(() => !second.stream.isLoading, 'the end of loading')
done({ done: second.text, resumed: 1 })
