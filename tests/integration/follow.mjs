// Many pages follow one workflow with tti.js. Prints a line when all have read something, one when all have come
// back, and at the end, as JSON, what each has.
import { pathToFileURL } from 'node:url'

const [, , script, url, count] = process.argv
const { messages, subscribe } = await import(pathToFileURL(script))
const wait = globalThis.setTimeout
globalThis.setTimeout = (done, time, ...more) => wait(done, time / 10, ...more)  // up to 5 s until it comes again

const pages = Array.from({ length: +count }, () => ({ opened: 0, text: '' }))
const reported = new Set()
function report(name, isTrue) {
  if (reported.has(name) || !pages.every(isTrue)) return
  reported.add(name)
  console.log(name)
}

async function follow(page) {
  const stream = subscribe(url, {
    silence: 200_000,
    onStatus: status => { if (status === 'open') page.opened += 1 },
    onChange: event => {
      // Appended and not placed by `at`: what came twice, or not at all, shows.
      if (event.op === 'grow') page.text += event.data
      if (event.op === 'snapshot') page.text = event.items.map(item => item.text).join('')
      report('reading', one => one.text)
      report('again', one => one.opened > 1 && one.text)
    },
  })
  const state = await stream.done
  return { ...page, folded: messages(state).map(message => message.text).join(''), status: state.status }
}
console.log(JSON.stringify(await Promise.all(pages.map(follow))))
