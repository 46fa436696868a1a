// The runs: those that the server lists, and those that the address names. A link each.

import { el, plain, span } from './dom.js'

const SIGN = { running: '●', completed: '○', failed: '✕', terminated: '✕', timed_out: '✕', canceled: '◌' }

export class Runs {
  constructor(element, filter, linkTo) {
    this.element = element
    this.filter = filter
    this.linkTo = linkTo
    this.rows = new Map()  // by workflow
    filter.oninput = () => this.sift()
  }

  // Adds rows, or changes them. `run` has what is known: type, status, started.
  show(workflow, run = {}) {
    let row = this.rows.get(workflow)
    if (!row) {
      const link = el('a', '', el('span', 'sign'), el('span', 'name', workflow), el('span', 'about'))
      link.href = this.linkTo(workflow)
      link.dataset.workflow = workflow
      row = { element: el('li', '', link), link, run: {}, workflow }
      this.rows.set(workflow, row)
      this.element.append(row.element)
    }
    Object.assign(row.run, run)
    this.draw(row)
  }

  draw({ element, link, run, workflow }) {
    const [sign, , about] = link.children, status = run.status ?? 'running'
    sign.textContent = SIGN[status] ?? '●'
    element.className = status
    const time = run.started ? span((Date.parse(run.closed) || Date.now()) - Date.parse(run.started)) : ''
    about.textContent = plain([status === 'running' ? '' : status, time, run.note].filter(Boolean).join(', '))
    link.title = plain([workflow, run.type].filter(Boolean).join(', '))
    element.hidden = !`${workflow} ${run.type ?? ''} ${status}`.toLowerCase().includes(this.filter.value.toLowerCase())
  }

  sift() { for (const row of this.rows.values()) this.draw(row) }

  mark(selected) {
    for (const { link, workflow } of this.rows.values())
      if (workflow === selected) link.setAttribute('aria-current', 'page')
      else link.removeAttribute('aria-current')
  }

  get running() {
    return [...this.rows.values()].filter(row => (row.run.status ?? 'running') === 'running').map(row => row.workflow)
  }
}
