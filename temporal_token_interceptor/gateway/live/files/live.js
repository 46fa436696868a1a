// The live page: which run is shown, and one connection for all runs that are followed.

import { subscribeMany } from '../tti.js'
import { Conversation } from './conversation.js'
import { $, plain, span } from './dom.js'
import { Runs } from './runs.js'
import { Timeline } from './timeline.js'
import { Tree } from './tree.js'

const FOLLOWED = 20  // runs at once; those that the address names come first
const LOST = 1_500  // milliseconds after which a connection that is made again is shown as lost
const SILENT = 3_000  // milliseconds after which silence is shown
const MOST_EVENTS = 5_000  // that wait to be drawn, in a tab that nothing draws

const root = new URL('..', import.meta.url)  // of the gateway
const base = `${root.pathname}live/`
const facts = document.documentElement.dataset
const token = new URLSearchParams(location.search).get('token')
const query = token ? `?token=${encodeURIComponent(token)}` : ''

const announce = text => { $('#announcements').textContent = plain(text) }
const conversation = new Conversation($('#conversation'), announce)
const timeline = new Timeline($('#timeline'))
const tree = new Tree($('#tree'), show)
const runs = new Runs($('#runs'), $('#filter'), workflow => `${base}${encodeURIComponent(workflow)}${location.search}`)

let selected = null, isAsked = false, isLost = 0
const named = new URLSearchParams(location.search).getAll('workflow')
const states = new Map(), waiting = new Map(), touched = new Map(), problems = new Map(), followed = new Set()

const many = subscribeMany(new URL(`v1/events${query}`, root).href, [], {
  onChange(event, workflow) {
    const events = waiting.get(workflow) ?? []
    if (events.push(event) > MOST_EVENTS) events.splice(0, Infinity, { op: 'snapshot' })
    waiting.set(workflow, events)
    if (event.op === 'open' || event.op === 'grow' || event.op === 'close') touched.set(workflow, Date.now())
    if (event.op === 'snapshot' && !touched.has(workflow)) touched.set(workflow, Date.now())
  },
  onState(state, workflow) {
    states.set(workflow, state)
    draw()
  },
  onStatus(status) {
    isLost = status === 'waiting' ? isLost || Date.now() : 0
    draw()
  },
  onProblem(problem, workflow) {
    problems.set(workflow, problem.detail)
    draw()
  },
})
let refused = null
many.done.catch(error => {
  refused = error.problem?.detail ?? error.message
  draw()
})

// ------------------------------------------------------------------ drawing: once a frame, what has changed

function draw() {
  if (isAsked) return
  isAsked = true
  // A tab in the background has no frames.
  if (document.hidden) setTimeout(drawFrame, 250)
  else requestAnimationFrame(drawFrame)
}

function drawFrame() {
  isAsked = false
  const events = waiting.get(selected) ?? [], state = states.get(selected), isLast = atEnd()
  for (const workflow of waiting.keys()) note(workflow)
  waiting.clear()
  if (state) {
    conversation.update(state, events)
    tree.update(state, events)
    timeline.update(state, events, Date.now())
    if (isLast) toEnd()
  }
  drawHead(state)
  if (conversation.isBusy || tree.isBusy) draw()
  else if (state && location.hash) goTo(decodeURIComponent(location.hash.slice(1)))
}

function note(workflow) {
  const state = states.get(workflow)
  if (!state) return
  const attempts = [...state.items.values()].filter(item => item.kind === 'attempt')
  const last = Math.max(0, ...attempts.map(item => item.data.attempt))
  const run = { note: last > 1 ? `attempt ${last}` : '' }
  if (state.status !== null) run.status = state.status
  if (attempts[0]) run.started = runs.rows.get(workflow)?.run.started ?? attempts[0].data.started
  runs.show(workflow, run)
}

function drawHead(state) {
  const run = runs.rows.get(selected)?.run ?? {}, status = state?.status ?? run.status ?? 'running'
  const isOver = state ? state.status !== null : false
  $('#name').textContent = plain(selected ?? 'No run is chosen')
  $('#status').textContent = selected ? status : ''
  $('#status').className = status
  $('#elapsed').textContent = run.started && !isOver ? span(Date.now() - Date.parse(run.started)) : ''
  const lost = isLost && Date.now() - isLost > LOST ? 'The connection is lost; trying again …' : ''
  $('#problem').textContent = plain(problems.get(selected) ?? refused ?? lost)
  $('#stop').hidden = !facts.stop || !selected || isOver
  $('#copy').hidden = !state
  $('#silence').textContent = selected && !isOver && !problems.has(selected) ? silence(state) : ''
}

function silence(state) {
  const since = Date.now() - (touched.get(selected) ?? opened)
  if (since < SILENT) return ''
  const attempt = state && [...state.items.values()].findLast(item => item.kind === 'attempt' && item.open)
  return `no token for ${span(since)}${attempt ? ` (attempt ${attempt.data.attempt})` : ', and no activity streams'}`
}

const opened = Date.now()
const view = $('#conversation')
const atEnd = () => view.scrollHeight - view.scrollTop - view.clientHeight < 80
const toEnd = () => { view.scrollTop = view.scrollHeight }

// ------------------------------------------------------------------ choosing

function choose(workflow) {
  if (workflow === selected) return
  selected = workflow
  conversation.clear()
  tree.clear()
  timeline.clear()
  document.title = plain(workflow ? `${workflow} · live` : 'live')
  if (workflow) runs.show(workflow)
  runs.mark(workflow)
  follow()
  draw()
}

// The chosen run, those that the address names, and of the others the first that run.
function follow() {
  const every = new Set([...(selected ? [selected] : []), ...named, ...runs.running])
  const wanted = new Set([...every].slice(0, FOLLOWED))
  for (const workflow of followed) if (!wanted.has(workflow) && states.get(workflow)?.status == null) {
    followed.delete(workflow)
    many.remove(workflow)
    states.delete(workflow)
  }
  for (const workflow of wanted) if (!followed.has(workflow)) {
    followed.add(workflow)
    many.add(workflow)
  }
}

function fromAddress() {
  const path = location.pathname.startsWith(base) ? location.pathname.slice(base.length) : ''
  choose(path ? decodeURIComponent(path) : named[0] ?? null)
}

function show(item) {
  history.replaceState(null, '', `#${encodeURIComponent(item)}`)
  goTo(item)
}

let wentTo = ''
function goTo(item) {
  const element = document.getElementById(item)
  if (!element || wentTo === item && element !== document.activeElement) return
  wentTo = item
  element.scrollIntoView({ block: 'nearest' })
  element.focus({ preventScroll: true })
}

document.addEventListener('click', event => {
  const link = event.target.closest?.('a[data-workflow]')
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return
  event.preventDefault()
  history.pushState(null, '', link.href)
  choose(link.dataset.workflow)
})
addEventListener('popstate', fromAddress)

// ------------------------------------------------------------------ the server's list, Stop, the cursor

async function list() {
  if (facts.runs) {
    try {
      const reply = await fetch(new URL(`v1/workflows${query}`, root), { cache: 'no-store' })
      if (reply.ok) {
        const listed = (await reply.json()).runs
        for (const run of listed) runs.show(run.workflow, run)
        if (listed[0] && !selected) choose(listed[0].workflow)
      }
      follow()
    } catch { /* the server is away; the connection reports it */ }
  }
  setTimeout(list, 5_000)
}

$('#stop').onclick = async () => {
  const stop = $('#stop'), workflow = selected
  stop.disabled = true
  const where = new URL(`v1/workflows/${encodeURIComponent(workflow)}/cancel${query}`, root)
  const reply = await fetch(where, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' })
    .catch(() => null)
  stop.disabled = false
  announce(reply?.ok ? 'Asked to stop.' : 'It could not be stopped.')
  if (!reply?.ok) $('#problem').textContent = `${plain(workflow)} could not be stopped.`
}

$('#copy').onclick = async () => {
  const cursor = states.get(selected)?.cursor ?? ''
  const isCopied = await navigator.clipboard?.writeText(cursor).then(() => true, () => false)
  announce(isCopied ? 'The cursor is copied.' : `The cursor is ${cursor}`)
}

setInterval(() => { runs.sift(); draw() }, 1_000)
for (const workflow of named) runs.show(workflow)
fromAddress()
list()
