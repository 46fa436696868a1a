/** Streams in Redis, over the client that the user has: `ioredis` or `redis`. */

import { nameOf, type StreamName, workflowNameOf } from "./frames.js";
import type { Entry } from "./reader.js";

/** A connected client of the package `ioredis`; the part that is used. */
export interface IoRedis {
  callBuffer(command: string, ...args: (string | number)[]): Promise<unknown>;
  duplicate(): IoRedis;
  disconnect(): void;
}

/** A connected client of the package `redis`; the part that is used. */
export interface NodeRedis {
  sendCommand(args: string[], options?: { typeMapping: Record<number, unknown> }): Promise<unknown>;
  duplicate(): NodeRedis;
  connect(): Promise<unknown>;
  destroy(): void;
  on(event: "error", listener: (error: Error) => void): unknown;
}

export type RedisClient = IoRedis | NodeRedis;

const FIELD = "f";
const MOST = 100; // entries of a reply
const BLOB_STRING = 36; // of the Redis protocol: what the `redis` package maps to a type

/** Sends commands and returns buffers. */
export class Commands {
  readonly #client: RedisClient;

  constructor(client: RedisClient) {
    this.#client = client;
  }

  /** Return commands over a connection of their own, for those that block. */
  async apart(): Promise<Commands> {
    if ("callBuffer" in this.#client) {
      return new Commands(this.#client.duplicate());
    }
    const client = this.#client.duplicate();
    client.on("error", () => undefined); // each command reports it
    await client.connect();
    return new Commands(client);
  }

  send(...parts: (string | number)[]): Promise<unknown> {
    if ("callBuffer" in this.#client) {
      const [command = "", ...rest] = parts;
      return this.#client.callBuffer(String(command), ...rest);
    }
    return this.#client.sendCommand(parts.map(String), { typeMapping: { [BLOB_STRING]: Buffer } });
  }

  close(): void {
    if ("callBuffer" in this.#client) {
      this.#client.disconnect();
    } else {
      this.#client.destroy();
    }
  }
}

/** The keys of one run. */
export class Keys {
  readonly stream: string;
  readonly begun: string;

  constructor(prefix: string, stream: StreamName) {
    this.stream = `${prefix}{${nameOf(stream)}}`;
    this.begun = `${this.stream}:begun`;
  }

  /** Return the key that names a workflow's newest run. */
  static newest(prefix: string, namespace: string, workflowId: string): string {
    return `${prefix}{${workflowNameOf(namespace, workflowId)}}:newest`;
  }
}

/** Return the next entries after an id, waiting for them; none if there are none after so long. */
export async function next(commands: Commands, key: string, after: string, milliseconds: number): Promise<Entry[]> {
  const reply = await commands.send("XREAD", "COUNT", MOST, "BLOCK", milliseconds, "STREAMS", key, after || "0-0");
  if (reply === null) {
    return [];
  }
  return streamsIn(reply).flatMap(entriesOf);
}

/** Return the next entries after an id that are there. */
export async function after(commands: Commands, key: string, id: string): Promise<Entry[]> {
  return entriesOf(await commands.send("XRANGE", key, id === "" ? "-" : `(${id}`, "+", "COUNT", MOST));
}

/** Return the entries of each stream: a list of pairs, or a map where the connection uses RESP3, in any form. */
function streamsIn(reply: unknown): unknown[] {
  if (reply instanceof Map) {
    return [...reply.values()];
  }
  if (!Array.isArray(reply)) {
    return Object.values(reply as object);
  }
  return Array.isArray(reply[0])
    ? reply.map((pair: unknown) => (pair as unknown[])[1])
    : reply.filter((_, place) => place % 2 === 1);
}

/** Return the id of the oldest or the newest entry; empty for none. */
export async function edge(commands: Commands, key: string, which: "oldest" | "newest"): Promise<string> {
  const range = which === "oldest" ? ["XRANGE", key, "-", "+"] : ["XREVRANGE", key, "+", "-"];
  return entriesOf(await commands.send(...range, "COUNT", 1))[0]?.id ?? "";
}

/** Return the text of a key; `null` for none. */
export async function get(commands: Commands, key: string): Promise<string | null> {
  const value = await commands.send("GET", key);
  return value === null ? null : String(value);
}

function entriesOf(reply: unknown): Entry[] {
  return (reply as [unknown, unknown[] | null][]).map(([id, fields]) => {
    const at = fields?.findIndex((field, place) => place % 2 === 0 && String(field) === FIELD) ?? -1;
    return { id: String(id), data: at < 0 ? null : ((fields as Uint8Array[])[at + 1] ?? null) };
  });
}
