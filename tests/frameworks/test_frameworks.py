"""The examples for programs without asyncio, run by the real packages: `make frameworks`.

They need Django, Flask, Streamlit and Gradio, in an environment of their own.
"""

import asyncio
import json
from pathlib import Path

import pytest
from temporalio import activity

from temporal_token_interceptor import RedisStreamBackend
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.streams import read_all, streaming_worker, unique
from tests.support.workflows import RunActivity

EXAMPLES = Path(__file__).parents[2] / "examples" / "without_asyncio"
TEXT = "It is tea."


@activity.defn
async def answer(argument):
    """It breaks off once, in mid-sentence."""
    pieces = (
        ["It ", "is coff", ValueError("gone")] if activity.info().attempt == 1 else ["It ", "is ", "tea."]
    )
    return (await ScriptedChatModel.saying(*pieces, delay=0.02).ainvoke("?")).text


@pytest.fixture
async def workflow(client, redis_url, monkeypatch):
    """Starts a workflow that answers, and is being answered while it is read; returns its id."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", client.service_client.config.target_host)
    monkeypatch.setenv("REDIS_URL", redis_url)
    async with RedisStreamBackend(redis_url) as backend, streaming_worker(client, backend, [answer]) as queue:

        async def start():
            workflow_id = unique("framework")
            await client.start_workflow(
                RunActivity.run, args=["answer", None, False, 2], id=workflow_id, task_queue=queue
            )
            return workflow_id, lambda: read_all(client, backend, workflow_id)

        yield start
    from examples.without_asyncio.reading import subscriber

    await asyncio.to_thread(subscriber.close)


def events_of(body):
    return [
        json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line.startswith("data: ")
    ]


async def test_django_streams_an_answer(workflow):
    """A plain view, over Django's own handler and test client; it resumes by `Last-Event-ID`."""
    import django
    from django.conf import settings

    settings.configure(
        ROOT_URLCONF="examples.without_asyncio.django_app", ALLOWED_HOSTS=["*"], SECRET_KEY=unique("key")
    )
    django.setup()
    from django.test import Client

    workflow_id, whole = await workflow()

    def get(headers):
        response = Client().get(f"/answers/{workflow_id}", headers=headers)
        assert response["Content-Type"] == "text/event-stream"
        return events_of("".join(part.decode() for part in response.streaming_content))

    found = await asyncio.to_thread(get, {})
    assert found == [event.to_json() for event in await whole()]
    assert await asyncio.to_thread(get, {"Last-Event-ID": found[4]["cursor"]}) == found[5:]


async def test_flask_streams_an_answer(workflow):
    from examples.without_asyncio.flask_app import app

    workflow_id, whole = await workflow()

    def get(headers):
        response = app.test_client().get(f"/answers/{workflow_id}", headers=headers)
        assert response.mimetype == "text/event-stream"
        return events_of(response.text)

    found = await asyncio.to_thread(get, {})
    assert found == [event.to_json() for event in await whole()]
    assert await asyncio.to_thread(get, {"Last-Event-ID": found[4]["cursor"]}) == found[5:]


async def test_streamlit_shows_the_answer_that_stands(workflow):
    """The page as Streamlit runs it: what the attempt that failed had said is gone."""
    from streamlit.testing.v1 import AppTest

    workflow_id, _ = await workflow()

    def run():
        page = AppTest.from_file(str(EXAMPLES / "streamlit_app.py"), default_timeout=30).run()
        page.text_input(key="workflow").set_value(workflow_id).run()
        assert not page.exception
        return [element.value for element in page.markdown]

    assert await asyncio.to_thread(run) == [TEXT]


async def test_gradio_shows_the_answer_as_it_grows(workflow):
    """Over Gradio's own server and client: each step, with the retry in between."""
    from gradio_client import Client

    from examples.without_asyncio.gradio_app import page

    workflow_id, _ = await workflow()

    def run():
        page.launch(prevent_thread_lock=True, quiet=True)
        try:
            job = Client(page.local_url, verbose=False).submit(workflow_id, api_name="/answer")
            job.result(timeout=30)
            return job.outputs()
        finally:
            page.close(verbose=False)

    assert await asyncio.to_thread(run) == ["It ", "It is coff", "", "It ", "It is ", TEXT]
