// The codec of tests/support/encryption.py: AES-GCM, with keys by name.

import { createDecipheriv } from "node:crypto";

import proto from "@temporalio/proto";

const { Payload } = proto.temporal.api.common.v1;

export class AesCodec {
  #keys;

  constructor(...keys) {
    this.#keys = keys;
  }

  async encode(payloads) {
    return payloads; // this program starts nothing
  }

  async decode(payloads) {
    return payloads.map((payload) => this.#opened(payload));
  }

  #opened(payload) {
    if (String.fromCharCode(...(payload.metadata.encoding ?? [])) !== "binary/encrypted") {
      return payload;
    }
    const name = new TextDecoder().decode(payload.metadata.key);
    if (!this.#keys.includes(name)) {
      throw new Error(`no key ${name}`);
    }
    const bytes = Buffer.from(payload.data);
    const cipher = createDecipheriv("aes-256-gcm", name.padEnd(32, "."), bytes.subarray(0, 12));
    cipher.setAuthTag(bytes.subarray(-16));
    return Payload.decode(Buffer.concat([cipher.update(bytes.subarray(12, -16)), cipher.final()]));
  }
}
