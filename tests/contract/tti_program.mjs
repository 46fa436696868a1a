// `tti.js` as a program for the conformance suite: node tti_program.mjs PATH_OF_TTI_JS
// It subscribes to what the gateway would send, in pieces that cut events anywhere, and answers with its state.
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

const { subscribe } = await import(pathToFileURL(process.argv[2]))

for await (const line of createInterface({ input: process.stdin })) {
  const { body } = JSON.parse(line)
  const { status, items, notes, run } = await received(new TextEncoder().encode(body))
  console.log(JSON.stringify({ state: { run, items: [...items.values()], notes, status } }))
}

function received(bytes) {
  let at = 0
  const pull = controller => {
    if (at >= bytes.length) { // all was taken in: it asks for more
      subscription.close()
      return controller.error(new Error('closed')) // as `fetch` does with a connection that is left
    }
    const size = 1 + (at * 7919 + bytes.length) % 997
    controller.enqueue(bytes.subarray(at, at += size))
  }
  const answer = () => new Response(new ReadableStream({ pull }, { highWaterMark: 0 }),
    { headers: { 'content-type': 'text/event-stream' } })
  const subscription = subscribe('http://localhost/', { fetch: async () => answer() })
  return subscription.done
}
