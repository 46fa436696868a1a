// Follows streams of a server with tti.js, and prints what it ends with.
import { pathToFileURL } from 'node:url'

const wait = globalThis.setTimeout
globalThis.setTimeout = (done, time, ...more) => wait(done, time / 10, ...more)  // pauses of tti.js are for networks, not for loopback

const [, , script, server, mode, ...workflows] = process.argv
const { subscribe, subscribeMany } = await import(pathToFileURL(script))
const plain = state => ({ run: state.run, items: [...state.items.values()], notes: state.notes, status: state.status })
const options = { silence: mode === 'silent' ? 1_000 : 200_000 }

async function one(workflow) {
  const seen = [], url = `${server}/${mode}/v1/workflows/${workflow}/events`
  const stream = subscribe(url, {
    ...options,
    onStatus: status => { if (seen.at(-1) !== status) seen.push(status) },
    onState: state => {
      if (mode === 'bug') throw new Error('a mistake of mine')
      if (mode === 'close') stream.close()
    },
  })
  try {
    return { state: plain(await stream.done), statuses: seen }
  } catch (error) {
    return { error: error.message, problem: error.problem ?? null, statuses: seen }
  }
}

async function many() {
  const ended = new Map(), problems = {}
  const stream = subscribeMany(`${server}/${mode.slice(5)}/v1/events`, workflows.slice(1), {
    ...options,
    onState: (state, workflow) => { if (state.status !== null) ended.set(workflow, plain(state)) },
    onProblem: (error, workflow) => { problems[workflow] = error.message },
  })
  stream.add(workflows[0])
  while (ended.size + Object.keys(problems).length < workflows.length) await new Promise(done => setTimeout(done, 5))
  stream.close()
  return { states: Object.fromEntries(ended), problems }
}

console.log(JSON.stringify(mode.startsWith('many-') ? await many() : await Promise.all(workflows.map(one))))
