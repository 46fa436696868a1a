/** Sealed frames: docs/protocol.md, section Sealed frames. */

import type { Entry } from "./reader.js";

/** A payload of Temporal; `Payload` of `@temporalio/common` fits. */
export interface Payload {
  metadata?: Record<string, Uint8Array> | null;
  data?: Uint8Array | null;
}

/** A payload codec; one of `@temporalio/common` fits, as `dataConverter.payloadCodecs` has it. */
export interface PayloadCodec {
  decode(payloads: Payload[]): Promise<Payload[]>;
}

const JSON_PLAIN = "json/plain";
const utf8 = new TextDecoder();

/** Whether an entry begins as a payload in protobuf does. */
export function looksSealed(data: Uint8Array | null): boolean {
  return data?.[0] === 0x0a || data?.[0] === 0x12;
}

/**
 * Return entries as a reader wants them: opened, or with the reason why they cannot be.
 *
 * @param codecs Those of the Temporal client, in their order; the last one is applied first, as Temporal does.
 * @param acceptPlain Whether workers without the codec may still write.
 */
export async function opened(
  entries: readonly Entry[],
  codecs: readonly PayloadCodec[],
  acceptPlain: boolean,
): Promise<Entry[]> {
  const found: Entry[] = [];
  for (const entry of entries) {
    found.push(looksSealed(entry.data) || codecs.length > 0 ? await open(entry, codecs, acceptPlain) : entry);
  }
  return found;
}

async function open(entry: Entry, codecs: readonly PayloadCodec[], acceptPlain: boolean): Promise<Entry> {
  const { id, data } = entry;
  const payload = data !== null && looksSealed(data) ? parsed(data) : null;
  const encoding = payload === null ? "" : encodingOf(payload);
  if (payload === null || encoding === "" || encoding === JSON_PLAIN) {
    // Any client can write a payload that no codec has touched.
    const plain = encoding === JSON_PLAIN ? { id, data: payload?.data ?? null } : entry;
    const isRefused = codecs.length > 0 && !acceptPlain;
    return isRefused ? { ...plain, unopened: "a frame is not sealed, and this reader has a payload codec" } : plain;
  }
  const failed = (reason: string): Entry => ({ id, data, unopened: `a frame is encoded as "${encoding}", and ${reason}` });
  if (codecs.length === 0) {
    return failed("this reader has no payload codec");
  }
  let payloads: Payload[] = [payload];
  try {
    for (const codec of [...codecs].reverse()) {
      payloads = await codec.decode(payloads);
    }
  } catch (error) {
    return failed(`this reader's codec cannot decode it (${error instanceof Error ? error.name : typeof error})`);
  }
  const [frame] = payloads;
  return frame !== undefined && encodingOf(frame) === JSON_PLAIN
    ? { id, data: frame.data ?? new Uint8Array(), wasSealed: true }
    : failed("this reader's codec leaves it so");
}

function encodingOf(payload: Payload): string {
  return utf8.decode(payload.metadata?.["encoding"]?.subarray(0, 40) ?? new Uint8Array());
}

/** Read a payload in protobuf: metadata is field 1, a map, and data is field 2. Return `null` for what is none. */
function parsed(data: Uint8Array): Payload | null {
  const fields = fieldsOf(data);
  if (fields === null) {
    return null;
  }
  const metadata: Record<string, Uint8Array> = {};
  let found = new Uint8Array();
  for (const [number, value] of fields) {
    if (number === 2) {
      found = new Uint8Array(value);
    } else if (number === 1) {
      const entry = fieldsOf(value);
      if (entry === null) {
        return null;
      }
      const parts = new Map(entry);
      metadata[utf8.decode(parts.get(1) ?? new Uint8Array())] = parts.get(2) ?? new Uint8Array();
    }
  }
  return { metadata, data: found };
}

/** Return the fields of a message, all of which have a length; `null` if it has others or ends early. */
function fieldsOf(data: Uint8Array): [number, Uint8Array][] | null {
  const fields: [number, Uint8Array][] = [];
  let at = 0;
  while (at < data.length) {
    const tag = data[at] ?? 0;
    at += 1;
    if ((tag & 7) !== 2 || tag >= 0x80) {
      return null;
    }
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = data[at];
      at += 1;
      if (byte === undefined || shift > 28) {
        return null;
      }
      length += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) {
        break;
      }
    }
    if (at + length > data.length) {
      return null;
    }
    fields.push([tag >> 3, data.subarray(at, at + length)]);
    at += length;
  }
  return fields;
}
