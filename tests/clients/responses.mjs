// What OpenAI's helper has of a response after each case; and before its end, at each place that the case marks.
import { ResponseStream } from 'openai/lib/responses/ResponseStream'
import { cases, print } from './cases.mjs'

async function shown(events) {
  const encoder = new TextEncoder()
  const stream = new ReadableStream({
    start(controller) {
      events.forEach(event => controller.enqueue(encoder.encode(JSON.stringify(event) + '\n')))
      controller.close()
    },
  })
  let response, error
  try {
    response = await ResponseStream.fromReadableStream(stream).finalResponse()
  } catch (failed) {
    error = String(failed)
  }
  const of = type => (response?.output ?? []).filter(item => item.type === type)
  const text = item => item.content.map(part => part.text).join('')
  return {
    text: of('message').map(text),
    reasoning: of('reasoning').map(text),
    tool_call: of('function_call').map(item => item.arguments),
    status: response?.status,
    error,
  }
}

const answers = []
for (const { frames, marks } of cases()) {
  answers.push({ shown: await shown(frames), marked: await Promise.all(marks.map(at => shown(frames.slice(0, at)))) })
}
print(answers)
