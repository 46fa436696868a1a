// `HttpAgent` of AG-UI 1.0: is run, is aborted in mid-answer, and run again with what it has.
import { done, show, until } from './cases.mjs'

const { HttpAgent } = await import('agui1')
const [url, thread] = process.argv.slice(2)
const text = agent => agent.messages.filter(one => one.role === 'assistant').map(one => one.content ?? '').join('')

const agent = new HttpAgent({ url: url + '/agui', threadId: thread })
agent.subscribe({ onMessagesChanged: () => show({ text: text(agent) }) })
agent.addMessage({ id: 'user', role: 'user', content: 'How many people live in Paris?' })
const running = agent.runAgent({ runId: 'first' }).catch(() => {})
await until(() => text(agent).includes('2.1'), 'the retry', 60)
agent.abortRun()
await running
const again = new HttpAgent({ url: `${url}/agui?workflow=${thread}`, threadId: thread, initialMessages: agent.messages })
again.subscribe({ onMessagesChanged: () => show({ text: text(again) }) })
await again.runAgent({ runId: 'second' })
if (again.messages[0].id !== 'user') throw new Error(JSON.stringify(again.messages))
done({ done: text(again), resumed: 1 })
