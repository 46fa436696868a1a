/** Places in a stream: docs/protocol.md, section Cursors. */

/** Positions within an entry of what a reader adds; what the writer sent counts from `FIRST`. */
export const Position = {
  BEFORE: -1,
  STARTED: 0,
  GAP: 1,
  FIRST: 2,
  LAST_RELEASED: 998_000_000,
  TAIL: 999_000_000,
  END: 999_999_999,
} as const;

export interface Cursor {
  readonly run: string;
  /** The entry of the transport that was read last, padded; empty for none. */
  readonly entry: string;
  /** The entry of Temporal's history that was read last; empty for none. */
  readonly history: string;
  readonly position: number;
  /** Whether the event came from the history: then `position` is one of `history`. */
  readonly isFromHistory: boolean;
}

/** A cursor that no reader has given out. */
export class InvalidCursor extends Error {
  override readonly name = "InvalidCursor";
}

const FORM = /^1~([A-Za-z0-9_-]+)~([A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?)~([0-9]{1,9})$/;
const HISTORY = /^h[0-9]{15}(?:-[0-9]{4,9})?$/;
const ENTRY = /^z?([0-9]{1,20})-z?([0-9]{1,20})$/;
const WIDTHS = [15, 10] as const; // of both numbers of an id: to the year 33658, and entries of one millisecond
const WIDEST = 20;
const LARGEST = 2n ** 64n - 1n;
const LONGEST = 128;

/**
 * Read a cursor back.
 *
 * It names how far a reader came in the transport and in Temporal's history; what was read last comes last.
 *
 * @throws InvalidCursor if it is none, or one of another transport.
 */
export function parseCursor(text: string): Cursor {
  const match = text.length <= LONGEST ? FORM.exec(text) : null;
  if (match === null) {
    throw new InvalidCursor("not a cursor of this protocol: pass the `cursor` of an event as it is, or none");
  }
  const [, run = "", entries = "", position = ""] = match;
  const parts = entries.split(".");
  const history = parts.find((part) => part.startsWith("h")) ?? "";
  const entry = parts.find((part) => !part.startsWith("h")) ?? "";
  if ((entry !== "" && !isId(entry)) || (history !== "" && !HISTORY.test(history))) {
    throw new InvalidCursor("the cursor is of another transport than Redis: pass none to read from the start");
  }
  return { run, entry, history, position: Number(position), isFromHistory: (parts.at(-1) ?? "").startsWith("h") };
}

/** Return the prefix of all cursors of an entry: a position follows. */
export function prefixOf(run: string, entry: string): string {
  return `1~${run}~${entry}~`;
}

/** Whether a text is an id of Redis, padded or not. */
export function isId(text: string): boolean {
  const match = ENTRY.exec(text);
  return match !== null && [match[1], match[2]].every((number) => BigInt(number ?? "") <= LARGEST);
}

/** Return an id of Redis as entries have it: padded, so that ids sort as strings, also those that a client made up. */
export function padded(id: string): string {
  const [milliseconds = "", number = ""] = id.split("-");
  return `${wide(milliseconds, WIDTHS[0])}-${wide(number, WIDTHS[1])}`;
}

function wide(number: string, width: number): string {
  return number.length > width ? `z${number.padStart(WIDEST, "0")}` : number.padStart(width, "0");
}

/** Return a padded id as Redis writes it. */
export function unpadded(entry: string): string {
  const [milliseconds = "0", number = "0"] = entry.replaceAll("z", "").split("-");
  return `${BigInt(milliseconds)}-${BigInt(number)}`;
}

/** Return the position that a cursor names. */
export function positionOf(cursor: string): number {
  return Number(cursor.slice(cursor.lastIndexOf("~") + 1));
}
