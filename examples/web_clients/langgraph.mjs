// LangGraph's client (`npm install @langchain/react` has it inside): what `useStream` is made of, without a page.
import { Client } from '@langchain/langgraph-sdk'
import { ask, draw } from './terminal.mjs'

const { url, chat, question } = ask()
const thread = new Client({ apiUrl: url + '/langgraph' }).threads.stream(chat, { assistantId: 'chat' })
const text = ({ content }) => typeof content === 'string' ? content : content.map(block => block.text ?? '').join('')

await thread.run.start({ input: { messages: [{ type: 'human', id: 'question', content: question }] } })
thread.output.then(({ messages }) => {
  draw(messages.map(text).filter(Boolean).join('\n'))
  return thread.close()
})
for await (const { messages } of thread.values) draw(messages.map(text).filter(Boolean).join('\n'))
