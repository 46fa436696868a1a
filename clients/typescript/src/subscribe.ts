/** Joins Redis, which is fast, with Temporal, which knows the end. */

import { calls, type CallText } from "./answers.js";
import { padded, parseCursor, Position, prefixOf } from "./cursor.js";
import type { Origin, StreamEvent } from "./events.js";
import type { StreamName } from "./frames.js";
import { resultsOf } from "./history.js";
import { opened, type PayloadCodec } from "./payload.js";
import { type Entry, RunReader } from "./reader.js";
import { after, Commands, edge, get, Keys, next, type RedisClient } from "./redis.js";
import { closed, type Closed, newestRun, repeatedRun, type TemporalClient } from "./temporal.js";

export interface SubscribeOptions {
  /** A connected client of `ioredis` or `redis`. It stays open; reading uses a connection of its own. */
  readonly redis: RedisClient;
  /** A `Client` of `@temporalio/client`. Without one the end of the workflow is not known: `signal` ends the stream. */
  readonly temporal?: TemporalClient;
  /** The namespace of the workflow; that of the Temporal client, or `default`. */
  readonly namespace?: string;
  /** The run to read; the newest one by default. */
  readonly runId?: string;
  /** The cursor of the last event that was received: the stream goes on right after it. */
  readonly cursor?: string;
  /** What keys in Redis begin with; as the worker's `channel_prefix`. */
  readonly prefix?: string;
  /**
   * What to show of attempts that did not stand: `reset`, the default, shows all at once and takes it back by
   * `attempt_started`; `hold` shows nothing of an attempt before it has succeeded.
   */
  readonly onRetry?: "reset" | "hold";
  /** What opens sealed frames; the codecs of the Temporal client by default. */
  readonly codecs?: readonly PayloadCodec[];
  /** Whether frames are read that are not sealed, where there is a codec: while some workers have none. */
  readonly acceptPlainFrames?: boolean;
  /** Ends the stream. */
  readonly signal?: AbortSignal;
  /** How many milliseconds Redis or Temporal may be away before the stream fails. */
  readonly patience?: number;
}

/** There is no such workflow, or it has no stream. */
export class StreamNotFound extends Error {
  override readonly name = "StreamNotFound";
}

/** Redis was away for longer than `patience`. Resume from the last event's cursor. */
export class TransportUnavailable extends Error {
  override readonly name = "TransportUnavailable";
}

const BLOCK_MILLISECONDS = 500; // the longest that a closed run is noticed late
const BUSY_MILLISECONDS = 1_000; // a reader that was elsewhere for longer may have been overtaken by the trimming
const PAUSE_MILLISECONDS = 200;

/**
 * Iterate over the events of a workflow, each once and in order, until it has ended.
 *
 * A workflow that continues as new, or is retried, goes on with the events of its next run.
 *
 * @throws InvalidCursor the cursor is none.
 * @throws StreamNotFound neither Temporal nor Redis knows of a run.
 * @throws TransportUnavailable Redis was away for too long.
 * @throws CodecMismatch none of the first frames can be opened.
 */
export async function* subscribe(workflowId: string, options: SubscribeOptions): AsyncGenerator<StreamEvent, void> {
  const { temporal, signal } = options;
  const namespace = options.namespace ?? temporal?.options.namespace ?? "default";
  const commands = new Commands(options.redis);
  const place = options.cursor === undefined ? null : parseCursor(options.cursor);
  if (place?.position === Position.END) {
    return; // all was received
  }
  let run = place?.run ?? options.runId ?? (await newest(commands, namespace, workflowId, options));
  const isHeld = options.onRetry === "hold";
  let cursor = options.cursor;
  const first = { namespace, workflow_id: workflowId, run_id: run };
  let before = place === null ? [] : await stoodBefore(commands, first, options);
  const own = await commands.apart();
  try {
    for (;;) {
      const stream = { namespace, workflow_id: workflowId, run_id: run };
      const reader = new RunReader(stream, { before, hold: isHeld, ...(cursor === undefined ? {} : { cursor }) });
      const end: Closed | null = yield* follow(own, stream, reader, options);
      if (end === null || signal?.aborted) {
        return;
      }
      if (end.nextRun === "") {
        yield { v: 1, type: "stream_ended", cursor: endOf(run, reader), origin: null, status: end.status };
        return;
      }
      const start = `${prefixOf(end.nextRun, "")}${Position.STARTED}`; // to resume there is to be in the next run
      yield { v: 1, type: "run_continued", cursor: start, origin: null, run_id: end.nextRun };
      run = end.nextRun;
      before = end.again ? reader.standing() : [];
      cursor = undefined;
    }
  } finally {
    own.close();
  }
}

async function newest(
  commands: Commands,
  namespace: string,
  workflowId: string,
  options: SubscribeOptions,
): Promise<string> {
  if (options.temporal !== undefined) {
    return newestRun(options.temporal, workflowId);
  }
  const run = await get(commands, Keys.newest(options.prefix ?? "tti:v1:", namespace, workflowId));
  if (run === null) {
    throw new StreamNotFound(`Redis knows of no run of ${JSON.stringify(workflowId)}: pass \`temporal\` or \`runId\``);
  }
  return run;
}

/** Yield the events of one run; return how it closed, or `null` where only the signal ended it. */
async function* follow(
  commands: Commands,
  stream: StreamName,
  reader: RunReader,
  options: SubscribeOptions,
): AsyncGenerator<StreamEvent, Closed | null> {
  const patience = options.patience ?? 60_000;
  const keys = new Keys(options.prefix ?? "tti:v1:", stream);
  const leaving = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, leaving.signal]) : leaving.signal;
  let end: Closed | null = null;
  let failure: unknown;
  const closing = options.temporal
    ? closed(options.temporal, stream.workflow_id, stream.run_id, patience, signal).then(
        (found) => (end = found),
        (error: unknown) => (failure = error ?? new Error("Temporal does not answer")),
      )
    : null;
  const insist = new Insistence(patience, signal);
  try {
    yield* reader.begin(await insist.on(() => edge(commands, keys.stream, "newest")));
    const begun = await insist.on(() => get(commands, keys.begun));
    let last: string | null = null; // the id at which a closed run's stream ends
    let recalled = options.temporal === undefined ? null : reader.recalled;
    let hasRead = false;
    for (;;) {
      if (signal.aborted) {
        return null;
      }
      if (failure !== undefined) {
        throw failure;
      }
      if (end !== null && last === null) {
        last = await insist.on(() => edge(commands, keys.stream, "newest"));
      }
      if (last !== null && !isBefore(reader.lastId, last)) {
        break;
      }
      const failures = insist.failures;
      const asked = Date.now();
      const known = reader.lastId;
      const entries = await insist.on(() => next(commands, keys.stream, known, BLOCK_MILLISECONDS));
      if (entries.length > 0) {
        if (hasRead && (insist.failures > failures || insist.wasBusy(asked))) {
          const oldest = await insist.on(() => edge(commands, keys.stream, "oldest"));
          if (isBefore(known, oldest)) {
            yield* reader.cut(insist.failures > failures ? "transport" : "trimmed");
          }
        }
        hasRead = true;
        const all = await openedBy(options, entries);
        const old = recalled === null ? 0 : all.filter(({ id }) => padded(id) <= (recalled?.entry ?? "")).length;
        if (recalled !== null && old < all.length) {
          yield* reader.read(all.slice(0, old), begun);
          yield* await healed(reader, stream, options, recalled.history);
          recalled = null;
          yield* reader.read(all.slice(old), begun);
        } else {
          yield* reader.read(all, begun);
        }
      }
      insist.served();
    }
    yield* reader.end(begun);
    yield* await healed(reader, stream, options);
    yield* reader.tail();
    return end;
  } finally {
    leaving.abort();
    void closing;
  }
}

/** Return what only the history has; where it cannot be read, the reader notes that. */
async function healed(
  reader: RunReader,
  stream: StreamName,
  options: SubscribeOptions,
  upTo?: string,
): Promise<StreamEvent[]> {
  if (options.temporal === undefined) {
    return [];
  }
  try {
    return reader.heal(await resultsOf(options.temporal, stream, codecsOf(options)), upTo);
  } catch (error) {
    if (error instanceof TypeError) {
      throw error; // of this program, not of Temporal
    }
    reader.healingFailed();
    return [];
  }
}

/** What stands of a run. */
export interface Snapshot {
  readonly runId: string;
  /** Where `subscribe` goes on; `null` if there was nothing yet. */
  readonly cursor: string | null;
  readonly calls: readonly CallText[];
}

/**
 * Return what a workflow's run has said so far, waiting for nothing.
 *
 * @throws as `subscribe`.
 */
export async function snapshot(
  workflowId: string,
  options: Omit<SubscribeOptions, "cursor" | "signal">,
): Promise<Snapshot> {
  const namespace = options.namespace ?? options.temporal?.options.namespace ?? "default";
  const commands = new Commands(options.redis);
  const runId = options.runId ?? (await newest(commands, namespace, workflowId, options));
  const stream = { namespace, workflow_id: workflowId, run_id: runId };
  const reader = new RunReader(stream, { hold: options.onRetry === "hold" });
  const events = await soFar(commands, stream, reader, options);
  reader.checkOpened();
  return { runId, cursor: events.at(-1)?.cursor ?? null, calls: calls(events) };
}

/** Return the events that are stored now. */
async function soFar(
  commands: Commands,
  stream: StreamName,
  reader: RunReader,
  options: Omit<SubscribeOptions, "cursor">,
): Promise<StreamEvent[]> {
  const keys = new Keys(options.prefix ?? "tti:v1:", stream);
  const insist = new Insistence(options.patience ?? 60_000, options.signal ?? new AbortController().signal);
  const begun = await insist.on(() => get(commands, keys.begun));
  const last = await insist.on(() => edge(commands, keys.stream, "newest"));
  const events: StreamEvent[] = [];
  while (isBefore(reader.lastId, last)) {
    const entries = await insist.on(() => after(commands, keys.stream, reader.lastId));
    if (entries.length === 0) {
      break; // they were trimmed since
    }
    events.push(...reader.read(await openedBy(options, entries), begun));
  }
  events.push(...reader.end(begun));
  return events;
}

/** Return what stood at the end of the run that this one does again: a reader that resumes may have drawn it. */
async function stoodBefore(
  commands: Commands,
  stream: StreamName,
  options: Omit<SubscribeOptions, "cursor">,
): Promise<readonly Origin[]> {
  const { temporal } = options;
  const run = temporal === undefined ? null : await repeatedRun(temporal, stream.workflow_id, stream.run_id);
  if (run === null) {
    return [];
  }
  const repeated = { ...stream, run_id: run };
  const reader = new RunReader(repeated, { before: await stoodBefore(commands, repeated, options) });
  await soFar(commands, repeated, reader, options);
  return reader.standing();
}

/** Return entries, opened where they are sealed. */
function openedBy(options: Omit<SubscribeOptions, "cursor" | "signal">, entries: readonly Entry[]): Promise<Entry[]> {
  return opened(entries, codecsOf(options), options.acceptPlainFrames ?? false);
}

function codecsOf({ codecs, temporal }: Pick<SubscribeOptions, "codecs" | "temporal">): readonly PayloadCodec[] {
  return codecs ?? temporal?.options.loadedDataConverter?.payloadCodecs ?? [];
}

/** Repeats a command while Redis is away, for as long as that may be. */
class Insistence {
  failures = 0;
  #served = Date.now();
  readonly #patience: number;
  readonly #signal: AbortSignal;

  constructor(patience: number, signal: AbortSignal) {
    this.#patience = patience;
    this.#signal = signal;
  }

  /** Note that the reader comes back for more. */
  served(): void {
    this.#served = Date.now();
  }

  /** Whether the reader was elsewhere for so long, before it asked, that it may have been overtaken. */
  wasBusy(asked: number): boolean {
    return asked - this.#served > BUSY_MILLISECONDS;
  }

  async on<T>(command: () => Promise<T>): Promise<T> {
    let since: number | null = null;
    for (;;) {
      try {
        return await command();
      } catch (error) {
        if (error instanceof TypeError) {
          throw error; // of this program, not of Redis
        }
        this.failures += 1;
        since ??= Date.now();
        if (this.#signal.aborted || Date.now() - since > this.#patience) {
          throw new TransportUnavailable("Redis did not answer; resume from the last event's cursor", {
            cause: error,
          });
        }
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLISECONDS));
      }
    }
  }
}

function endOf(run: string, reader: RunReader): string {
  return `${prefixOf(run, reader.place)}${Position.END}`;
}

/** Whether an id of Redis comes before another one; empty is before all. */
function isBefore(one: string, other: string): boolean {
  if (one === "" || other === "") {
    return one === "" && other !== "";
  }
  const [a = 0n, b = 0n] = one.split("-").map(BigInt);
  const [c = 0n, d = 0n] = other.split("-").map(BigInt);
  return a < c || (a === c && b < d);
}
