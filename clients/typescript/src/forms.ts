/** Events as they stand in a frame: docs/protocol.md, section Events. */

import { createHash, type Hash } from "node:crypto";

import type { Call, Origin, StreamEvent } from "./events.js";
import { callOf } from "./frames.js";
import { Position } from "./cursor.js";
import {
  array,
  Broken,
  type Facts,
  given,
  integer,
  member,
  natural,
  object,
  optional,
  text,
  texts,
  truth,
} from "./values.js";

const MOST_OPEN_CALLS = 10_000;

/** What the text of a call adds up to so far. */
class Digest {
  pieces = 0;
  readonly #hash: Hash = createHash("sha256");

  add(said: string, pieces: number): void {
    this.pieces += pieces;
    this.#hash.update(Buffer.from(said, "utf16le"));
  }

  /** Return the check of all that was added; the last use of this object. */
  hex(): string {
    return this.#hash.digest("hex").slice(0, 16);
  }
}

/** What an attempt has under way: its open calls, and their texts. */
export class OpenCalls {
  #calls = new Map<number, Call>();
  readonly #digests = new Map<number, Digest>();
  readonly #origin: Origin;

  constructor(origin: Origin) {
    this.#origin = origin;
  }

  /** Take over the calls that a header names. */
  replace(calls: readonly Call[]): void {
    this.#calls = new Map(calls.map((call) => [call.ordinal, call]));
  }

  /** Return the events of a frame, each with its cursor; what is broken costs itself, and is a gap. */
  unfold(forms: readonly unknown[], prefix: string): StreamEvent[] {
    const events: StreamEvent[] = [];
    let position: number = Position.FIRST;
    for (const form of forms) {
      const place = { v: 1, cursor: `${prefix}${position}`, origin: this.#origin } as const;
      try {
        const parts = array(form);
        const [kind] = parts;
        if (kind === "text" || kind === "reasoning") {
          const pieces = this.#text(kind, parts, prefix, position);
          events.push(...pieces);
          position += pieces.length;
          continue;
        }
        if (parts.length === 0) {
          throw new Broken("an event has a kind");
        }
        const event = this.#one(kind, parts, place);
        if (event !== null) {
          events.push(event);
        }
      } catch (error) {
        if (!(error instanceof Broken)) {
          throw error;
        }
        events.push({ ...place, type: "gap", missing: null, reason: "unreadable", call: null });
      }
      position += 1;
    }
    if (this.#digests.size > MOST_OPEN_CALLS) {
      this.#digests.clear();
    }
    return events;
  }

  #text(kind: "text" | "reasoning", parts: readonly unknown[], prefix: string, position: number): StreamEvent[] {
    atLeast(parts, 4);
    const index = natural(parts[2]);
    const pieces = texts(parts[3]);
    const merged = parts.length > 4 ? natural(parts[4]) : pieces.length;
    const number = parts[5];
    const block = typeof number === "number" && Number.isSafeInteger(number) && number > 0 ? number : 0;
    const call = this.#call(parts[1]);
    if (kind === "text") {
      this.#digest(call.ordinal).add(pieces.join(""), merged);
    }
    return pieces.map((token, place) => {
      const event = { v: 1, cursor: `${prefix}${position + place}`, origin: this.#origin, token } as const;
      return kind === "reasoning"
        ? { ...event, type: kind, index: index + place, call, block }
        : {
            ...event,
            type: "token",
            node_name: call.node_name,
            index: index + place,
            is_final: false,
            attempt: this.#origin.attempt,
            call,
            block,
          };
    });
  }

  /** Return the event of a form; `null` for a check that agrees, and for a kind of a later version. */
  #one(kind: unknown, parts: readonly unknown[], place: Place): StreamEvent | null {
    switch (kind) {
      case "call": {
        const call = callOf(parts[1], this.#origin);
        this.#keep(call);
        return { ...place, type: "call_started", call };
      }
      case "call_end":
        return this.#callEnd(parts, place);
      case "check":
        return this.#check(parts, place);
      case "tool_call":
        atLeast(parts, 6);
        return {
          ...place,
          type: "tool_call_chunk",
          index: Number.isInteger(parts[2]) ? integer(parts[2]) : optional(text, parts[2]),
          id: optional(text, parts[3]),
          name: optional(text, parts[4]),
          args: text(parts[5]),
          invalid: parts[6] === true,
          call: this.#call(parts[1]),
        };
      case "block":
        return { ...place, type: "content_block", block: object(parts[2]), call: this.#call(parts[1]) };
      case "gap": {
        atLeast(parts, 4);
        const reason = text(parts[3]) as "lost"; // a later version may have more words
        const missing = optional(natural, parts[2]);
        const call = parts[1] === null ? null : this.#call(parts[1]);
        return { ...place, type: "gap", missing, reason, call };
      }
      case "attempt_end": {
        atLeast(parts, 3);
        const outcome = text(parts[1]) as "failed"; // as above
        const ended = { ...place, type: "attempt_ended", outcome, will_retry: optional(truth, parts[2]) } as const;
        this.#calls.clear();
        return ended;
      }
      default:
        return Object.hasOwn(AROUND, text(kind))
          ? around(kind as keyof typeof AROUND, object(parts[1]), place)
          : null;
    }
  }

  #callEnd(parts: readonly unknown[], place: Place): StreamEvent {
    const ordinal = natural(parts[1]);
    const facts = object(parts[2]);
    const ended: StreamEvent = {
      ...place,
      type: "call_ended",
      call: this.#calls.get(ordinal) ?? this.#unknown(ordinal),
      usage: usageOf(member(facts, "usage")),
      finish_reason: optional(text, member(facts, "finish")),
      error: optional(text, member(facts, "error")),
      message_id: optional(text, member(facts, "msg")),
      streamed: !given(truth, member(facts, "whole"), false),
      unfinished: given(truth, member(facts, "open"), false),
      additional_kwargs: optional(object, member(facts, "more")),
    };
    this.#calls.delete(ordinal);
    return ended;
  }

  #check(parts: readonly unknown[], place: Place): StreamEvent | null {
    atLeast(parts, 4);
    const ordinal = natural(parts[1]);
    const digest = text(parts[3]);
    const read = this.#digests.get(ordinal) ?? new Digest();
    const missing = natural(parts[2]) - read.pieces;
    const call = this.#call(ordinal);
    this.#digests.delete(ordinal);
    if (missing === 0 && read.hex() === digest) {
      return null;
    }
    return { ...place, type: "gap", missing: missing > 0 ? missing : null, reason: "mismatch", call };
  }

  #call(value: unknown): Call {
    const ordinal = natural(value);
    const known = this.#calls.get(ordinal);
    if (known !== undefined) {
      return known;
    }
    const unknown = this.#unknown(ordinal);
    this.#keep(unknown);
    return unknown;
  }

  /** Stand in for a call whose start was lost. */
  #unknown(ordinal: number): Call {
    return callOf({ i: ordinal, node: this.#origin.activity_type }, this.#origin);
  }

  #keep(call: Call): void {
    if (this.#calls.size >= MOST_OPEN_CALLS && !this.#calls.has(call.ordinal)) {
      throw new Broken("too many open calls");
    }
    this.#calls.set(call.ordinal, call);
  }

  #digest(ordinal: number): Digest {
    let digest = this.#digests.get(ordinal);
    if (digest === undefined) {
      digest = new Digest();
      this.#digests.set(ordinal, digest);
    }
    return digest;
  }
}

interface Place {
  readonly v: 1;
  readonly cursor: string;
  readonly origin: Origin;
}

function atLeast(parts: readonly unknown[], count: number): void {
  if (parts.length < count) {
    throw new Broken("an event lacks an element");
  }
}

/** Return what is numbers in `usage_metadata`, and in the details within it. */
function usageOf(value: unknown): Facts | null {
  if (value === undefined || value === null) {
    return null;
  }
  const found = Object.entries(object(value)).flatMap(([name, count]): [string, unknown][] => {
    if (!name.endsWith("_details")) {
      return Number.isInteger(count) ? [[name, count]] : [];
    }
    if (typeof count !== "object" || count === null || Array.isArray(count)) {
      return [];
    }
    return [[name, Object.fromEntries(Object.entries(count).filter(([, part]) => Number.isInteger(part)))]];
  });
  return found.length === 0 ? null : Object.fromEntries(found);
}

type Reader = (value: unknown) => unknown;
const anything: Reader = (value) => value;

// The members of each form around the calls: the event's name for it, the form's, how to read it, and what it is
// where it is absent; without that, it must be there.
type Member = readonly [string, string, Reader, unknown?];
const WHERE: readonly Member[] = [
  ["node_name", "node", text, ""],
  ["path", "path", texts, []],
  ["step", "step", integer, null],
  ["task_id", "task", text, null],
  ["node_run_id", "nrun", text, null],
];
const NAMED: readonly Member[] = [
  ["name", "name", text],
  ["run_id", "run", text, ""],
  ["tool_call_id", "id", text, null],
];
const INPUT: readonly Member[] = [
  ["input", "in", text, null],
  ["truncated", "cut", truth, false],
];
const OUTPUT: readonly Member[] = [
  ["error", "error", text, null],
  ["output", "out", anything, null],
  ["truncated", "cut", truth, false],
  ["unfinished", "open", truth, false],
];
const DATA: readonly Member[] = [
  ["data", "data", anything, null],
  ["truncated", "cut", truth, false],
];
const RUN: readonly Member[] = [["run_id", "run", text, ""]];
const AGENT: readonly Member[] = [["agent_name", "agent", text, null]];
const IDS: readonly Member[] = [
  ["made_ids", "mids", texts, []],
  ["known_ids", "kids", texts, []],
  ["known_inner_ids", "iids", texts, []],
];
const STOPPED: readonly Member[] = [["interrupted", "stop", truth, false]];
const FORWARDED: readonly Member[] = [["forwarded", "fwd", truth, false]];
const COUNT: readonly Member[] = [["document_count", "count", integer, null]];

const AROUND = {
  tool: ["tool_started", [...WHERE, ...NAMED, ...INPUT]],
  tool_end: ["tool_ended", [...WHERE, ...NAMED, ...OUTPUT, ...STOPPED, ["output", "out", text, null]]],
  retriever: ["retriever_started", [...WHERE, ...NAMED, ...INPUT]],
  retriever_end: ["retriever_ended", [...WHERE, ...NAMED, ...COUNT, ...OUTPUT]],
  node: ["node_started", [...WHERE, ...RUN, ...AGENT]],
  node_end: ["node_ended", [...WHERE, ...RUN, ...OUTPUT, ...STOPPED, ...FORWARDED, ...AGENT, ...IDS]],
  custom: ["custom", [...WHERE, ["name", "name", text], ...DATA, ...FORWARDED]],
  graph: ["graph", [["mode", "mode", text], ["path", "path", texts, []], ...DATA]],
} as const satisfies { [kind: string]: readonly [string, readonly Member[]] };

function around(kind: keyof typeof AROUND, facts: Facts, place: Place): StreamEvent {
  const [type, members] = AROUND[kind];
  const values = members.map(([name, short, read, absent]) => {
    const value = member(facts, short);
    return [name, value === undefined && absent !== undefined ? absent : read(value)];
  });
  return { ...place, type, ...Object.fromEntries(values) } as StreamEvent;
}
