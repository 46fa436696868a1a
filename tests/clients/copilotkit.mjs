// CopilotKit's core, with the gateway in place of its runtime: runs an agent, and connects to it again.
import { done, show, until } from './cases.mjs'

globalThis.window ??= globalThis
const { CopilotKitCore } = await import('@copilotkit/core')
const [url, thread] = process.argv.slice(2)
const text = agent => agent.messages.filter(one => one.role === 'assistant').map(one => one.content ?? '').join('')

async function page() {
  const core = new CopilotKitCore({ runtimeUrl: url + '/agui', runtimeTransport: 'rest' })
  core.setRuntimeUrl(url + '/agui')
  await until(() => core.getAgent('workflow'), 'the agent')
  const agent = core.getAgent('workflow')
  agent.threadId = thread
  agent.subscribe({ onMessagesChanged: () => show({ text: text(agent) }) })
  return { core, agent }
}

const first = await page()
first.agent.addMessage({ id: 'user', role: 'user', content: 'How many people live in Paris?' })
first.core.runAgent({ agent: first.agent }).catch(() => {}) // which goes on: `abortRun` is Stop, and would cancel the workflow
await until(() => text(first.agent).includes('2.1'), 'the retry', 60)
const second = await page()
await second.core.connectAgent({ agent: second.agent })
done({ done: text(second.agent), resumed: 1 })
