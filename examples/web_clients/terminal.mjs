// What the clients in this folder share: what they ask, and a screen that is drawn again with each change.
import { randomUUID } from 'node:crypto'

export function ask() {
  const [question = 'When does the ferry leave? And die, once.', url = 'http://127.0.0.1:8000'] = process.argv.slice(2)
  return { url, question, chat: `chat-${randomUUID()}` }
}

let drawn
export function draw(text) {
  if (text === drawn) return
  if (process.stdout.isTTY) console.clear()
  console.log(process.stdout.isTTY ? text : JSON.stringify(text))
  drawn = text
}
