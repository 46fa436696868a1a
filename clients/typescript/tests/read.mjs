// Prints the events of a workflow, one line of JSON each: node read.mjs LIBRARY REDIS TEMPORAL WORKFLOW LEAVING [CURSOR]
// LEAVING: after how many events the reader leaves and comes back with the cursor of the last; 0 for never.

import { Client, Connection } from "@temporalio/client";

import { subscribe } from "../dist/index.js";

const [library, redisUrl, address, workflowId, leaving, from] = process.argv.slice(2);
const redis = await connected();
const connection = await Connection.connect({ address });
const temporal = new Client({ connection });

let cursor = from;
let hasEnded = false;
while (!hasEnded) {
  let received = 0;
  for await (const event of subscribe(workflowId, { redis, temporal, ...(cursor ? { cursor } : {}) })) {
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
