"""Server-sent events from a plain Django view: `django-admin runserver --pythonpath . --settings ...`."""

import json
from collections.abc import Iterator

from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path

from examples.without_asyncio.reading import subscriber


def answer(request: HttpRequest, workflow_id: str) -> StreamingHttpResponse:
    def events() -> Iterator[str]:
        # Django closes this generator when the client has gone, and that closes the stream.
        for event in subscriber.subscribe(workflow_id, cursor=request.headers.get("Last-Event-ID")):
            yield f"id: {event.cursor}\ndata: {json.dumps(event.to_json())}\n\n"

    return StreamingHttpResponse(events(), content_type="text/event-stream")


urlpatterns = [path("answers/<str:workflow_id>", answer)]
