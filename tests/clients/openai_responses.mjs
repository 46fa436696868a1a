// OpenAI's SDK: a response in the background, whose stream is lost in mid-answer and retrieved from there on.
import { done, show } from './cases.mjs'

const { default: OpenAI } = await import('openai')
const { ResponseStream } = await import('openai/lib/responses/ResponseStream')
const [url] = process.argv.slice(2)
const client = new OpenAI({ baseURL: url + '/openai/v1', apiKey: 'none', maxRetries: 0 })
const events = []
const texts = new Map()

function read(event) {
  events.push(event)
  if (event.type === 'response.output_text.delta') {
    texts.set(event.output_index, (texts.get(event.output_index) ?? '') + event.delta)
  }
  if (event.type === 'response.output_item.done') texts.set(event.output_index, event.item.content[0].text)
  show({ text: [...texts.values()].join('') })
}

const first = await client.responses.create({ model: 'workflow', input: 'How many?', background: true, stream: true })
for await (const event of first) {
  read(event)
  if ([...texts.values()].join('').includes('2.1')) break // the connection is closed by that
}
const [{ response }] = events
const rest = await client.responses.retrieve(response.id, { stream: true, starting_after: events.at(-1).sequence_number })
for await (const event of rest) read(event)

// The helper has the same of all events, and so has a client that asks for the response alone.
const lines = new ReadableStream({
  start(controller) {
    events.forEach(event => controller.enqueue(new TextEncoder().encode(JSON.stringify(event) + '\n')))
    controller.close()
  },
})
const whole = await ResponseStream.fromReadableStream(lines).finalResponse()
const found = await client.responses.retrieve(response.id)
const text = [whole, found].map(one => one.output.map(item => item.content[0].text).join(''))
if (text[0] !== text[1] || found.status !== 'completed') throw new Error(JSON.stringify([text, found]))
done({ done: text[0], resumed: 1 })
