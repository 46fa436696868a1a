/** Which frames add something: docs/protocol.md, section Reading, steps 2 to 6. */

import { prefixOf, Position } from "./cursor.js";
import type { AttemptStarted, Gap, Origin, StreamEvent } from "./events.js";
import { OpenCalls } from "./forms.js";
import type { Frame } from "./frames.js";
import type { Completed } from "./results.js";

type Reason = Gap["reason"];

interface Attempt {
  readonly origin: Origin;
  readonly started: number;
  readonly scheduled: number | null;
  readonly calls: OpenCalls;
  next: number;
  isSuperseded: boolean;
  hasEnded: boolean;
  hasCompleted: boolean;
  cut: Reason | null; // why the next jump, if there is one
  lost: Reason | null; // why frames of it are missing
}

/** Turns the frames of one run's stream into events, each once, in order, of the newest attempts only. */
export class Attempts {
  readonly #run: string;
  readonly #attempts = new Map<string, Attempt>();
  readonly #newest = new Map<string, Attempt>();
  readonly #others = new Map<Attempt, Reason>(); // stand here, and not at Temporal
  /** Whether all may have been shown before: each attempt then supersedes itself first. */
  again = false;
  readonly #before: readonly Origin[];
  #cut: Reason = "trimmed"; // why the beginning of an attempt is missing

  /**
   * @param before The attempts that stood in a run that this one does again, in their order: the first activity of
   *   an id supersedes the first of that id there, and so on.
   */
  constructor(run: string, before: readonly Origin[] = []) {
    this.#run = run;
    this.#before = before;
  }

  /** Return the events that a frame adds. */
  read(entry: string, frame: Frame): StreamEvent[] {
    const prefix = prefixOf(this.#run, entry);
    const events: StreamEvent[] = [];
    let attempt = this.#attempts.get(frame.attempt);
    if (attempt === undefined) {
      if (frame.origin === null) {
        return events; // its header was trimmed away: a later one says how many frames came before it
      }
      attempt = this.#begin(frame, frame.origin, prefix, events);
    }
    if (attempt.isSuperseded) {
      return events;
    }
    if (frame.number < attempt.next) {
      return events;
    }
    if (frame.number > attempt.next) {
      attempt.lost = attempt.cut ?? (attempt.next === 0 ? this.#cut : "lost");
      const missing = frame.number - attempt.next;
      const cursor = `${prefix}${Position.GAP}`;
      events.push({ v: 1, type: "gap", cursor, origin: attempt.origin, missing, reason: attempt.lost, call: null });
    }
    attempt.cut = null;
    if (frame.origin !== null) {
      attempt.calls.replace(frame.calls);
    }
    attempt.next = frame.number + 1;
    for (const event of attempt.calls.unfold(frame.forms, prefix)) {
      if (event.type === "attempt_ended") {
        attempt.hasEnded = true;
        attempt.hasCompleted = event.outcome === "completed_provisional";
      }
      const isExplained = event.type === "gap" && event.reason === "mismatch" && attempt.lost === "transport";
      events.push(isExplained ? { ...event, reason: "transport" } : event);
    }
    return events;
  }

  /** Note that the stream lost entries up to the next one. */
  cut(reason: Reason): void {
    this.#cut = reason;
    for (const attempt of this.#attempts.values()) {
      attempt.cut = reason;
    }
  }

  /** Return the attempt that stands of each activity: also those of the run before that were not done again. */
  standing(): Origin[] {
    const newest = [...this.#newest.values()].map((one) => one.origin);
    const done = new Map<string, number>();
    for (const origin of newest) {
      done.set(origin.activity_id, (done.get(origin.activity_id) ?? 0) + 1);
    }
    const rest = this.#before.filter((origin) => {
      const left = done.get(origin.activity_id) ?? 0;
      done.set(origin.activity_id, left - 1);
      return left <= 0;
    });
    return [...rest, ...newest];
  }

  /** Whether the attempt of which Temporal has a result reported that it completed. */
  isSettled({ activity, scheduled, started, attempt }: Completed): boolean {
    return [...this.#newest.values()].some(
      (one) =>
        one.hasCompleted &&
        one.origin.activity_id === activity &&
        one.origin.attempt === attempt &&
        (started === null || started === one.started) &&
        (scheduled === null || one.scheduled === null || scheduled === one.scheduled),
    );
  }

  /** Note which attempt of an activity Temporal has a result of: `doubtful` has another one that stands. */
  compare({ activity, scheduled, started, attempt }: Completed): void {
    const newest = started === null ? undefined : this.#newest.get(keyOf(activity, scheduled));
    if (newest === undefined || started === null || scheduled === null) {
      return;
    }
    if (newest.started !== started || newest.origin.attempt !== attempt) {
      // An older one stands where the transport lost, or never took, all of the one that completed.
      this.#others.set(newest, newest.started < started ? "transport" : "mismatch");
    }
  }

  /** Return the newest attempts that have not said how they ended, or are not those that completed, and why. */
  doubtful(): [Origin, Reason][] {
    const found = new Map<Attempt, Reason>();
    for (const one of this.#newest.values()) {
      if (!one.hasEnded) {
        found.set(one, "unended");
      }
    }
    for (const [one, reason] of this.#others) {
      found.set(one, reason);
    }
    return [...found].map(([{ origin }, reason]) => [origin, reason]);
  }

  #begin(frame: Frame, origin: Origin, prefix: string, events: StreamEvent[]): Attempt {
    const attempt: Attempt = {
      origin,
      started: frame.started,
      scheduled: frame.scheduled,
      calls: new OpenCalls(origin),
      next: 0,
      isSuperseded: false,
      hasEnded: false,
      hasCompleted: false,
      cut: null,
      lost: null,
    };
    this.#attempts.set(frame.attempt, attempt);
    const activity = keyOf(origin.activity_id, frame.scheduled);
    const rival = this.#newest.get(activity);
    if (rival !== undefined && isNewer(rival, attempt)) {
      attempt.isSuperseded = true;
      return attempt;
    }
    const superseded = rival?.origin ?? this.#doneBefore(origin);
    this.#newest.set(activity, attempt);
    if (rival !== undefined) {
      rival.isSuperseded = true;
    }
    const started: AttemptStarted = {
      v: 1,
      type: "attempt_started",
      cursor: `${prefix}${Position.STARTED}`,
      origin,
      supersedes: superseded,
      superseded_by: null,
    };
    if (this.again) {
      events.push({ ...started, supersedes: origin });
    }
    if (!this.again || superseded !== null) {
      events.push(started);
    }
    return attempt;
  }

  /** Return what stood in the run before of an activity that this run does for the first time. */
  #doneBefore(origin: Origin): Origin | null {
    const place = [...this.#newest.values()].filter((one) => one.origin.activity_id === origin.activity_id).length;
    return this.#before.filter((before) => before.activity_id === origin.activity_id)[place] ?? null;
  }
}

/** An activity is its id and when it was scheduled: a workflow may use an id again. */
function keyOf(activity: string, scheduled: number | null): string {
  return JSON.stringify([activity, scheduled]);
}

function isNewer(one: Attempt, other: Attempt): boolean {
  return one.started > other.started || (one.started === other.started && one.origin.attempt > other.origin.attempt);
}
