// What an AG-UI agent has after each case, and at each place that the case marks.
import { Observable } from 'rxjs'
import { cases, print } from './cases.mjs'

const { AbstractAgent } = await import(process.argv[2])

class Replay extends AbstractAgent {
  constructor(events, messages) {
    super({ threadId: 'thread', initialMessages: messages })
    this.events = events
  }
  run() {
    return new Observable(observer => {
      this.events.forEach(event => observer.next(event))
      observer.complete()
    })
  }
}

async function shown(events, messages) {
  let error
  const agent = new Replay(structuredClone(events), structuredClone(messages))
  try {
    await agent.runAgent({ runId: 'run' }, { onRunFailed: failed => { error = String(failed.error) } })
  } catch (failed) {
    error = String(failed)
  }
  const of = role => agent.messages.filter(message => message.role === role)
  return {
    text: of('assistant').filter(message => message.content !== undefined && !message.toolCalls)
      .map(message => message.content),
    reasoning: of('reasoning').map(message => message.content),
    tool_call: of('assistant').flatMap(message => message.toolCalls ?? []).map(call => call.function.arguments),
    results: of('tool').map(message => message.content),
    users: of('user').map(message => message.content),
    error,
  }
}

const answers = []
for (const { frames, messages, marks } of cases()) {
  const marked = []
  for (const at of marks) marked.push(await shown(frames.slice(0, at), messages))
  answers.push({ shown: await shown(frames, messages), marked })
}
print(answers)
