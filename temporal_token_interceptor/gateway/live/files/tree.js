// Attempts, calls, tools, nodes and sub-agents as a tree: one row each, moved through with the arrow keys.

import { endOf } from './conversation.js'
import { el, plain } from './dom.js'

const KINDS = new Set(['attempt', 'message', 'tool', 'node'])
const AT_ONCE = 600  // rows that are added to the page in one frame

export class Tree {
  constructor(element, onSelect) {
    this.element = element
    this.onSelect = onSelect
    element.onkeydown = event => this.move(event)
    element.onclick = ({ target }) => {
      const row = target.closest('[role=treeitem]')
      if (row) this.select(row)
    }
    this.clear()
  }

  clear() {
    this.element.replaceChildren()
    this.rows = new Map()  // by item
    this.tools = new Map()  // by attempt and tool call: where the calls of a sub-agent belong
    this.waiting = []
    this.isNew = true
  }

  get isBusy() { return this.waiting.length > 0 }

  update(state, events) {
    const isWhole = this.isNew || events.some(event => event.op === 'snapshot')
    for (const event of events) if (event.op === 'remove') for (const id of event.data) this.remove(id)
    if (isWhole) {
      for (const id of this.rows.keys()) if (!state.items.has(id)) this.remove(id)
      this.waiting = [...state.items.keys()]
    } else {
      const ids = events.filter(event => event.op === 'open' || event.op === 'close').map(event => event.id)
      this.waiting.push(...new Set(ids))
    }
    for (const id of this.waiting.splice(0, AT_ONCE)) {
      const item = state.items.get(id)
      if (item && KINDS.has(item.kind)) this.draw(item)
    }
    this.isNew = false
  }

  draw(item) {
    const row = this.rows.get(item.id) ?? this.added(item)
    const text = plain(nameOf(item))
    if (row.firstChild.textContent !== text) row.firstChild.textContent = text
    row.className = item.open ? 'open' : item.facts.error || item.facts.outcome === 'failed' ? 'failed' : 'ended'
  }

  added(item) {
    const caller = item.kind === 'message' && this.tools.get(`${item.parent} ${item.data.tool_call_id}`)
    const parent = this.rows.get(caller || item.parent)
    const row = el('li', '', el('span'))
    row.setAttribute('role', 'treeitem')
    row.tabIndex = this.rows.size ? -1 : 0
    row.dataset.item = item.id
    row.above = parent
    row.level = (parent?.level ?? 0) + 1
    row.setAttribute('aria-level', row.level)
    row.style.setProperty('--level', row.level)
    if (parent) tail(parent).after(row)
    else this.element.append(row)
    for (let one = parent; one; one = one.above) one.tail = row
    this.rows.set(item.id, row)
    if (item.kind === 'tool') this.tools.set(`${item.parent} ${item.data.tool_call_id}`, item.id)
    return row
  }

  remove(id) {
    const row = this.rows.get(id)
    if (!row) return
    const isFocused = row.tabIndex === 0
    for (let one = row.above; one; one = one.above) if (one.tail === row) one.tail = row.previousElementSibling
    row.remove()
    this.rows.delete(id)
    if (isFocused && this.element.firstElementChild) this.element.firstElementChild.tabIndex = 0
  }

  move(event) {
    const row = document.activeElement.closest('[role=treeitem]')
    if (!row) return
    const next = {
      ArrowDown: row.nextElementSibling,
      ArrowUp: row.previousElementSibling,
      ArrowLeft: row.above,
      ArrowRight: row.nextElementSibling?.above === row ? row.nextElementSibling : null,
      Home: this.element.firstElementChild,
      End: this.element.lastElementChild,
    }[event.key]
    if (event.key === 'Enter' || event.key === ' ') this.select(row)
    else if (next === undefined) return
    else if (next) this.focus(next)
    event.preventDefault()
  }

  focus(row) {
    const before = this.element.querySelector('[tabindex="0"]')
    if (before) before.tabIndex = -1
    row.tabIndex = 0
    row.focus()
  }

  select(row) {
    for (const one of this.element.querySelectorAll('[aria-selected=true]')) one.removeAttribute('aria-selected')
    row.setAttribute('aria-selected', 'true')
    this.focus(row)
    this.onSelect(row.dataset.item)
  }
}

const tail = row => row.tail?.isConnected ? row.tail : row

function nameOf(item) {
  const { data, kind } = item
  switch (kind) {
    case 'attempt': return `${data.type ?? 'activity'} #${data.activity} · attempt ${data.attempt}${endOf(item)}`
    case 'message': return `${data.agent ?? data.node ?? 'model'}${endOf(item)}`
    case 'tool': return `⚒ ${data.name}${endOf(item)}`
  }
  return `◇ ${data.node ?? 'node'}${endOf(item)}`
}
