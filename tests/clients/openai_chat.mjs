// OpenAI's SDK: chat completions, streamed, and in one piece by another page.
import { done, show } from './cases.mjs'

const { default: OpenAI } = await import('openai')
const [url, thread] = process.argv.slice(2)
const client = new OpenAI({ baseURL: url + '/openai/v1', apiKey: 'none', maxRetries: 0 })
const asked = { model: 'workflow', messages: [{ role: 'user', content: 'How many people live in Paris?' }], id: thread }

let text = ''
const streaming = await client.chat.completions.create({ ...asked, stream: true })
show({ workflow: thread })
for await (const chunk of streaming) {
  text += chunk.choices[0]?.delta.content ?? ''
  show({ text })
}
const again = await client.chat.completions.create(asked, { query: { workflow: thread } })
if (again.choices[0].message.content !== text) throw new Error(JSON.stringify(again))
done({ done: text, resumed: 1 })
