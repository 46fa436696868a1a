/** What only Temporal knows: which run is the newest, and how a run closed. */

import type { StreamEnded } from "./events.js";
import type { PayloadCodec } from "./payload.js";

/** A `Client` of the package `@temporalio/client`; the part that is used. */
export interface TemporalClient {
  readonly options: {
    readonly namespace: string;
    /** Its codecs open sealed frames. */
    readonly loadedDataConverter?: { readonly payloadCodecs: readonly PayloadCodec[] };
  };
  readonly workflow: {
    getHandle(workflowId: string): { describe(): Promise<{ readonly runId: string }> };
  };
  readonly workflowService: {
    getWorkflowExecutionHistory(request: object): Promise<{
      readonly history?: { readonly events?: readonly object[] | null } | null;
      readonly nextPageToken?: Uint8Array | null;
    }>;
    describeWorkflowExecution(request: object): Promise<{ readonly workflowExecutionInfo?: RunInfo | null }>;
  };
  readonly connection: { withDeadline<T>(deadline: number, task: () => Promise<T>): Promise<T> };
}

interface RunInfo {
  readonly execution?: { readonly runId?: string | null } | null;
  readonly firstRunId?: string | null;
}

/** How a run closed. */
export interface Closed {
  readonly status: StreamEnded["status"];
  /** The run that the workflow goes on in; empty if it does not. */
  readonly nextRun: string;
  /** Whether that run does again what this one did: a retry, or a reset. */
  readonly again: boolean;
}

const CLOSE_EVENT = 2; // HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT
const RETRY = 2; // CONTINUE_AS_NEW_INITIATOR_RETRY
const POLL_MILLISECONDS = 70_000; // Temporal answers a long poll after 60 s at the latest
const PAUSE_MILLISECONDS = 500;
const STATUS = {
  workflowExecutionCompletedEventAttributes: "completed",
  workflowExecutionFailedEventAttributes: "failed",
  workflowExecutionCanceledEventAttributes: "canceled",
  workflowExecutionTerminatedEventAttributes: "terminated",
  workflowExecutionTimedOutEventAttributes: "timed_out",
  workflowExecutionContinuedAsNewEventAttributes: "completed",
} as const;

/** Return the id of a workflow's newest run. */
export async function newestRun(client: TemporalClient, workflowId: string): Promise<string> {
  return (await client.workflow.getHandle(workflowId).describe()).runId;
}

/** Return the run that a run does again: as a retry, or because it was reset; `null` if there is none. */
export async function repeatedRun(client: TemporalClient, workflowId: string, runId: string): Promise<string | null> {
  const reply = await client.workflowService.getWorkflowExecutionHistory({
    namespace: client.options.namespace,
    execution: { workflowId, runId },
    maximumPageSize: 1,
    skipArchival: true,
  });
  const [event] = (reply.history?.events ?? []) as readonly { workflowExecutionStartedEventAttributes?: Started | null }[];
  const started = event?.workflowExecutionStartedEventAttributes;
  if (started?.originalExecutionRunId && started.originalExecutionRunId !== runId) {
    return started.originalExecutionRunId;
  }
  return (started?.initiator === RETRY && started.continuedExecutionRunId) || null;
}

interface Started {
  readonly originalExecutionRunId?: string | null;
  readonly continuedExecutionRunId?: string | null;
  readonly initiator?: number | null;
}

/**
 * Wait until a run has closed, by long polls.
 *
 * @param patience How many milliseconds Temporal may be away.
 * @throws what Temporal answered last, where it is away for longer.
 */
export async function closed(
  client: TemporalClient,
  workflowId: string,
  runId: string,
  patience: number,
  signal: AbortSignal,
): Promise<Closed> {
  const request = {
    namespace: client.options.namespace,
    execution: { workflowId, runId },
    waitNewEvent: true,
    historyEventFilterType: CLOSE_EVENT,
  };
  let token: Uint8Array | null = null;
  let answered = Date.now();
  for (;;) {
    signal.throwIfAborted();
    try {
      const reply = await client.connection.withDeadline(Date.now() + POLL_MILLISECONDS, () =>
        client.workflowService.getWorkflowExecutionHistory({ ...request, nextPageToken: token }),
      );
      answered = Date.now();
      const event = reply.history?.events?.at(-1);
      if (event !== undefined) {
        const found = closedBy(event);
        return found.nextRun === "" ? { ...found, ...(await resetOf(client, workflowId, runId)) } : found;
      }
      token = reply.nextPageToken?.length ? reply.nextPageToken : null;
    } catch (error) {
      if (Date.now() - answered > patience) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLISECONDS));
    }
  }
}

function closedBy(event: object): Closed {
  for (const [name, status] of Object.entries(STATUS)) {
    const facts = (event as Record<string, { newExecutionRunId?: string | null; failure?: unknown } | null>)[name];
    if (facts) {
      const nextRun = facts.newExecutionRunId ?? "";
      const isContinued = name === "workflowExecutionContinuedAsNewEventAttributes" && !facts.failure;
      return { status, nextRun, again: nextRun !== "" && !isContinued && status !== "completed" };
    }
  }
  return { status: "unknown", nextRun: "", again: false };
}

/** Return the run that a reset started: it closes a running one, and follows a closed one later. */
async function resetOf(client: TemporalClient, workflowId: string, runId: string): Promise<Partial<Closed>> {
  const described = async (execution: object): Promise<RunInfo | null | undefined> =>
    (
      await client.workflowService.describeWorkflowExecution({ namespace: client.options.namespace, execution })
    ).workflowExecutionInfo;
  const newest = await described({ workflowId });
  const nextRun = newest?.execution?.runId ?? "";
  if (nextRun === runId || nextRun === "") {
    return {};
  }
  const old = await described({ workflowId, runId });
  return newest?.firstRunId && newest.firstRunId === old?.firstRunId ? { nextRun, again: true } : {};
}
