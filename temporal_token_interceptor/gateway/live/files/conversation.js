// What the models wrote, as it stands: attempts, their calls and tools. What is taken back is struck out, then gone.

import { TextBox, count, el, plain } from './dom.js'

const STRUCK = 600  // milliseconds for which a text that is taken back is still there, struck out
const AT_ONCE = 300  // items that are added to the page in one frame

export class Conversation {
  constructor(element, announce) {
    this.element = element
    this.announce = announce
    this.clear()
  }

  clear() {
    this.element.replaceChildren()
    this.views = new Map()  // by item
    this.notes = []
    this.waiting = []  // items that are still to be added
    this.isNew = true
  }

  get isBusy() { return this.waiting.length > 0 }

  // Draws what events changed; all of the state, if it was replaced.
  update(state, events) {
    const isWhole = this.isNew || events.some(event => event.op === 'snapshot')
    const touched = new Map()  // item -> whether its text was written again from some place
    for (const event of events) {
      if (event.op === 'remove') this.retract(event, state)
      if (event.op === 'grow' && (this.views.get(event.id)?.box?.shown ?? 0) > event.at) touched.set(event.id, true)
      else if (event.id && event.op !== 'note' && !touched.has(event.id)) touched.set(event.id, false)
    }
    if (isWhole) {
      for (const [id, view] of this.views) if (!state.items.has(id)) this.drop(id, view)
      this.waiting = [...state.items.values()].filter(item => !this.shows(item))
    } else {
      const waits = new Set(this.waiting.map(item => item.id))
      for (const id of touched.keys()) if (!waits.has(id) && state.items.has(id)) this.waiting.push(state.items.get(id))
    }
    for (const { id } of this.waiting.splice(0, AT_ONCE)) {
      const item = state.items.get(id)
      if (item) this.draw(item, touched.get(id) || isWhole && !this.isNew)
    }
    if (isWhole || events.some(event => event.op === 'note' || event.op === 'remove')) this.drawNotes(state, isWhole)
    this.isNew = false
  }

  shows(item) {
    const before = this.views.get(item.id)?.item
    return before && before.open === item.open && before.text === item.text
  }

  draw(item, isRewritten) {
    let view = this.views.get(item.id)
    if (!view) {
      const parent = this.views.get(item.parent)
      if (item.parent && !parent) return
      view = this.made(item)
      if (!view) return
      ;(parent?.body ?? this.element).append(view.element)
      this.views.set(item.id, view)
    }
    view.item = item
    view.box?.show(item.text, isRewritten)
    view.element.classList.toggle('open', item.open)
    this.describe(view, item)
  }

  made(item) {
    switch (item.kind) {
      case 'attempt': return titled('section', item, el('h3'))
      case 'message': return titled('article', item, el('h4'))
      case 'tool': return titled('div', item, el('span', 'title'))
      case 'text': return boxed('div', item)
      case 'tool_call': return boxed('pre', item, el('b', '', item.data.name ?? 'a tool', ' '))
      case 'reasoning': {
        const view = boxed('div', item), title = el('summary'), element = el('details', 'reasoning')
        element.append(title, view.element)
        element.id = item.id
        view.element.removeAttribute('id')
        return { ...view, element, title }
      }
      case 'block': return { element: el('div', 'block', `a block: ${item.data.type ?? 'unknown'}`) }
    }
    return null  // nodes of graphs are in the tree
  }

  describe(view, item) {
    const { data, facts } = item
    const set = text => { if (view.title.textContent !== plain(text)) view.title.textContent = plain(text) }
    const end = endOf(item)
    view.element.classList.toggle('failed', Boolean(facts.error || facts.outcome === 'failed'))
    switch (item.kind) {
      case 'attempt':
        set(`${data.type ?? 'activity'} #${data.activity}, attempt ${data.attempt}${end}`)
        break
      case 'message':
        set(`${data.agent ?? data.node ?? 'model'}${data.model ? ` · ${data.model}` : ''}${end}${usage(facts.usage)}`)
        if (!item.open && !view.isAnnounced && !this.isNew) {
          view.isAnnounced = true
          const text = view.body.textContent.slice(0, 300)
          if (text) this.announce(`${data.node ?? 'model'}: ${text}`)
        }
        break
      case 'tool': {
        set(`tool ${data.name}${item.open ? ' runs' : end || ' has ended'}`)
        const result = facts.output
        if (result !== undefined && !view.result) {
          view.result = new TextBox('pre')
          view.result.show(typeof result === 'string' ? result : JSON.stringify(result, null, 1))
          view.body.append(view.result.element)
        }
        break
      }
      case 'reasoning': set(`reasoning (${count(item.text.length, 'character')})`)
    }
  }

  // Strikes out what is taken back, and removes it a moment later; a line stays in its place.
  retract({ data, by }, state) {
    const gone = new Set(data), tops = data.filter(id => !gone.has(this.views.get(id)?.item?.parent))
    for (const id of tops) {
      const view = this.views.get(id)
      if (!view) continue
      const length = data.reduce((sum, one) => sum + (this.views.get(one)?.box?.text.length ?? 0), 0)
      const why = by?.error ? `a call failed (${by.error})`
        : `${attemptOf(view.item)} was replaced${newer(by, state)}`
      const line = el('p', 'note taken-back', `↺ ${why}: ${count(length, 'character')} taken back`)
      view.element.before(line)
      view.element.classList.add('gone')
      view.element.setAttribute('aria-hidden', 'true')
      setTimeout(() => view.element.remove(), STRUCK)
      this.announce(line.textContent)
    }
    for (const id of data) this.views.delete(id)
  }

  drop(id, view) {
    view.element.remove()
    this.views.delete(id)
  }

  drawNotes(state, isWhole) {
    if (isWhole) for (const { element } of this.notes.splice(0)) element.remove()
    this.notes = this.notes.filter(({ note, element }) => state.notes.includes(note) || element.remove())
    const last = this.notes.at(-1)?.note.at ?? -1
    for (const note of state.notes) if (note.at > last) {
      const element = noteElement(note)
      ;(this.views.get(note.id)?.body ?? this.element).append(element)
      this.notes.push({ note, element })
    }
  }
}

function titled(tag, item, title) {
  const element = el(tag, item.kind), body = el('div', 'body')
  element.id = item.id
  element.tabIndex = -1
  element.append(title, body)
  return { element, title, body }
}

function boxed(tag, item, ...before) {
  const element = el(tag, item.kind, ...before), box = new TextBox(tag === 'pre' ? 'span' : 'div')
  element.id = item.id
  element.append(box.element)
  return { element, box }
}

function noteElement({ data }) {
  if (data.gap) {
    const { missing, reason } = data.gap
    return el('p', 'note gap', `┊ ${missing ? count(missing, 'token') : 'something'} missing here: ${reason}`)
  }
  const [kind] = Object.keys(data), box = new TextBox('pre'), element = el('details', 'note')
  element.append(el('summary', '', kind === 'custom' ? `event ${data.custom.name ?? ''}` : `graph: ${data.graph?.mode ?? kind}`))
  element.ontoggle = () => box.show(JSON.stringify(data[kind].data, null, 1) ?? '')
  element.append(box.element)
  return element
}

export const attemptOf = item => `attempt ${item.data.attempt ?? '?'} of ${item.data.type ?? item.data.node ?? 'a call'}`

function newer(by, state) {
  const next = state.items.get(`a:${by?.superseded_by}`)
  return next ? ` by attempt ${next.data.attempt}` : ''
}

export function endOf({ open, kind, facts }) {
  if (open) return ''
  if (facts.error) return `: failed, ${facts.error}`
  if (facts.outcome) {
    const retry = facts.will_retry ? ', Temporal tries again' : ''
    return facts.outcome === 'completed' ? '' : `: ${facts.outcome}${retry}`
  }
  return facts.unfinished ? ': unfinished' : kind === 'tool' && facts.interrupted ? ': interrupted' : ''
}

const usage = facts => facts?.total_tokens ? ` · ${count(facts.total_tokens, 'token')}` : ''
