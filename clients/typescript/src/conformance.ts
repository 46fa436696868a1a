/** The reader of the conformance suite: answers each line with a line. docs/conformance.md has the form. */

import { createInterface } from "node:readline";

import { InvalidCursor } from "./cursor.js";
import type { StreamName } from "./frames.js";
import { type Entry, RunReader } from "./reader.js";

interface Request {
  readonly stream: StreamName;
  readonly entries: readonly {
    readonly id: string;
    readonly fields?: { readonly [name: string]: string };
    readonly base64?: string;
  }[];
  readonly begun: string | null;
  readonly cursor: string | null;
  readonly sealed: boolean;
  readonly closed: boolean;
  /** Of our own tests, not of the suite: whether nothing of an attempt is shown before it has succeeded. */
  readonly hold?: boolean;
}

function answer(request: Request): unknown {
  try {
    const reader = new RunReader(request.stream, {
      cursor: request.cursor,
      sealed: request.sealed,
      hold: request.hold ?? false,
    });
    const entries = request.entries.map(entryOf);
    const events = [
      ...reader.begin(entries.at(-1)?.id ?? ""),
      ...reader.read(entries, request.begun),
      ...reader.end(request.begun),
      ...(request.closed ? reader.tail() : []),
    ];
    return { events, skipped: reader.skipped };
  } catch (error) {
    if (error instanceof InvalidCursor) {
      return { error: "cursor" };
    }
    throw error;
  }
}

function entryOf(entry: Request["entries"][number]): Entry {
  if (entry.base64 !== undefined) {
    return { id: entry.id, data: Buffer.from(entry.base64, "base64") };
  }
  const value = entry.fields?.["f"];
  return { id: entry.id, data: value === undefined ? null : new TextEncoder().encode(value) };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(answer(JSON.parse(line) as Request))}\n`);
}
