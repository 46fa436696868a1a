// app/chats/[id]/route.js of a Next.js app: the events of a workflow as server-sent events. A browser's EventSource
// resumes by itself: it sends the id of the last event that it received, and that is the event's cursor.
// Ask your own session first whether this user may read this workflow: an id is no credential.

import { subscribe } from "@temporal-token-interceptor/reader";

import { redis, temporal } from "./connections.mjs";

export async function GET(request, { params }) {
  const { id } = await params;
  const cursor = request.headers.get("last-event-id") ?? undefined;
  const events = subscribe(id, { redis, temporal, signal: request.signal, ...(cursor ? { cursor } : {}) });
  const text = new ReadableStream({
    async pull(controller) {
      const { done, value } = await events.next();
      if (done) {
        controller.close();
      } else {
        controller.enqueue(`event: ${value.type}\nid: ${value.cursor}\ndata: ${JSON.stringify(value)}\n\n`);
      }
    },
    async cancel() {
      await events.return();
    },
  });
  return new Response(text.pipeThrough(new TextEncoderStream()), {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
  });
}
