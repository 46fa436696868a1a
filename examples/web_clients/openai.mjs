// OpenAI's SDK (`npm install openai`): a response in the background, whose stream is lost and taken up again.
import OpenAI from 'openai'
import { ask, draw } from './terminal.mjs'

const { url, chat, question } = ask()
const client = new OpenAI({ baseURL: url + '/openai/v1', apiKey: 'your own' })
const output = [] // by index; what a retry takes back is done again, and empty

function read(event) {
  if (event.type.endsWith('output_text.delta')) output[event.output_index] = (output[event.output_index] ?? '') + event.delta
  if (event.type === 'response.output_item.done') output[event.output_index] = event.item.content?.[0].text
  draw(output.filter(Boolean).join('\n'))
}

const body = { model: 'workflow', input: question, background: true, stream: true, id: chat }
let last, response
for await (const event of await client.responses.create(body)) {
  read(event)
  response ??= event.response
  last = event.sequence_number
  if (event.type.endsWith('output_text.delta')) break // the network is gone
}
for await (const event of await client.responses.retrieve(response.id, { stream: true, starting_after: last })) read(event)
