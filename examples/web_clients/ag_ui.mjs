// AG-UI (`npm install @ag-ui/client`), which CopilotKit and others are built on: asks, and draws all messages.
import { HttpAgent } from '@ag-ui/client'
import { ask, draw } from './terminal.mjs'

const { url, chat, question } = ask()
const agent = new HttpAgent({ url: url + '/agui', threadId: chat })
agent.subscribe({
  onMessagesChanged: () => draw(agent.messages.map(message => message.content).filter(Boolean).join('\n')),
})
agent.addMessage({ id: 'question', role: 'user', content: question })
await agent.runAgent()
