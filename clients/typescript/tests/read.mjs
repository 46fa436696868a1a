// Prints the events of a workflow, one line of JSON each: node read.mjs LIBRARY REDIS TEMPORAL WORKFLOW LEAVING [CURSOR]
// LEAVING: after how many events the reader leaves and comes back with the cursor of the last; 0 for never; `snapshot`
// for one of what is there. READ_OPTIONS has more options, as JSON; READ_KEYS the keys of the codec, if there is one.

import { Client, Connection } from "@temporalio/client";

import { snapshot, subscribe } from "../dist/index.js";

import { AesCodec } from "./aes_codec.mjs";

const [library, redisUrl, address, workflowId, leaving, from] = process.argv.slice(2);
const redis = await connected();
const connection = await Connection.connect({ address });
const keys = process.env.READ_KEYS?.split(",") ?? [];
const dataConverter = keys.length > 0 ? { payloadCodecs: [new AesCodec(...keys)] } : {};
const temporal = new Client({ connection, dataConverter });
const options = { redis, temporal, ...JSON.parse(process.env.READ_OPTIONS ?? "{}") };

let cursor = from;
let hasEnded = leaving === "snapshot";
if (hasEnded) {
  process.stdout.write(`${JSON.stringify(await snapshot(workflowId, options))}\n`);
}
while (!hasEnded) {
  let received = 0;
  for await (const event of subscribe(workflowId, { ...options, ...(cursor ? { cursor } : {}) })) {
    process.stdout.write(`${JSON.stringify(event)}\n`);
    cursor = event.cursor;
    hasEnded = event.type === "stream_ended";
    received += 1;
    if (received === Number(leaving)) {
      break;
    }
  }
}
await connection.close();
await (library === "ioredis" ? redis.quit() : redis.close());

async function connected() {
  if (library === "ioredis") {
    const { Redis } = await import("ioredis");
    return new Redis(redisUrl);
  }
  const { createClient } = await import("redis");
  return createClient({ url: redisUrl }).connect();
}
