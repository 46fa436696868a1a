// Vercel's AI SDK 7 (`npm install ai`): asks, and draws the answer again with each change.
import { DefaultChatTransport, readUIMessageStream } from 'ai'
import { ask, draw } from './terminal.mjs'

const { url, chat, question } = ask()
const transport = new DefaultChatTransport({ api: url + '/ai' })
const message = { id: 'question', role: 'user', parts: [{ type: 'text', text: question }] }
const stream = await transport.sendMessages({ chatId: chat, messages: [message], trigger: 'submit-message' })
for await (const answer of readUIMessageStream({ stream })) {
  draw(answer.parts.map(part => part.text ?? (part.toolName ? `[${part.toolName}]` : '')).join('\n'))
}
