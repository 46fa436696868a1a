// `WorkflowChatTransport` with AI SDK 6: its connection is lost in mid-answer, and it resumes by itself.
import { done, show, until } from './cases.mjs'

const { readUIMessageStream } = await import('ai')
const { WorkflowChatTransport } = await import('@workflow/ai')
const [url, thread] = process.argv.slice(2)
let requests = 0

// Lets a few chunks through, and then breaks the connection; once.
async function lossy(address, options) {
  const response = await fetch(address, options)
  show({ workflow: response.headers.get('x-workflow-run-id') ?? thread })
  if (requests++) return response
  let chunks = 0
  const cut = new TransformStream({
    transform(chunk, controller) {
      controller.enqueue(chunk)
      chunks += new TextDecoder().decode(chunk).split('text-delta').length - 1
      if (chunks >= 2) controller.error(new Error('the connection is lost'))
    },
  })
  return new Response(response.body.pipeThrough(cut), { status: response.status, headers: response.headers })
}

const transport = new WorkflowChatTransport({ api: url + '/ai6', fetch: lossy })
const message = { id: 'user', role: 'user', parts: [{ type: 'text', text: 'How many people live in Paris?' }] }
const stream = await transport.sendMessages({ chatId: thread, messages: [message], trigger: 'submit-message' })
let text = ''
for await (const one of readUIMessageStream({ stream })) {
  text = one.parts.map(part => part.text ?? '').join('')
  show({ text })
}
done({ done: text, resumed: requests - 1 })
