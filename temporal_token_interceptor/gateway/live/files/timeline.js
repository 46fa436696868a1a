// A lane for each activity: its attempts, the calls in them, and where something is missing. Calls are placed by when they
// came to this page; of those that had ended before, only the attempt's start is known.

import { el, plain, span } from './dom.js'

const BARS = 200  // calls that a lane shows, the newest

export class Timeline {
  constructor(element) {
    this.element = element
    this.clear()
  }

  clear() {
    this.element.replaceChildren()
    this.lanes = new Map()  // by the place of an activity
    this.spans = new Map()  // by item: when it opened, had its first token, and closed
    this.gone = []
    this.begin = null
    this.isNew = true
  }

  update(state, events, now) {
    if (this.isNew || events.some(event => event.op === 'snapshot')) {
      for (const item of state.items.values()) if (item.kind === 'attempt') this.opened(item, Date.parse(item.data.started) || now)
      this.isNew = false
    }
    for (const event of events) {
      const item = state.items.get(event.id), times = this.spans.get(event.id) ?? this.spans.get(item?.parent)
      if (event.op === 'open' && event.kind === 'attempt' && item) this.opened(item, Date.parse(item.data.started) || now)
      else if (event.op === 'open' && event.kind === 'message' && item) this.opened(item, now)
      else if (event.op === 'grow' && times) times.first ??= now
      else if (event.op === 'close' && this.spans.has(event.id)) Object.assign(this.spans.get(event.id), { close: now, facts: event.data })
      else if (event.op === 'remove') for (const id of event.data) this.removed(id, now)
      else if (event.op === 'note' && event.data.gap) this.gone.push({ at: now, gap: event.data.gap, of: event.id })
    }
    this.draw(now)
  }

  opened(item, at) {
    if (this.spans.has(item.id)) return
    const lane = item.kind === 'attempt' ? item.stable.split('+')[0] : this.spans.get(item.parent)?.lane
    if (lane === undefined) return
    this.begin = Math.min(this.begin ?? at, at)
    this.spans.set(item.id, { item, lane, open: at })
    if (!this.lanes.has(lane)) {
      const bars = el('div', 'bars')
      bars.setAttribute('role', 'img')
      this.lanes.set(lane, { bars, name: `${item.data.type} #${item.data.activity}` })
      const row = el('div', 'lane', el('span', 'name', `${item.data.type} #${item.data.activity}`))
      row.append(bars)
      this.element.append(row)
    }
  }

  removed(id, now) {
    const times = this.spans.get(id)
    if (!times) return
    this.spans.delete(id)
    if (times.item.kind === 'attempt') this.gone.push({ ...times, close: now })
  }

  draw(now) {
    if (this.begin === null) return
    const whole = Math.max(now - this.begin, 1_000), place = at => Math.max(0, Math.min(100, 100 * (at - this.begin) / whole))
    for (const [lane, { bars, name }] of this.lanes) {
      const shown = [...this.gone, ...this.spans.values()].filter(one => one.lane === lane).slice(-BARS)
      const gaps = this.gone.filter(one => one.gap && (this.spans.get(one.of)?.lane ?? lane) === lane)
      const elements = shown.map(one => {
        const end = one.close ?? now, wasReplaced = this.gone.includes(one)
        const kind = one.item.kind, bar = el('i', `${kind}${wasReplaced ? ' replaced' : ''}`)
        bar.style.left = `${place(one.open)}%`
        bar.style.width = `${Math.max(place(end) - place(one.open), 0.4)}%`
        const first = one.first ? `, first token after ${span(one.first - one.open)}` : ''
        bar.title = plain(`${kind === 'attempt' ? `attempt ${one.item.data.attempt}` : one.item.data.node ?? 'call'}: ${span(end - one.open)}${first}`)
        return bar
      })
      for (const one of gaps) {
        const mark = el('i', 'gap')
        mark.style.left = `${place(one.at)}%`
        mark.title = plain(`missing: ${one.gap.reason}`)
        elements.push(mark)
      }
      bars.replaceChildren(...elements)
      const replaced = shown.filter(one => this.gone.includes(one)).length
      const calls = shown.filter(one => one.item.kind === 'message').length
      bars.setAttribute('aria-label', plain(`${name}: ${shown.length - calls} attempts, ${replaced} replaced, ${calls} calls, ${gaps.length} gaps`))
    }
  }
}
