// The cases of a corpus come in by standard input, and what a client made of them goes out as one line of JSON.
import { readFileSync } from 'node:fs'

console.log = console.warn = console.error = console.debug = () => {} // clients talk, too

export const cases = () => JSON.parse(readFileSync(0, 'utf8'))
export const print = answers => process.stdout.write(JSON.stringify(answers), () => process.exit(0))

// A page to render in, for clients that are hooks of React. To be called before they are imported.
export async function page(url) {
  const { JSDOM } = await import('jsdom')
  const { window } = new JSDOM('<div id=root></div>', { url })
  for (const name of ['document', 'HTMLElement', 'Node']) globalThis[name] = window[name]
  globalThis.window = window
  Object.defineProperty(globalThis, 'navigator', { value: window.navigator, configurable: true })
  return window.document
}

export async function until(isTrue, what, seconds = 20) {
  const deadline = Date.now() + 1000 * seconds
  while (!await isTrue()) {
    if (Date.now() > deadline) throw new Error(`${what} did not happen within ${seconds} s`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

// What a client shows goes out at once, a line for each change; it is followed by the test that runs the script.
let last
export function show(value) {
  const text = JSON.stringify(value)
  if (text !== last) process.stdout.write(text + '\n')
  last = text
}
export const done = value => process.stdout.write(JSON.stringify(value) + '\n', () => process.exit(0))
