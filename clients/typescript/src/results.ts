/** What results of activities hold: docs/protocol.md, section Frames in history. */

import { type Frame, NoFrame, readFrame, type StreamName } from "./frames.js";
import { Broken, type Facts, integer, member, natural, object, text } from "./values.js";

/** An activity that completed, as the run's history has it. Times are microseconds. */
export interface Completed {
  /** Of its event: `h` and the event's number. */
  readonly id: string;
  readonly activity: string;
  readonly activityType: string;
  /** When it was scheduled, and when the attempt began; `null` of a local activity. */
  readonly scheduled: number | null;
  readonly started: number | null;
  readonly attempt: number;
  /** What it returned. */
  readonly result: unknown;
}

/** A frame that stood in a result, and the name of its entry. */
export interface HistoryEntry {
  readonly id: string;
  readonly frame: Frame;
}

/**
 * Return the frames of the attempt that returned a result, and those that name the attempts before it.
 *
 * Results travel, also into others: what is of another activity, or of another stream, is left out.
 */
export function framesIn(completed: Completed, stream: StreamName): HistoryEntry[] {
  const attempts = new Set<string>(); // with a header that shows that they are of this activity
  return rawFrames(completed.result)
    .flatMap((raw) => readable(raw, stream))
    .filter((frame) => isOf(frame, completed, attempts))
    .map((frame, place) => ({ id: entryOf(completed, place), frame }));
}

/**
 * Return a frame for what a result counts of its attempt: for a reader that received nothing of it.
 *
 * @param workflowType Of the run.
 */
export function countsIn(completed: Completed, stream: StreamName, workflowType: string): HistoryEntry[] {
  const { scheduled, started } = completed;
  if (started === null) {
    return [];
  }
  return itemsIn(completed.result)
    .flatMap(countOf)
    .filter((count) => count.started === started)
    .flatMap(({ attempt, count }) => {
      const origin = {
        ...{ ns: stream.namespace, wf: stream.workflow_id, wft: workflowType, run: stream.run_id },
        ...{ act: completed.activity, actt: completed.activityType, try: completed.attempt, t: started },
        sch: scheduled,
      };
      const forms = [
        ["gap", null, count === 0 ? null : count, "transport"],
        ["attempt_end", "completed_provisional", null],
      ];
      return readable({ v: 1, a: attempt, n: 0, o: origin, e: forms }, stream);
    })
    .map((frame, place) => ({ id: entryOf(completed, place), frame }));
}

function entryOf(completed: Completed, place: number): string {
  return `${completed.id}-${String(place).padStart(4, "0")}`;
}

/** Return the items in the list that is meant for them, and in no other: what a model wrote stays text. */
function itemsIn(result: unknown): Facts[] {
  const items = isObject(result) ? member(result, "custom_data") : undefined;
  const bodies = Array.isArray(items) ? items.map((item) => (isObject(item) ? member(item, "token_stream") : null)) : [];
  return bodies.filter(isObject);
}

function isObject(value: unknown): value is Facts {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Return frames; version and attempt are those of the frame before where one has none. */
function rawFrames(result: unknown): unknown[] {
  return itemsIn(result).flatMap((item) => {
    const frames = member(item, "frames");
    let shared: Facts = {};
    return (Array.isArray(frames) ? frames : []).map((frame: unknown) => {
      if (!isObject(frame)) {
        return frame;
      }
      shared = { v: member(frame, "v") ?? shared["v"], a: member(frame, "a") ?? shared["a"] };
      return { ...shared, ...frame };
    });
  });
}

function readable(raw: unknown, stream: StreamName): Frame[] {
  try {
    return [readFrame(new TextEncoder().encode(JSON.stringify(raw)), stream, null, Infinity, false)];
  } catch (error) {
    if (error instanceof NoFrame) {
      return [];
    }
    throw error;
  }
}

function isOf(frame: Frame, completed: Completed, attempts: Set<string>): boolean {
  const { activity, scheduled, started } = completed;
  if (frame.origin === null) {
    return attempts.has(frame.attempt);
  }
  const isSame = frame.origin.activity_id === activity;
  if (frame.forms.length === 0 && started !== null && isSame && frame.scheduled === scheduled && frame.started < started) {
    return true; // it only names an attempt before
  }
  if (!isSame || (started !== null && frame.started !== started)) {
    return false;
  }
  attempts.add(frame.attempt);
  return true;
}

function countOf(item: Facts): { attempt: string; started: number; count: number }[] {
  try {
    const attempt = text(member(item, "attempt_id"));
    const started = integer(member(item, "started_time"));
    return [{ attempt, started, count: natural(member(item, "token_count")) }];
  } catch (error) {
    if (error instanceof Broken) {
      return [];
    }
    throw error;
  }
}

/** What the SDK's core notes of a local activity. */
export function localFacts(value: unknown): { activity: string; activityType: string; attempt: number } | null {
  try {
    const facts = object(value);
    const attempt = member(facts, "attempt");
    return {
      activity: text(member(facts, "activity_id")),
      activityType: text(member(facts, "activity_type")),
      attempt: attempt === undefined ? 0 : natural(attempt),
    };
  } catch (error) {
    if (error instanceof Broken) {
      return null;
    }
    throw error;
  }
}
