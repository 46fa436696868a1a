export type Kind = 'attempt' | 'message' | 'text' | 'reasoning' | 'tool_call' | 'tool' | 'node' | 'block'

export interface Item {
  id: string
  kind: Kind
  parent: string
  stable: string
  data: Record<string, unknown>
  text: string
  open: boolean
  facts: Record<string, unknown>
}

export interface Note {
  at: number
  id: string
  data: Record<string, unknown>
}

export interface State {
  items: Map<string, Item>
  notes: Note[]
  status: string | null
  run: string
  cursor: string | null
}

export interface StreamEvent {
  op: string
  cursor?: string
  [member: string]: unknown
}

export type Message = Item & { reasoning: string; parts: Item[] }
export type TreeNode = Item & { children: TreeNode[] }

/** A state without items. */
export function empty(): State

/** The state after an event, or after several. Items that did not change stay the same objects. */
export function fold(state: State, events: StreamEvent | StreamEvent[]): State

/** The model calls that stand, each with its text and reasoning. */
export function messages(state: State): Message[]

/** Attempts with their messages, tools and nodes as `children`, and these with theirs. */
export function tree(state: State): TreeNode[]

/** Why a stream ended early: an answer that will not change, such as 403. `problem` is its body (RFC 9457). */
export interface StreamError extends Error {
  problem: { status?: number; title?: string; detail?: string } | null
}

/**
 * `open`: events may come. `waiting`: the connection is lost, or the server sent the client away; it is tried again,
 * forever, after at most 15 s or as long as the server wants. `closed`: nothing is followed (any more).
 */
export type Status = 'open' | 'waiting' | 'closed'

export interface ConnectionOptions {
  /** Headers of each request; a function is called for each, so that a token can be fresh. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>)
  /** In place of the browser's `fetch`. */
  fetch?: typeof fetch
  /** After how many milliseconds without a byte a connection counts as lost; 45,000 by default. */
  silence?: number
  /** What the connection is; `error` is why it is not open. */
  onStatus?(status: Status, error?: Error): void
}

export interface Options extends ConnectionOptions {
  /** Where to go on: a state with its cursor. By default the server sends what stands, and goes on from there. */
  state?: State
  /** Called for each event, after it is part of the state. */
  onChange?(event: StreamEvent): void
  /** Called once for all events that came together. */
  onState?(state: State): void
}

export interface Subscription {
  readonly state: State
  /** Resolves once the workflow has ended or `close` was called. Rejects with a `StreamError`, or with what one of
   * your functions threw. */
  readonly done: Promise<State>
  /** Ends the subscription. It does not cancel the workflow. */
  close(): void
}

/** Follows a workflow until it ends, over lost connections: nothing is left out, nothing comes twice. */
export function subscribe(url: string | URL, options?: Options): Subscription

export interface ManyOptions extends ConnectionOptions {
  onChange?(event: StreamEvent, workflow: string): void
  onState?(state: State, workflow: string): void
  /** A workflow that cannot be followed: refused, unknown, sealed. The others go on. */
  onProblem?(problem: { status: number; detail: string }, workflow: string): void
}

export interface ManySubscription {
  readonly states: Map<string, State>
  /** Resolves once `close` was called; rejects if the server refuses all of it. */
  readonly done: Promise<void>
  /** Follows one more; the connection is made again for it, and goes on where it was. */
  add(workflow: string): void
  remove(workflow: string): void
  close(): void
}

/**
 * Follows several workflows on one connection, at most as many as the gateway's limits allow (64).
 * @param url of the gateway's `v1/events`
 */
export function subscribeMany(url: string | URL, workflows: Iterable<string>, options?: ManyOptions): ManySubscription
