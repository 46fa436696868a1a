/** `onRetry: "hold"`: nothing of an attempt before it succeeded, and then all of it at once. */

import { Position, prefixOf } from "./cursor.js";
import type { Origin, StreamEvent } from "./events.js";

/**
 * Holds back the events of attempts until they succeed.
 *
 * What failed, was superseded or given up never comes out; nor does a call that failed within an attempt that
 * succeeded. What comes out late has new cursors, numbered backwards from the event that caused it: they do not change
 * when the start of the attempt is trimmed away between two readings.
 */
export class Held {
  readonly #run: string;
  readonly #held = new Map<string, StreamEvent[]>(); // by attempt
  readonly #running = new Map<string, string>(); // by activity: the attempt that is held
  readonly #shown = new Map<string, Origin | null>(); // by activity: the attempt that came out last

  constructor(run: string) {
    this.#run = run;
  }

  /** Return what can be shown once an entry was read: mostly nothing. */
  read(entry: string, events: readonly StreamEvent[]): StreamEvent[] {
    const released: StreamEvent[] = [];
    for (const event of events) {
      if (event.origin === null) {
        continue;
      }
      const { attempt_id: attempt } = event.origin;
      const activity = activityOf(event.origin);
      if (event.type === "attempt_started") {
        this.#start(activity, event.origin, event.supersedes);
      }
      const held = this.#held.get(attempt) ?? [];
      this.#held.set(attempt, held);
      held.push(event);
      if (event.type === "attempt_ended" && event.outcome !== "async_pending") {
        if (event.outcome === "completed_provisional") {
          released.push(...this.#release(attempt, activity));
        } else {
          this.#held.delete(attempt);
        }
      }
    }
    return this.#placed(released, entry, Position.LAST_RELEASED - released.length + 1);
  }

  /** Return, at the end of the stream, the events of attempts that did not report how they ended. */
  rest(entry: string): StreamEvent[] {
    const released = [...this.#running].flatMap(([activity, attempt]) => this.#release(attempt, activity));
    return this.#placed(released, entry, Position.TAIL);
  }

  #start(activity: string, origin: Origin, supersedes: Origin | null): void {
    const running = this.#running.get(activity);
    if (running === undefined && supersedes !== null && supersedes.attempt_id !== origin.attempt_id) {
      this.#shown.set(activity, supersedes); // in the run before this one
    }
    if (running !== undefined && running !== origin.attempt_id) {
      this.#held.delete(running);
    }
    this.#running.set(activity, origin.attempt_id);
  }

  #release(attempt: string, activity: string): StreamEvent[] {
    const events = withoutFailedCalls(this.#held.get(attempt) ?? []);
    this.#held.delete(attempt);
    const first = events[0];
    if (first === undefined) {
      return [];
    }
    const shown = this.#shown.get(activity) ?? null;
    this.#shown.set(activity, first.origin);
    return events.map((event) =>
      // Not the attempt before it, but the one that was shown before it.
      event.type === "attempt_started" && event.supersedes?.attempt_id !== event.origin.attempt_id
        ? { ...event, supersedes: shown }
        : event,
    );
  }

  #placed(events: readonly StreamEvent[], entry: string, first: number): StreamEvent[] {
    const prefix = prefixOf(this.#run, entry);
    return events.map((event, place) => ({ ...event, cursor: `${prefix}${first + place}` }));
  }
}

function activityOf(origin: Origin): string {
  return JSON.stringify([origin.activity_id, origin.scheduled_time]);
}

/** Leave out the calls that failed within a good attempt: the graph tried again or fell back. */
function withoutFailedCalls(events: readonly StreamEvent[]): readonly StreamEvent[] {
  const failed = new Set(
    events.flatMap((event) => (event.type === "call_ended" && event.error !== null ? [event.call.ordinal] : [])),
  );
  const isOf = (event: StreamEvent) => "call" in event && event.call !== null && failed.has(event.call.ordinal);
  return failed.size === 0 ? events : events.filter((event) => !isOf(event));
}
