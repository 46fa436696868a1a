// What a chat of the AI SDK shows after each case, which has messages already: it asks a second question, adds what a
// tool of the page returned to its answer, or is a page that was reloaded and kept half of the answer.
import { cases, print } from './cases.mjs'

const [name, how] = process.argv.slice(2)
const { DefaultChatTransport } = await import(name)
const { Chat } = await import(name === 'ai7' ? 'ai7-react' : '@ai-sdk/react')

async function shown({ frames, messages }) {
  let error
  const text = frames.map(frame => `data: ${JSON.stringify(frame)}\n\n`).join('')
  const fetch = async () => new Response(text, { headers: { 'content-type': 'text/event-stream' } })
  const transport = new DefaultChatTransport({ api: 'http://gateway/ai', fetch })
  const chat = new Chat({ id: 'chat', messages, transport, onError: failed => { error = String(failed) } })
  if (how === 'question') await chat.sendMessage({ text: 'and?' })
  if (how === 'output') await chat.sendMessage()
  if (how === 'resume') await chat.resumeStream()
  const of = (parts, type) => parts.filter(part => part.type === type).map(part => part.text)
  const answers = chat.messages.filter(message => message.role === 'assistant')
  return {
    text: answers.map(message => of(message.parts, 'text')),
    reasoning: answers.map(message => of(message.parts, 'reasoning')),
    error,
  }
}

const answers = []
for (const one of cases()) answers.push({ shown: await shown(one), marked: [] })
print(answers)
