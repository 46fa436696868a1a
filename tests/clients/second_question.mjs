// A second question in the same page and thread, whose workflow has the same id: of each client, what it shows then.
import { done, page, show, until } from './cases.mjs'

const [name, url, thread] = process.argv.slice(2)
const joined = parts => parts.map(part => part.text ?? part.content ?? '').join('')

// A page of React, whose hook returns what to ask with and the answers.
async function rendered(hook) {
  const document = await page(url)
  const { createElement } = (await import('react')).default
  const { createRoot } = await import('react-dom/client')
  const use = await hook()
  const now = {}
  createRoot(document.createElement('div')).render(createElement(() => {
    Object.assign(now, use())
    show({ answers: now.answers })
    return null
  }))
  await until(() => now.ask, 'a page')
  return now
}

// A page without React, of an agent of AG-UI: what it shows, and how it is asked.
function agentPage(agent, run) {
  const now = {
    answers: [],
    ask: question => {
      agent.addMessage({ role: 'user', ...question })
      return run(question)
    },
  }
  agent.subscribe({
    onMessagesChanged: () => {
      now.answers = agent.messages.filter(one => one.role === 'assistant').map(one => one.content ?? '')
      show({ answers: now.answers })
    },
  })
  return now
}

const clients = {
  langgraph: () => rendered(async () => {
    const { useStream } = await import('@langchain/react')
    return () => {
      const options = { assistantId: 'agent', apiUrl: url + '/langgraph', messagesKey: 'messages', threadId: thread }
      const stream = useStream(options)
      const answers = stream.messages.filter(one => one.type === 'ai')
      const text = ({ content }) => typeof content === 'string' ? content : joined(content)
      return { answers: answers.map(text), ask: question => stream.submit({ messages: [{ type: 'human', ...question }] }) }
    }
  }),
  ai_sdk: () => rendered(async () => {
    const { useChat } = await import('ai7-react')
    const { DefaultChatTransport } = await import('ai7')
    return () => {
      const chat = useChat({ id: thread, transport: new DefaultChatTransport({ api: url + '/ai' }) })
      const answers = chat.messages.filter(one => one.role === 'assistant')
      return { answers: answers.map(one => joined(one.parts)), ask: ({ content }) => chat.sendMessage({ text: content }) }
    }
  }),
  ag_ui: async () => {
    const { HttpAgent } = await import('agui1')
    const agent = new HttpAgent({ url: url + '/agui', threadId: thread })
    return agentPage(agent, question => agent.runAgent({ runId: question.id }))
  },
  copilotkit: async () => {
    globalThis.window ??= globalThis
    const { CopilotKitCore } = await import('@copilotkit/core')
    const core = new CopilotKitCore({ runtimeUrl: url + '/agui', runtimeTransport: 'rest' })
    core.setRuntimeUrl(url + '/agui')
    await until(() => core.getAgent('workflow'), 'the agent')
    const agent = core.getAgent('workflow')
    agent.threadId = thread
    return agentPage(agent, () => core.runAgent({ agent }))
  },
  tanstack: async () => {
    const { ChatClient, fetchServerSentEvents } = await import('@tanstack/ai-client')
    const now = { answers: [], ask: question => client.append({ role: 'user', ...question }) }
    const client = new ChatClient({
      threadId: thread,
      connection: fetchServerSentEvents(url + '/agui'),
      onMessagesChange: messages => {
        now.answers = messages.filter(one => one.role === 'assistant').map(one => joined(one.parts))
        show({ answers: now.answers })
      },
    })
    return now
  },
}

const now = await clients[name]()
for (const id of ['first', 'second']) {
  now.ask({ id, content: `the ${id} question` })
  await until(() => now.answers.at(-1) === `the right answer to the ${id}.`, `the answer to the ${id} in ${JSON.stringify(now.answers)}`)
  await new Promise(resolve => setTimeout(resolve, 300)) // its stream ends
}
done({ done: now.answers })
