"""Server-sent events from a plain Flask view: `flask --app examples.without_asyncio.flask_app run`."""

import json
from collections.abc import Iterator

from flask import Flask, Response, request

from examples.without_asyncio.reading import subscriber

app = Flask(__name__)


@app.get("/answers/<workflow_id>")
def answer(workflow_id: str) -> Response:
    cursor = request.headers.get("Last-Event-ID")

    def events() -> Iterator[str]:
        for event in subscriber.subscribe(workflow_id, cursor=cursor):
            yield f"id: {event.cursor}\ndata: {json.dumps(event.to_json())}\n\n"

    return Response(events(), mimetype="text/event-stream")
