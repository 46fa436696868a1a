// The same with Hono: `serve(app)` of @hono/node-server runs it.

import { Hono } from "hono";
import { streamSSE } from "hono/streaming";

import { subscribe } from "@temporal-token-interceptor/reader";

import { redis, temporal } from "./connections.mjs";

export const app = new Hono();

app.get("/chats/:id", (context) =>
  streamSSE(context, async (stream) => {
    const cursor = context.req.header("last-event-id");
    const { signal } = context.req.raw;
    const options = { redis, temporal, signal, ...(cursor ? { cursor } : {}) };
    for await (const event of subscribe(context.req.param("id"), options)) {
      await stream.writeSSE({ event: event.type, id: event.cursor, data: JSON.stringify(event) });
    }
  }),
);
