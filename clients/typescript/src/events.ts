// Made from docs/events.schema.json by `python -m tests.support.typescript_types`. Do not change it here.

/** A piece of an answer's text. The tokens of one call, joined, are exactly its message's text. */
export interface TokenEvent {
  readonly v: 1;
  readonly type: "token";
  readonly cursor: string;
  readonly origin: Origin;
  readonly token: string;
  readonly node_name: string;
  readonly index: number;
  readonly is_final: boolean;
  readonly attempt: number;
  readonly call: Call;
  readonly block: number;
}

/** A piece of a model's reasoning; never part of the answer's text. */
export interface ReasoningEvent {
  readonly v: 1;
  readonly type: "reasoning";
  readonly cursor: string;
  readonly origin: Origin;
  readonly token: string;
  readonly index: number;
  readonly call: Call;
  readonly block: number;
}

/** A fragment of a tool call that a model is writing. */
export interface ToolCallChunk {
  readonly v: 1;
  readonly type: "tool_call_chunk";
  readonly cursor: string;
  readonly origin: Origin;
  readonly index: number | string | null;
  readonly id: string | null;
  readonly name: string | null;
  readonly args: string;
  readonly invalid: boolean;
  readonly call: Call;
}

/** A block of an answer that is neither text, reasoning nor a tool call, as LangChain's v1 block. */
export interface ContentBlock {
  readonly v: 1;
  readonly type: "content_block";
  readonly cursor: string;
  readonly origin: Origin;
  readonly block: { readonly [name: string]: unknown };
  readonly call: Call;
}

/** A model call began. */
export interface CallStarted {
  readonly v: 1;
  readonly type: "call_started";
  readonly cursor: string;
  readonly origin: Origin;
  readonly call: Call;
}

/** A model call ended. */
export interface CallEnded {
  readonly v: 1;
  readonly type: "call_ended";
  readonly cursor: string;
  readonly origin: Origin;
  readonly call: Call;
  readonly usage: { readonly [name: string]: unknown } | null;
  readonly finish_reason: string | null;
  readonly error: string | null;
  readonly message_id: string | null;
  readonly streamed: boolean;
  readonly unfinished: boolean;
  readonly additional_kwargs: { readonly [name: string]: unknown } | null;
}

/** A tool began to run. */
export interface ToolStarted {
  readonly v: 1;
  readonly type: "tool_started";
  readonly cursor: string;
  readonly origin: Origin;
  readonly node_name: string;
  readonly path: readonly (string)[];
  readonly step: number | null;
  readonly task_id: string | null;
  readonly node_run_id: string | null;
  readonly name: string;
  readonly run_id: string;
  readonly tool_call_id: string | null;
  readonly input: string | null;
  readonly truncated: boolean;
}

/** A tool returned or failed. */
export interface ToolEnded {
  readonly v: 1;
  readonly type: "tool_ended";
  readonly cursor: string;
  readonly origin: Origin;
  readonly node_name: string;
  readonly path: readonly (string)[];
  readonly step: number | null;
  readonly task_id: string | null;
  readonly node_run_id: string | null;
  readonly name: string;
  readonly run_id: string;
  readonly tool_call_id: string | null;
  readonly error: string | null;
  readonly output: string | null;
  readonly truncated: boolean;
  readonly unfinished: boolean;
  readonly interrupted: boolean;
}

/** A retriever began to search; only with `retrievers=True`. */
export interface RetrieverStarted {
  readonly v: 1;
  readonly type: "retriever_started";
  readonly cursor: string;
  readonly origin: Origin;
  readonly node_name: string;
  readonly path: readonly (string)[];
  readonly step: number | null;
  readonly task_id: string | null;
  readonly node_run_id: string | null;
  readonly name: string;
  readonly run_id: string;
  readonly tool_call_id: string | null;
  readonly input: string | null;
  readonly truncated: boolean;
}

/** A retriever returned documents, or failed; only with `retrievers=True`. */
export interface RetrieverEnded {
  readonly v: 1;
  readonly type: "retriever_ended";
  readonly cursor: string;
  readonly origin: Origin;
  readonly node_name: string;
  readonly path: readonly (string)[];
  readonly step: number | null;
  readonly task_id: string | null;
  readonly node_run_id: string | null;
  readonly name: string;
  readonly run_id: string;
  readonly tool_call_id: string | null;
  readonly document_count: number | null;
  readonly error: string | null;
  readonly output: unknown;
  readonly truncated: boolean;
  readonly unfinished: boolean;
}

/** A graph began a node. */
export interface NodeStarted {
  readonly v: 1;
  readonly type: "node_started";
  readonly cursor: string;
  readonly origin: Origin;
  readonly node_name: string;
  readonly path: readonly (string)[];
  readonly step: number | null;
  readonly task_id: string | null;
  readonly node_run_id: string | null;
  readonly run_id: string;
  readonly agent_name: string | null;
}

/** A node of a graph returned or failed. */
export interface NodeEnded {
  readonly v: 1;
  readonly type: "node_ended";
  readonly cursor: string;
  readonly origin: Origin;
  readonly node_name: string;
  readonly path: readonly (string)[];
  readonly step: number | null;
  readonly task_id: string | null;
  readonly node_run_id: string | null;
  readonly run_id: string;
  readonly error: string | null;
  readonly output: unknown;
  readonly truncated: boolean;
  readonly unfinished: boolean;
  readonly interrupted: boolean;
  readonly forwarded: boolean;
  readonly agent_name: string | null;
  readonly made_ids: readonly (string)[];
  readonly known_ids: readonly (string)[];
  readonly known_inner_ids: readonly (string)[];
}

/** What the author of a graph dispatched (`dispatch_custom_event`), for viewers to see. */
export interface CustomEvent {
  readonly v: 1;
  readonly type: "custom";
  readonly cursor: string;
  readonly origin: Origin;
  readonly node_name: string;
  readonly path: readonly (string)[];
  readonly step: number | null;
  readonly task_id: string | null;
  readonly node_run_id: string | null;
  readonly name: string;
  readonly data: unknown;
  readonly truncated: boolean;
  readonly forwarded: boolean;
}

/** What a graph said in one of LangGraph's own stream modes; only of graphs run by `stream_graph`. */
export interface GraphEvent {
  readonly v: 1;
  readonly type: "graph";
  readonly cursor: string;
  readonly origin: Origin;
  readonly mode: string;
  readonly path: readonly (string)[];
  readonly data: unknown;
  readonly truncated: boolean;
}

/** An activity attempt began to stream. */
export interface AttemptStarted {
  readonly v: 1;
  readonly type: "attempt_started";
  readonly cursor: string;
  readonly origin: Origin;
  readonly supersedes: Origin | null;
  readonly superseded_by: Origin | null;
}

/** The worker's word on how an attempt ended. Advisory: only history knows what Temporal recorded. */
export interface AttemptEnded {
  readonly v: 1;
  readonly type: "attempt_ended";
  readonly cursor: string;
  readonly origin: Origin;
  readonly outcome: "completed_provisional" | "failed" | "cancelled" | "paused" | "reset" | "timed_out" | "abandoned" | "worker_shutdown" | "async_pending";
  readonly will_retry: boolean | null;
}

/** Something is missing here, and this is all that is known about it. */
export interface Gap {
  readonly v: 1;
  readonly type: "gap";
  readonly cursor: string;
  readonly origin: Origin | null;
  readonly missing: number | null;
  readonly reason: "overflow" | "lost" | "trimmed" | "mismatch" | "unreadable" | "transport" | "unended" | "withheld";
  readonly call: Call | null;
}

/** The workflow goes on in another run: continued as new, retried, on a schedule, or reset. */
export interface RunContinued {
  readonly v: 1;
  readonly type: "run_continued";
  readonly cursor: string;
  readonly origin: null;
  readonly run_id: string;
}

/** The last event of every subscription: how the workflow closed, as Temporal says. */
export interface StreamEnded {
  readonly v: 1;
  readonly type: "stream_ended";
  readonly cursor: string;
  readonly origin: null;
  readonly status: "completed" | "failed" | "canceled" | "terminated" | "timed_out" | "unknown";
}

/** One attempt of one activity. */
export interface Origin {
  readonly namespace: string;
  readonly workflow_id: string;
  readonly workflow_type: string;
  readonly run_id: string;
  readonly activity_id: string;
  readonly activity_type: string;
  readonly attempt: number;
  readonly attempt_id: string;
  readonly started_time: string;
  readonly scheduled_time: string | null;
  readonly parent: string | null;
}

/** One call of a model, as known when it started; shared by all events of the call. */
export interface Call {
  readonly ordinal: number;
  readonly id: string;
  readonly run_id: string;
  readonly node_name: string;
  readonly path: readonly (string)[];
  readonly step: number | null;
  readonly agent_name: string | null;
  readonly model: string | null;
  readonly provider: string | null;
  readonly tags: readonly (string)[];
  readonly tool_call_id: string | null;
  readonly parent: number | null;
  readonly task_id: string | null;
  readonly node_run_id: string | null;
  readonly metadata: { readonly [name: string]: unknown } | null;
}

/** An event of a subscription, version 1 of its JSON form. */
export type StreamEvent =
  TokenEvent |
  ReasoningEvent |
  ToolCallChunk |
  ContentBlock |
  CallStarted |
  CallEnded |
  ToolStarted |
  ToolEnded |
  RetrieverStarted |
  RetrieverEnded |
  NodeStarted |
  NodeEnded |
  CustomEvent |
  GraphEvent |
  AttemptStarted |
  AttemptEnded |
  Gap |
  RunContinued |
  StreamEnded;
