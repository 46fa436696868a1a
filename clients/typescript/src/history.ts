/** A run's history, as far as it has what activities returned. */

import type { StreamName } from "./frames.js";
import type { Payload, PayloadCodec } from "./payload.js";
import { type Completed, localFacts } from "./results.js";
import type { TemporalClient } from "./temporal.js";

/** A number of protobuf: small, or an object that prints as one. */
type Long = number | { toString(): string };

interface Payloads {
  readonly payloads?: readonly Payload[] | null;
}

/** An event; the part that is used. */
interface HistoryEvent {
  readonly eventId?: Long | null;
  readonly eventTime?: { readonly seconds?: Long | null; readonly nanos?: number | null } | null;
  readonly workflowExecutionStartedEventAttributes?: {
    readonly originalExecutionRunId?: string | null;
    readonly workflowType?: { readonly name?: string | null } | null;
  } | null;
  readonly workflowTaskFailedEventAttributes?: {
    readonly cause?: number | null;
    readonly newRunId?: string | null;
  } | null;
  readonly activityTaskScheduledEventAttributes?: {
    readonly activityId?: string | null;
    readonly activityType?: { readonly name?: string | null } | null;
  } | null;
  readonly activityTaskStartedEventAttributes?: { readonly attempt?: number | null } | null;
  readonly activityTaskCompletedEventAttributes?: {
    readonly result?: Payloads | null;
    readonly scheduledEventId?: Long | null;
    readonly startedEventId?: Long | null;
  } | null;
  readonly markerRecordedEventAttributes?: {
    readonly markerName?: string | null;
    readonly details?: Readonly<Record<string, Payloads>> | null;
  } | null;
}

/** What the activities of a run returned, in its order. */
export interface RunResults {
  readonly workflowType: string;
  readonly completed: readonly Completed[];
}

const RESET_WORKFLOW = 20; // WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW
const LOCAL_ACTIVITY = "core_local_activity";
const utf8 = new TextDecoder();

/**
 * Return what the activities of a closed run returned; what cannot be decoded is left out.
 *
 * @throws what Temporal answers.
 */
export async function resultsOf(
  client: TemporalClient,
  stream: StreamName,
  codecs: readonly PayloadCodec[],
): Promise<RunResults> {
  const scan = new Scan(stream.run_id, codecs);
  const completed: Completed[] = [];
  let nextPageToken: Uint8Array | null = null;
  do {
    const reply: Awaited<ReturnType<TemporalClient["workflowService"]["getWorkflowExecutionHistory"]>> =
      await client.workflowService.getWorkflowExecutionHistory({
        namespace: stream.namespace,
        execution: { workflowId: stream.workflow_id, runId: stream.run_id },
        skipArchival: true,
        nextPageToken,
      });
    for (const event of reply.history?.events ?? []) {
      const found = await scan.met(event as HistoryEvent);
      if (found !== null) {
        completed.push(found);
      }
    }
    nextPageToken = reply.nextPageToken?.length ? reply.nextPageToken : null;
  } while (nextPageToken !== null);
  return { workflowType: scan.workflowType, completed };
}

class Scan {
  workflowType = "";
  readonly #run: string;
  readonly #codecs: readonly PayloadCodec[];
  readonly #scheduled = new Map<string, { activity: string; activityType: string; time: number }>();
  readonly #started = new Map<string, { attempt: number; time: number }>();
  #isCarriedOver = false; // after a reset, a history begins with that of the run before

  constructor(run: string, codecs: readonly PayloadCodec[]) {
    this.#run = run;
    this.#codecs = codecs;
  }

  /** Take in an event; return what an activity returned by it. */
  async met(event: HistoryEvent): Promise<Completed | null> {
    const id = String(event.eventId ?? 0);
    const began = event.workflowExecutionStartedEventAttributes;
    const failed = event.workflowTaskFailedEventAttributes;
    const scheduled = event.activityTaskScheduledEventAttributes;
    const started = event.activityTaskStartedEventAttributes;
    if (began) {
      this.workflowType = began.workflowType?.name ?? "";
      this.#isCarriedOver = began.originalExecutionRunId !== this.#run;
    } else if (failed?.cause === RESET_WORKFLOW) {
      this.#isCarriedOver &&= failed.newRunId !== this.#run;
    } else if (scheduled) {
      const activity = scheduled.activityId ?? "";
      this.#scheduled.set(id, { activity, activityType: scheduled.activityType?.name ?? "", time: timeOf(event) });
    } else if (started) {
      this.#started.set(id, { attempt: started.attempt ?? 1, time: timeOf(event) });
    } else if (!this.#isCarriedOver) {
      return (await this.#completed(event, id)) ?? (await this.#completedLocally(event, id));
    }
    return null;
  }

  async #completed(event: HistoryEvent, id: string): Promise<Completed | null> {
    const facts = event.activityTaskCompletedEventAttributes;
    const scheduled = this.#scheduled.get(String(facts?.scheduledEventId));
    const started = this.#started.get(String(facts?.startedEventId));
    if (!facts || scheduled === undefined || started === undefined) {
      return null;
    }
    return {
      id: nameOf(id),
      activity: scheduled.activity,
      activityType: scheduled.activityType,
      scheduled: scheduled.time,
      started: started.time,
      attempt: started.attempt,
      result: await this.#decoded(facts.result),
    };
  }

  async #completedLocally(event: HistoryEvent, id: string): Promise<Completed | null> {
    const marker = event.markerRecordedEventAttributes;
    if (marker?.markerName !== LOCAL_ACTIVITY || !marker.details?.["result"]?.payloads?.length) {
      return null;
    }
    const facts = localFacts(plain(marker.details["data"]?.payloads?.[0]));
    if (facts === null) {
      return null;
    }
    return { id: nameOf(id), ...facts, scheduled: null, started: null, result: await this.#decoded(marker.details["result"]) };
  }

  /** Return a result as the JSON that it is; `undefined` for what cannot be decoded, or is none. */
  async #decoded(result: Payloads | null | undefined): Promise<unknown> {
    let payloads = [...(result?.payloads ?? [])];
    try {
      for (const codec of [...this.#codecs].reverse()) {
        payloads = await codec.decode(payloads);
      }
    } catch {
      return undefined; // the user's codec may throw anything
    }
    return plain(payloads[0]);
  }
}

function plain(payload: Payload | undefined): unknown {
  try {
    return payload?.data ? JSON.parse(utf8.decode(payload.data)) : undefined;
  } catch {
    return undefined;
  }
}

function nameOf(eventId: string): string {
  return `h${eventId.padStart(15, "0")}`;
}

/** Return when an event happened, in microseconds: of a started activity, the time that its attempt has. */
function timeOf(event: HistoryEvent): number {
  const { seconds = 0, nanos = 0 } = event.eventTime ?? {};
  return Number(String(seconds ?? 0)) * 1_000_000 + Math.floor((nanos ?? 0) / 1000);
}
