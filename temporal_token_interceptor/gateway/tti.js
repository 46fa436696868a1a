// Reads streams of the gateway in a browser. No build, no dependency. Types, and what each option does: tti.d.ts.

export const empty = () => ({ items: new Map(), notes: [], status: null, run: '', cursor: null })

// Takes one event in, or several, and returns a new state; items that did not change stay the same objects.
export function fold(state, events) {
  const next = { ...state, items: new Map(state.items) }
  for (const event of [events].flat()) apply(next, event)
  return next
}

function apply(next, event) {
  const { items } = next, item = items.get(event.id)
  const change = facts => { if (item) items.set(event.id, { ...item, ...facts }) }
  next.cursor = event.cursor ?? next.cursor
  switch (event.op) {
    case 'snapshot':
      items.clear()
      for (const one of event.items) items.set(one.id, one)
      next.notes = event.notes; next.status = event.status; next.run = event.run
      break
    case 'open':
      if (item) change({ open: true, facts: {} })
      else if (!event.parent || items.has(event.parent))
        items.set(event.id, { id: event.id, kind: event.kind, parent: event.parent ?? '', stable: event.stable,
          data: event.data ?? {}, text: '', open: true, facts: {} })
      break
    case 'grow': change({ text: item?.text.slice(0, event.at) + event.data }); break
    case 'close': change({ open: false, facts: event.data ?? {} }); break
    case 'remove': {
      const gone = new Set(event.data)
      for (const id of gone) items.delete(id)
      next.notes = next.notes.filter(note => !gone.has(note.id))
      break
    }
    case 'note':
      next.notes = [...next.notes.filter(note => note.at < event.at),
        { at: event.at, id: event.id ?? '', data: event.data }]
      break
    case 'run': next.run = event.data; break
    case 'end': next.status = event.data
  }
}

// The model calls that stand, each with its text and reasoning.
export function messages(state) {
  const found = new Map()
  for (const item of state.items.values()) {
    if (item.kind === 'message') found.set(item.id, { ...item, text: '', reasoning: '', parts: [] })
    const message = found.get(item.parent)
    if (!message) continue
    message.parts.push(item)
    if (item.kind === 'text' || item.kind === 'reasoning') message[item.kind] += item.text
  }
  return [...found.values()]
}

// Attempts with their messages, tools and nodes as `children`, and these with theirs.
export function tree(state) {
  const nodes = new Map(), roots = []
  for (const item of state.items.values()) {
    const node = { ...item, children: [] }
    nodes.set(item.id, node);
    (nodes.get(item.parent)?.children ?? roots).push(node)
  }
  return roots
}

// Follows a workflow until it ends, over lost connections.
export function subscribe(url, options = {}) {
  const self = { state: options.state ?? empty() }
  const stream = follow(url, options, headers => {
    if (self.state.cursor) headers.set('last-event-id', self.state.cursor)
  }, events => {
    self.state = fold(self.state, events)
    for (const event of events) options.onChange?.(event)
    options.onState?.(self.state)
    if (self.state.status !== null) stream.close()
  })
  return Object.assign(self, { close: stream.close, done: stream.done.then(() => self.state) })
}

// Follows several workflows; `add` and `remove` change which. `url` is that of the gateway's `v1/events`.
export function subscribeMany(url, workflows, options = {}) {
  const streams = new Map(), states = new Map()
  const self = {
    states,
    add(workflow) {
      if (streams.has(workflow)) return
      const stream = subscribe(url.replace(/events$/, `workflows/${encodeURIComponent(workflow)}/events`), {
        ...options,
        onChange: event => options.onChange?.(event, workflow),
        onState: state => { states.set(workflow, state); options.onState?.(state, workflow) },
      })
      streams.set(workflow, stream)
      stream.done.catch(error => options.onProblem?.(error, workflow))
    },
    remove(workflow) {
      streams.get(workflow)?.close()
      streams.delete(workflow)
      states.delete(workflow)
    },
    close() { for (const stream of streams.values()) stream.close() },
  }
  for (const workflow of workflows) self.add(workflow)
  return self
}

// Connects again and again, until it is closed, or an answer comes that will not change.
function follow(url, options, request, take) {
  let turn, timer, isClosed = false, fails = 0
  const failed = (message, facts) => Object.assign(new Error(message), facts)
  const close = () => { isClosed = true; turn?.abort() }
  const alive = () => {
    clearTimeout(timer)
    timer = setTimeout(() => turn.abort(), options.silence ?? 45e3)
  }

  // One connection, to its end. Returns how long the server wants to be left alone, in milliseconds.
  async function connect() {
    turn = new AbortController()
    alive()
    const headers = new Headers(typeof options.headers === 'function' ? await options.headers() : options.headers)
    headers.set('accept', 'text/event-stream, application/problem+json')
    const init = { cache: 'no-store', signal: turn.signal, headers, ...request(headers) }
    const reply = await (options.fetch ?? fetch)(url, init)
    if (reply.status === 204) return close()
    if (!reply.ok) throw failed(`HTTP ${reply.status}`, {
      after: 1000 * reply.headers.get('retry-after') || 0,
      isFinal: reply.status < 500 && ![408, 425, 429].includes(reply.status),
      problem: await reply.json().catch(() => null),
    })
    if (!reply.headers.get('content-type')?.startsWith('text/event-stream'))
      throw failed('not an event stream', { isFinal: true })
    options.onStatus?.('open')
    for await (const events of batches(reply.body, alive)) {
      const last = events.at(-1), isBye = last.op === 'reconnect' || last.op === 'problem' && !last.workflow
      if (isBye) events.pop()
      if (events.length) {
        fails = 0
        try { take(events) } catch (cause) { throw failed('', { isFinal: true, cause }) }
      }
      if (isClosed) return
      if (last.op === 'reconnect') return last.after
      if (isBye) throw failed(last.detail, { isFinal: true, problem: last })
    }
  }

  async function run() {
    while (!isClosed) {
      let error
      const after = await connect().catch(reason => { error = reason; return reason.after }) ?? 0
      turn.abort()
      clearTimeout(timer)
      if (isClosed) break
      if (error?.isFinal) throw error.cause ?? error
      options.onStatus?.('waiting', error)
      const backoff = Math.min(250 * 2 ** fails++, 15e3) * (.5 + Math.random() / 2)
      turn = new AbortController()
      await new Promise(done => {
        timer = setTimeout(done, Math.max(after, backoff))
        turn.signal.onabort = done
      })
      clearTimeout(timer)
    }
  }
  const done = run().finally(() => options.onStatus?.('closed'))
  done.catch(() => {})  // who does not look at `done` gets no unhandled rejection
  return { close, done }
}

// Server-sent events as they come; those that come together are one batch, for which a page draws once.
async function* batches(body, alive) {
  const reader = body.getReader(), decoder = new TextDecoder()
  let rest = '', event = {}, json = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    alive()
    const lines = decoder.decode(value, { stream: true }).split('\n'), batch = []
    lines[0] = rest + lines[0]
    rest = lines.pop()
    for (const line of lines) {
      const [, name, text] = /^(data|event|id): ?(.*)/s.exec(line) ?? []
      if (name === 'data') json += text
      else if (name === 'event') event.op = text
      else if (name === 'id') event.cursor = text
      else if (!line) {
        if (json || event.cursor) batch.push({ ...json && JSON.parse(json), ...event })
        event = {}
        json = ''
      }
    }
    if (batch[0]) yield batch
  }
}
