"""OpenAI's and LangGraph's SDKs for Python on the same streams: what they have is what stands."""

import asyncio
import json

import httpx
import httpx2
import pytest
from langgraph_sdk.client import LangGraphClient
from openai import APIError, OpenAI
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from temporal_token_interceptor.gateway.formats.langgraph_events import LangGraphEncoder
from temporal_token_interceptor.gateway.formats.openai_chunks import ChatCompletionsEncoder
from temporal_token_interceptor.gateway.formats.openai_events import ResponsesEncoder, response_facts
from temporal_token_interceptor.views.changes import joined_halves, whole_characters
from tests.clients.corpus import cases
from tests.support.held import a_held_stream

pytestmark = pytest.mark.timeout(300)  # a corpus is hundreds of streams

FACTS = response_facts("resp_1", model="workflow", created_at=1)
STATUS = {"completed": "completed", "canceled": "cancelled"}
KINDS = {"message": "text", "reasoning": "reasoning", "function_call": "tool_call"}


def openai_of(frames):
    """An SDK whose server sends these frames, whatever it is asked."""
    lines = "".join(
        f"event: {frame['type']}\ndata: {json.dumps(frame)}\n\n"
        if "type" in frame
        else f"data: {json.dumps(frame)}\n\n"
        for frame in frames
    )
    body = lines if "type" in frames[0] else f"{lines}data: [DONE]\n\n"
    answer = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=body)
    )
    return OpenAI(
        base_url="http://here/openai/v1", api_key="none", http_client=httpx2.Client(transport=answer)
    )


def filled(texts):
    return [text for text in texts if text]


def text_of(item):
    """What stands in an item of a response."""
    if item.type == "function_call":
        return item.arguments
    return joined_halves("".join(part.text for part in item.content or ()))


def shown_by_items(frames):
    """What a program has that keeps each item's snapshot, and what the helper returns at the end."""
    items, response = {}, None
    with openai_of(frames).responses.stream(model="workflow", input="hi") as stream:
        for event in stream:
            match event.type:
                case "response.output_item.added" | "response.output_item.done":
                    items[event.output_index] = (event.item.type, text_of(event.item))
                case "response.output_text.delta":
                    items[event.output_index] = ("message", joined_halves(event.snapshot))
                case "response.function_call_arguments.delta":
                    items[event.output_index] = ("function_call", joined_halves(event.snapshot))
                case "response.reasoning_text.delta":
                    kind, text = items[event.output_index]
                    items[event.output_index] = (kind, text + event.delta)
                case "response.completed":
                    response = stream.get_final_response()
                case "response.failed" | "response.incomplete":
                    response = event.response
    texts = {name: [] for name in KINDS.values()}
    for kind, text in items.values():
        texts[KINDS[kind]].append(joined_halves(text))
    return texts, response


def test_responses():
    """At the end and right after each retraction; a failed response is in its last event."""
    ends = marks = 0
    for case in cases(lambda: ResponsesEncoder(FACTS)):
        for frames, want in [(case.frames, case.end), *((case.frames[:at], seen) for at, seen in case.marks)]:
            texts, response = shown_by_items(frames)
            for kind, got in texts.items():
                assert filled(got) == filled(getattr(want, kind))
            if want.status is None:
                marks += 1
                continue
            ends += 1
            final = {name: [] for name in KINDS.values()}
            for item in response.output:
                final[KINDS[item.type]].append(text_of(item))
            assert final == {kind: getattr(want, kind) for kind in final}
            assert response.status == STATUS.get(want.status, "failed")
    print({"ends": ends, "marks": marks})
    assert ends >= 250
    assert marks > 200


def test_chat_completions():
    """Held until it stands; a workflow that does not complete is an error that the SDK raises."""
    seen = 0

    def encoder():
        return ChatCompletionsEncoder("chatcmpl-1", model="workflow", created=1)

    for case in cases(encoder, made=a_held_stream, is_wanted=takes_nothing_back, late=False):
        if case.end.status is None:
            continue
        try:
            with openai_of(case.frames).chat.completions.stream(
                model="workflow", messages=[{"role": "user", "content": "hi"}]
            ) as stream:
                message = stream.get_final_completion().choices[0].message
        except APIError:
            assert case.end.status != "completed"
            continue
        seen += 1
        assert case.end.status == "completed"
        assert joined_halves(message.content or "") == joined_halves("".join(case.end.text))
        calls = [call.function.arguments for call in message.tool_calls or ()]
        assert [joined_halves(one) for one in calls] == case.end.tool_call
    assert seen >= 40


def takes_nothing_back(changes, _):
    """Whether a held stream is one that chat completions can show: no workflow was reset in it."""
    return not any(change.op == "remove" for change in changes)


# ---------------------------------------------------------------------- LangGraph


def langgraph_of(frames):
    """A server of one thread, which sends these events once its run was started."""
    begun = asyncio.Event()

    async def command(request):
        begun.set()
        asked = await request.json()
        return JSONResponse({"type": "success", "id": asked["id"], "result": {"run_id": "run"}, "meta": {}})

    async def state(_):
        values = [frame["params"]["data"] for frame in frames if frame["method"] == "values"]
        return JSONResponse({"values": values[-1], "next": [], "tasks": []})

    async def events(request):
        channels = (await request.json())["channels"]
        await begun.wait()
        some = (one for one in frames if one["method"] in channels)
        lines = (f"event: {one['method']}\ndata: {json.dumps(one)}\n\n" for one in some)
        return Response("".join(lines), media_type="text/event-stream")

    return Starlette(
        routes=[
            Route("/threads/{thread}/commands", command, methods=["POST"]),
            Route("/threads/{thread}/state", state),
            Route("/threads/{thread}/stream/events", events, methods=["POST"]),
        ]
    )


async def what_one_has(message):
    """The id and text of a message; None if it was taken back."""
    try:
        await message.output
    except Exception:  # noqa: BLE001 - the SDK raises what the server reports
        return None
    return message.message_id, await message.text


async def test_langgraph():
    """Messages that were taken back raise, the others are whole, and the state has those and no more."""
    taken_back = read = 0

    def is_wanted(changes, view):
        return view.status == "completed" and any(one.op == "remove" for one in changes)

    def encoder():
        return LangGraphEncoder({"messages", "values", "tools", "custom", "lifecycle"})

    for case in cases(encoder, is_wanted=is_wanted, late=False):
        transport = httpx.ASGITransport(langgraph_of(case.frames))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            client = LangGraphClient(http)
            async with client.threads.stream(thread_id="thread", assistant_id="chat") as thread:
                await thread.run.start(input={})
                reading = [asyncio.create_task(what_one_has(one)) async for one in thread.messages]
                messages = await asyncio.gather(*reading)
                values = await thread.output
        standing = {one.id for one in case.view.items.values() if one.kind == "message"}
        have = dict(one for one in messages if one is not None)
        taken_back += len(messages) - len(have)
        read += 1
        wanted = {
            message: whole_characters(
                "".join(
                    item.text
                    for item in case.view.items.values()
                    if (item.parent, item.kind) == (message, "text")
                )
            )
            for message in standing
        }
        assert {one["id"] for one in values["messages"]} == standing
        assert {name: text for name, text in have.items() if name in standing} == wanted
    print({"read": read, "taken back": taken_back})
    assert read >= 40
    assert taken_back >= 40
