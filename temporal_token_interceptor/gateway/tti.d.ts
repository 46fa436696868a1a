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

export function empty(): State
export function fold(state: State, event: StreamEvent): State
export function messages(state: State): Message[]
export function tree(state: State): TreeNode[]
