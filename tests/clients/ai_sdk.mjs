// What the AI SDK makes of each case: of the whole stream, and at each place that the case marks.
import { cases, print } from './cases.mjs'

const { readUIMessageStream } = await import(process.argv[2])

async function shown(chunks) {
  let message, error
  const stream = new ReadableStream({
    start(controller) {
      chunks.forEach(chunk => controller.enqueue(chunk))
      controller.close()
    },
  })
  const messages = readUIMessageStream({ stream, terminateOnError: false, onError: e => { error = String(e) } })
  for await (const one of messages) message = structuredClone(one)
  const parts = message?.parts ?? []
  const calls = parts.filter(part => part.type === 'dynamic-tool')
  return {
    text: parts.filter(part => part.type === 'text').map(part => part.text),
    reasoning: parts.filter(part => part.type === 'reasoning').map(part => part.text),
    tool_call: calls.map(call => call.state === 'input-streaming' ? null : call.input ?? call.rawInput ?? null),
    results: calls.map(call => ({ 'output-available': String(call.output), 'output-error': 'error' })[call.state] ?? ''),
    gaps: parts.filter(part => part.type === 'data-gap').length,
    error,
  }
}

const answers = []
for (const { frames, marks } of cases()) {
  answers.push({ shown: await shown(frames), marked: await Promise.all(marks.map(at => shown(frames.slice(0, at)))) })
}
print(answers)
