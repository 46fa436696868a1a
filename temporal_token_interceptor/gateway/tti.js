// Reads streams of the gateway. Types and options: tti.d.ts.

export const empty = () => ({ items: new Map(), notes: [], status: null, run: '', cursor: null })

// The state after an event, or several; items that did not change stay the same objects.
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

// Attempts, with what belongs to them as `children`.
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
    return {}
  }, events => {
    self.state = fold(self.state, events)
    for (const event of events) options.onChange?.(event)
    options.onState?.(self.state)
    if (self.state.status !== null) stream.close()
  })
  return Object.assign(self, stream, { done: stream.done.then(() => self.state) })
}

// Follows several workflows on one connection.
export function subscribeMany(url, workflows, options = {}) {
  const states = new Map(), open = new Set(workflows)
  let order
  const stream = follow(url, options, headers => {
    const wanted = Object.fromEntries([...open].map(id => [id, { cursor: states.get(id)?.cursor }]))
    order = Object.keys(wanted)
    headers.set('content-type', 'application/json')
    return order[0] && { method: 'POST', body: JSON.stringify({ workflows: wanted }) }
  }, events => {
    const found = new Map(order.map(id => [id, []]))
    for (const event of events) {
      if (event.workflow) found.get(event.workflow).push(event)
      else event.cursor?.split(';').forEach((cursor, at) => cursor && found.get(order[at]).push({ cursor }))
    }
    for (const [id, some] of found) {
      if (!some[0] || !open.has(id)) continue
      const state = fold(states.get(id) ?? empty(), some)
      states.set(id, state)
      if (state.status !== null) open.delete(id)
      for (const event of some) {
        options.onChange?.(event, id)
        if (event.op === 'problem') { open.delete(id); options.onProblem?.(event, id) }
      }
      options.onState?.(state, id)
    }
  })
  return {
    ...stream,
    states,
    add(id) { if (!open.has(id)) { open.add(id); stream.again() } },
    remove(id) { states.delete(id); if (open.delete(id)) stream.again() },
  }
}

// Connects again and again, until `close`, or an answer that will not change.
function follow(url, options, request, take) {
  let turn, timer, isClosed, isAsked, fails = 0
  const failed = (message, facts) => Object.assign(new Error(message), facts)
  const close = () => { isClosed = true; turn.abort() }
  const again = () => { isAsked = true; turn.abort() }
  const at = (time, done) => { clearTimeout(timer); timer = setTimeout(done, time) }
  const alive = () => at(options.silence ?? 45e3, () => turn.abort())

  // One connection, to its end. Returns how many milliseconds to wait.
  async function connect() {
    turn = new AbortController()
    isAsked = false
    alive()
    const headers = new Headers(typeof options.headers === 'function' ? await options.headers() : options.headers)
    headers.set('accept', 'text/event-stream, application/problem+json')
    const init = request(headers)
    if (!init) return 1e9  // until `again`
    const reply = await (options.fetch ?? fetch)(url, { cache: 'no-store', signal: turn.signal, headers, ...init })
    if (reply.status === 204) return close()
    if (!reply.ok) throw failed(`HTTP ${reply.status}`, {
      after: 1000 * reply.headers.get('retry-after') || 0,
      isFinal: /^4(?!08|25|29)/.test(reply.status),
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
        try { take(events) } catch (cause) { throw { isFinal: true, cause } }
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
      if (isClosed) break
      if (error?.isFinal) throw error.cause ?? error
      options.onStatus?.(after < 1e9 ? 'waiting' : 'closed', error)
      const backoff = Math.min(250 * 2 ** fails++, 15e3) * (.5 + Math.random() / 2)
      turn = new AbortController()
      await new Promise(done => {
        at(isAsked ? 50 : Math.max(after, backoff), done)
        turn.signal.onabort = done
      })
    }
  }
  const done = run().finally(() => { clearTimeout(timer); options.onStatus?.('closed') })
  done.catch(() => {})
  return { close, again, done }
}

// Server-sent events; those that come together are one batch.
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
