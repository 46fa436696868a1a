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
  const ended = {}, problems = {}
  await new Promise(done => {
    const stream = subscribeMany(`${server}/v1/events`, [], {
      ...options,
      onState: (state, workflow) => {
        if (state.status !== null) ended[workflow] = plain(state)
        if (workflow === workflows[2]) stream.add(workflows[1])  // in the middle of it
        if (Object.keys(ended).length === workflows.length) { stream.close(); done() }
      },
      onProblem: (problem, workflow) => { problems[workflow] = problem.detail },
    })
    for (const workflow of [workflows[0], ...workflows.slice(2)]) stream.add(workflow)
    stream.add('999')
    stream.add('998')
    stream.remove('998')
  })
  return { states: ended, problems }
}

console.log(JSON.stringify(mode === 'many' ? await many() : await Promise.all(workflows.map(one))))
