"""docs/providers.md, made of what was seen just now.

`TTI_UPDATE_DOCS=1 make providers` writes the page.
"""

from collections import Counter
from importlib import metadata
from pathlib import Path

from langchain_core.messages import AIMessage

from temporal_token_interceptor.capture.forcing import REFUSALS
from temporal_token_interceptor.capture.same_author import streams_as_it_generates
from temporal_token_interceptor.events import Event, ReasoningEvent, TokenEvent, ToolCallChunk
from tests.providers.answers import ANSWERS
from tests.providers.compare import differences, reason
from tests.providers.play import PLAIN, WAYS, Outcome, answers_to, plain, run, saying
from tests.providers.providers import Provider
from tests.providers.wire import Reply, Request, Wire

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"

HEAD = """\
# Real providers

What streams with each provider's package, and what differs in the results with the interceptor? The real
packages are run against a server on loopback that answers as the provider does, under the provider's own
name: every way with and without capture, all fields of all messages compared. `make providers` runs it and
checks this page; `TTI_UPDATE_DOCS=1 make providers` writes it.

What a message says never differs: its text, reasoning, tool calls, number of tokens, and why it ended. What
a reader gets adds up to the message, and so do `.messages()` and `.run()`; only the line ends at the end of a
text of Gemini's, which its package takes off plain answers, are shown. What differs beside that comes
from one thing: a model that is asked to stream answers through its own streaming path. With
`force_streaming=False`, or the tag `tti:noforce` on a call, nothing differs.

The last table of each provider has its failures, with the client's own retries off: an answer that is not
whole never passes for one, and what is refused only as a stream is asked for plainly. A client that retries
(`max_retries`) does so for the whole of a plain call; a stream that breaks after its first chunk fails the
activity, which Temporal retries.
"""


class Stage:
    """Runs each way of each provider once.

    Attributes:
        wire: The server.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._seen: dict[tuple[str, str, str], tuple[Outcome, Outcome]] = {}

    async def pair(self, provider: Provider, way: str, answer: str) -> tuple[Outcome, Outcome]:
        """Return the outcomes without and with us."""
        key = provider.name, way, answer
        if key not in self._seen:
            reply = saying(provider, answers_to(way, ANSWERS[answer]))
            bare = await run(provider, WAYS[way], self.wire, captured=False, answer=reply)
            captured = await run(provider, WAYS[way], self.wire, captured=True, answer=reply)
            self._seen[key] = bare, captured
        return self._seen[key]

    async def failing(self, provider: Provider, failure: str) -> tuple[Outcome, Outcome]:
        """Return the outcomes of a failure without and with us."""
        from tests.providers.failures import FAILURES, hanging

        key = provider.name, "failing", failure
        if key not in self._seen:

            def reply(request: Request) -> Reply:
                return FAILURES[failure](provider, request)

            REFUSALS.clear()
            # A short one for nothing else: on a loaded machine any answer may take half a second.
            timeout = provider.timeout if FAILURES[failure] is hanging else {}
            outcomes = [
                await run(provider, WAYS["ainvoke"], self.wire, captured=captured, answer=reply, **timeout)
                for captured in (False, True)
            ]
            REFUSALS.clear()
            self._seen[key] = outcomes[0], outcomes[1]
        return self._seen[key]


def cases(provider: Provider) -> list[tuple[str, str]]:
    """Return the pairs of way and answer that a provider is asked in."""
    answers = [name for name, answer in ANSWERS.items() if provider.gives(answer)]
    return [
        *((way, name) for way in PLAIN for name in answers),
        *((w, "text") for w in WAYS.keys() - PLAIN.keys()),
    ]


async def section(provider: Provider, stage: Stage) -> str:
    """Return a provider's part of the page."""
    lines = [
        f"## {provider.title}",
        "",
        f"`{provider.model_class}` of `{provider.package}` {metadata.version(provider.package)}.",
        "",
        "| | |",
        "|---|---|",
        *[f"| {name} | {value} |" for name, value in (await _facts(provider, stage)).items()],
        "",
        *await _rows(provider, stage),
        *await _failures(provider, stage),
    ]
    return "\n".join(lines)


async def _failures(provider: Provider, stage: Stage) -> list[str]:
    from tests.providers.failures import FAILURES, verdict

    rows = [f"| {name} | {verdict(*await stage.failing(provider, name))[1]} |" for name in FAILURES]
    return ["| the provider | without us | with us |", "|---|---|---|", *rows, ""]


async def _facts(provider: Provider, stage: Stage) -> dict[str, str]:
    forced = [
        name
        for name, is_async in (("`invoke`", False), ("`ainvoke`", True))
        if streams_as_it_generates(type(provider.model()), is_async=is_async)
    ]
    names = ["text", "text and two tool calls", *(["reasoning"] if provider.reasons else [])]
    pairs = [await stage.pair(provider, "ainvoke", name) for name in names]
    events = [event for _, captured in pairs for event in captured.events]
    return {
        "made to stream": " and ".join(forced) or "neither `invoke` nor `ainvoke`",
        "streams": _streamed(events),
        "Stop": "closes the connection"
        if provider.stops
        else "leaves the connection open: the client is sync, and runs on a thread until it ends",
    }


def _streamed(events: list[Event]) -> str:
    count = Counter(type(event) for event in events)
    calls = [event for event in events if isinstance(event, ToolCallChunk)]
    parts = [
        ("text", count[TokenEvent] > 2),
        ("reasoning", count[ReasoningEvent] > 1),
        ("the arguments of tool calls", len(calls) > len({call.id for call in calls if call.id})),
    ]
    whole = "tool calls, each at once"
    names = [name for name, is_streamed in parts if is_streamed]
    return ", ".join([*names, *([whole] if calls and names[-1] != parts[-1][0] else [])])


async def _rows(provider: Provider, stage: Stage) -> list[str]:
    found: dict[str, set[str]] = {}
    for way, answer in cases(provider):
        for difference in await differing(provider, stage, way, answer):
            found.setdefault(difference, set()).add(way)
    if not found:
        return ["Nothing differs.", ""]
    rows: dict[tuple[str, str | None], list[str]] = {}
    for difference, ways in sorted(found.items()):
        field, _, what = difference.partition(" ")
        key = ", ".join(way for way in WAYS if way in ways), reason(difference)
        rows.setdefault(key, []).append(f"`{field.removesuffix(':')}` {what}")
    table = [f"| {'; '.join(fields)} | {ways} | {why} |" for (ways, why), fields in rows.items()]
    return ["| differs | in | why |", "|---|---|---|", *table, ""]


async def differing(provider: Provider, stage: Stage, way: str, answer: str) -> list[str]:
    """Return what differs in a way."""
    bare, captured = await stage.pair(provider, way, answer)
    return differences(plain(bare.result), plain(captured.result))


def messages_in(outcome: Outcome) -> list[AIMessage]:
    """Return the model's messages of a result, wherever they stand."""
    result = outcome.result
    if isinstance(result, dict):
        result = [result["raw"]]
    found = result if isinstance(result, list) else [result]
    return [message for message in found if isinstance(message, AIMessage)]


def page(sections: list[str]) -> str:
    """Return the page."""
    return "\n".join([HEAD, *sections]).rstrip() + "\n"


def sections_of(text: str) -> dict[str, str]:
    """Return the parts of a page by their titles."""
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in text.split("\n## ")[1:]}
