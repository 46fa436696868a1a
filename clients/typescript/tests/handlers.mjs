// Prints what the examples answer: node handlers.mjs WORKFLOW EXAMPLE [CURSOR]

import { connection, redis } from "../examples/connections.mjs";

const [workflowId, example, cursor] = process.argv.slice(2);
const headers = cursor ? { "last-event-id": cursor } : {};
const request = new Request(`http://localhost/chats/${workflowId}`, { headers });
process.stdout.write(await (await answer()).text());
await connection.close();
await redis.quit();

async function answer() {
  if (example === "route") {
    const { GET } = await import("../examples/route.mjs");
    return GET(request, { params: Promise.resolve({ id: workflowId }) });
  }
  const { app } = await import("../examples/hono.mjs");
  return app.fetch(request);
}
