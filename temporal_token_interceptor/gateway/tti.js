// Reads a stream of the gateway in a browser. No build, no dependency. Types: tti.d.ts.

export const empty = () => ({ items: new Map(), notes: [], status: null, run: '', cursor: null })

// Takes one event in and returns a new state; items that did not change stay the same objects.
export function fold(state, event) {
  const items = new Map(state.items), next = { ...state, items, cursor: event.cursor ?? state.cursor }
  const item = items.get(event.id), change = facts => { if (item) items.set(event.id, { ...item, ...facts }) }
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
      next.notes = state.notes.filter(note => !gone.has(note.id))
      break
    }
    case 'note':
      next.notes = [...state.notes.filter(note => note.at < event.at),
        { at: event.at, id: event.id ?? '', data: event.data }]
      break
    case 'run': next.run = event.data; break
    case 'end': next.status = event.data
  }
  return next
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
