// TanStack AI's client, asked once: what it shows at the end of the answer.
import { ChatClient } from '@tanstack/ai-client'

export async function shownOver(connection) {
  let messages = [], error
  const client = new ChatClient({
    connection,
    onMessagesChange: now => { messages = now },
    onError: failed => { error = String(failed) },
  })
  await client.append({ id: 'user', role: 'user', content: 'hi' }).catch(failed => { error = String(failed) })
  await new Promise(resolve => setTimeout(resolve, 2))
  const parts = messages.filter(message => message.role !== 'user').flatMap(message => message.parts)
  return {
    text: parts.filter(part => part.type === 'text').map(part => part.content),
    reasoning: parts.filter(part => part.type === 'thinking').map(part => part.content),
    tool_call: parts.filter(part => part.type === 'tool-call').map(part => part.arguments ?? ''),
    error,
  }
}
