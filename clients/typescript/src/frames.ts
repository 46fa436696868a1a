/** Frames: docs/protocol.md, sections Frames and Sealed frames. */

import type { Call, Origin } from "./events.js";
import { array, Broken, type Facts, given, integer, member, natural, object, optional, text, texts } from "./values.js";

export interface StreamName {
  readonly namespace: string;
  readonly workflow_id: string;
  readonly run_id: string;
}

/** A frame as it was read; its events are still forms. */
export interface Frame {
  readonly attempt: string;
  readonly number: number;
  readonly origin: Origin | null;
  readonly calls: readonly Call[];
  readonly forms: readonly unknown[];
  /** When Temporal's server started the attempt, in microseconds; of a header. */
  readonly started: number;
  /** When it scheduled the activity; `null` if that is not known. */
  readonly scheduled: number | null;
}

/** An entry that is no frame of this stream: it is skipped and counted. */
export class NoFrame extends Error {
  override readonly name = "NoFrame";
}

const VERSION = 1;
const MOST_BYTES = 16 * 1024 * 1024;
const MOST_VALUES = 100_000; // arrays, objects and commas
const DEEPEST = 256;
const FUTURE = 600_000_000; // microseconds
const FAR_FUTURE = 86_400_000_000; // by our own clock, which may be wrong by hours
const EARLIEST = -62_135_596_800_000_000; // microseconds: the year 1
const LATEST = 253_402_300_800_000_000; // the year 10000
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Read a frame.
 *
 * @param stored When Redis stored the entry, in milliseconds; `null` if that is not known.
 * @param now Milliseconds since 1970: no attempt is of the far future.
 * @param wasSealed Whether a codec has opened it: then it must name its stream.
 * @throws NoFrame if it is none, or one of another stream.
 */
export function readFrame(
  data: Uint8Array,
  stream: StreamName,
  stored: number | null,
  now: number,
  wasSealed: boolean,
): Frame {
  try {
    const body = parsed(data);
    const attempt = text(member(body, "a"));
    const number = natural(member(body, "n"));
    const forms = array(member(body, "e"));
    const found = member(body, "o");
    const header = found === undefined ? null : headerOf(object(found), attempt);
    const origin = header?.origin ?? null;
    if (origin !== null && !isOf(origin, stream)) {
      throw new Broken("a header of another stream");
    }
    if (wasSealed && member(body, "s") !== nameOf(stream)) {
      throw new Broken("sealed for another stream");
    }
    const started = header?.started ?? 0;
    const soonest = Math.min((stored ?? Infinity) * 1000 + FUTURE, now * 1000 + FAR_FUTURE);
    if (origin !== null && started > soonest) {
      throw new Broken("an attempt of the future");
    }
    const open = origin === null ? undefined : member(body, "c");
    return {
      attempt,
      number,
      origin,
      calls: origin === null || open === undefined ? [] : array(open).map((call) => callOf(call, origin)),
      forms,
      started,
      scheduled: header?.scheduled ?? null,
    };
  } catch (error) {
    if (error instanceof Broken) {
      throw new NoFrame(error.message);
    }
    throw error;
  }
}

/** Return the facts of a call. */
export function callOf(value: unknown, origin: Origin): Call {
  const facts = object(value);
  const ordinal = natural(member(facts, "i"));
  return {
    ordinal,
    id: `${origin.activity_id}:${ordinal}`,
    run_id: given(text, member(facts, "run"), ""),
    node_name: given(text, member(facts, "node"), ""),
    path: given(texts, member(facts, "path"), []),
    step: optional(integer, member(facts, "step")),
    agent_name: optional(text, member(facts, "agent")),
    model: optional(text, member(facts, "model")),
    provider: optional(text, member(facts, "provider")),
    tags: given(texts, member(facts, "tags"), []),
    tool_call_id: optional(text, member(facts, "tool")),
    parent: optional(natural, member(facts, "up")),
    task_id: optional(text, member(facts, "task")),
    node_run_id: optional(text, member(facts, "nrun")),
    metadata: optional(object, member(facts, "meta")),
  };
}

/** Return the name of a stream, as it stands in its key. */
export function nameOf(stream: StreamName): string {
  return [stream.namespace, stream.workflow_id, stream.run_id].map(encoded).join("/");
}

/** Return the name of a workflow, as it stands in the key of its newest run. */
export function workflowNameOf(namespace: string, workflowId: string): string {
  return `${encoded(namespace)}/${encoded(workflowId)}`;
}

function encoded(part: string): string {
  const bytes = new TextEncoder().encode(part);
  let name = "";
  for (const byte of bytes) {
    const letter = String.fromCharCode(byte);
    const stays = byte >= 0x20 && byte < 0x7f && !"/%{}".includes(letter);
    name += stays ? letter : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return name;
}

function parsed(data: Uint8Array): Facts {
  if (data.length > MOST_BYTES) {
    throw new Broken("larger than any frame");
  }
  let body: unknown;
  try {
    const json = utf8.decode(data);
    checkShape(json);
    body = JSON.parse(json);
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) {
      throw new Broken("not JSON");
    }
    throw error;
  }
  const facts = object(body);
  if (member(facts, "v") !== VERSION) {
    throw new Broken("another version");
  }
  return facts;
}

/** Refuse what is nested deeper, or holds more, than any writer's; what stands within strings does not count. */
function checkShape(json: string): void {
  if (json.length <= DEEPEST) {
    return;
  }
  let depth = 0;
  let values = 0;
  let isWithin = false; // a string
  for (let at = 0; at < json.length; at += 1) {
    const letter = json.charCodeAt(at);
    if (isWithin) {
      if (letter === 0x5c) {
        at += 1; // whatever a backslash escapes
      } else if (letter === 0x22) {
        isWithin = false;
      }
    } else if (letter === 0x22) {
      isWithin = true;
    } else if (letter === 0x5b || letter === 0x7b) {
      depth += 1;
      values += 1;
    } else if (letter === 0x5d || letter === 0x7d) {
      depth -= 1;
    } else if (letter === 0x2c) {
      values += 1;
    }
    if (depth > DEEPEST || values > MOST_VALUES) {
      throw new Broken("nested too deep, or too many values");
    }
  }
}

function headerOf(facts: Facts, attempt: string): { origin: Origin; started: number; scheduled: number | null } {
  const started = integer(member(facts, "t"));
  const scheduled = given(integer, member(facts, "sch"), null as number | null);
  const origin: Origin = {
    namespace: text(member(facts, "ns")),
    workflow_id: text(member(facts, "wf")),
    workflow_type: text(member(facts, "wft")),
    run_id: text(member(facts, "run")),
    activity_id: text(member(facts, "act")),
    activity_type: text(member(facts, "actt")),
    attempt: natural(member(facts, "try")),
    attempt_id: attempt,
    started_time: timeOf(started),
    scheduled_time: scheduled === null ? null : timeOf(scheduled),
    parent: null,
  };
  return { origin, started, scheduled };
}

/** Return a time as events have it: ISO 8601 to the microsecond, without a fraction where that is zero. */
function timeOf(microseconds: number): string {
  if (microseconds < EARLIEST || microseconds >= LATEST) {
    throw new Broken("a time beyond all");
  }
  const fraction = ((microseconds % 1_000_000) + 1_000_000) % 1_000_000;
  const seconds = new Date((microseconds - fraction) / 1000).toISOString().slice(0, 19);
  return `${seconds}${fraction === 0 ? "" : `.${String(fraction).padStart(6, "0")}`}+00:00`;
}

function isOf(origin: Origin, stream: StreamName): boolean {
  return (
    origin.namespace === stream.namespace &&
    origin.workflow_id === stream.workflow_id &&
    origin.run_id === stream.run_id
  );
}
