"""A result with us is the result without us: which calls are made to stream, and what becomes of refusals."""

import asyncio
import contextlib
import functools
import inspect
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import manager as langchain_manager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import BaseModel, ConfigDict, Field

from temporal_token_interceptor import Gap, IncompleteAnswer, TokenEvent
from temporal_token_interceptor.capture import forced_call, forced_result, forcing
from temporal_token_interceptor.capture.forcing import REFUSALS, may_be_refusal
from temporal_token_interceptor.capture.same_author import streams_as_it_generates as forced
from temporal_token_interceptor.capture.several_answers import asks_for_several
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment

WAYS = ["invoke", "ainvoke"]


@pytest.fixture(autouse=True)
def nothing_remembered():
    REFUSALS.clear()
    yield
    REFUSALS.clear()


class Own(BaseChatModel):
    """A model that answers `whole` plainly and `pieces` in a stream, and counts both."""

    whole: str = "whole"
    pieces: tuple[Any, ...] = ("a", "b")
    n: int = 1
    base_url: str | None = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    plain_calls: int = 0
    streamed_calls: int = 0

    @property
    def _llm_type(self):
        return "own"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.plain_calls += 1
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.whole))])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        self.streamed_calls += 1
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield ChatGenerationChunk(message=AIMessageChunk(piece))


async def ask(model: Any, way: str, **options: Any) -> tuple[Any, StreamingActivityEnvironment]:
    """Call a model inside an activity; return its message and what was captured."""
    environment = StreamingActivityEnvironment()

    async def activity() -> Any:
        return model.invoke("?", **options) if way == "invoke" else await model.ainvoke("?", **options)

    return await environment.run(activity), environment


class Refused(Exception):
    """An error as HTTP clients raise them."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"status {status}")
        self.status_code = status


# ------------------------------------------------------------------ several answers


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["n", "best_of", "candidate_count", "num_return_sequences"])
async def test_a_call_that_asks_for_several_answers_is_left_alone(way, name):
    model = Own()

    message, _ = await ask(model.bind(**{name: 2}), way)

    assert (message.text, model.streamed_calls) == ("whole", 0)


NAMES = ["n", "best_of", "bestOf", "candidate_count", "candidateCount", "num_return_sequences", "numResults"]
PLACES = [
    "model_kwargs",
    "extra_body",
    "generation_config",
    "generationConfig",
    "options",
    "pipeline_kwargs",
    "additional_model_request_fields",
    "inferenceConfig",
    "sampling_params",
]


class Open(Own):
    """A model that takes any option, as many packages' do."""

    model_config = ConfigDict(extra="allow")


class Settings(BaseModel):
    """Options as an object of a package."""

    model_config = ConfigDict(extra="allow")
    candidate_count: int | None = None


@given(
    st.sampled_from(NAMES),
    st.integers(2, 9) | st.just(2.0),
    st.lists(st.sampled_from(PLACES), max_size=3),
    st.booleans(),
)
def test_several_answers_are_found_wherever_they_are_asked_for(name, count, within, in_call):
    """As a field or an option, in any spelling, in what goes on to the provider, also three levels deep."""
    options: Any = {name: count}
    for place in within:
        options = {place: {"temperature": 1, **options}}

    assert asks_for_several(Own() if in_call else Open(**options), options if in_call else {})


@given(st.sampled_from(PLACES[1:]), st.integers(2, 9), st.booleans())
def test_several_answers_are_found_in_objects(place, count, in_call):
    options = {place: Settings(candidate_count=count)}

    assert asks_for_several(Own() if in_call else Open(**options), options if in_call else {})


@given(st.sampled_from(["metadata", "tools", "response_format", "messages"]), st.integers(2, 9))
def test_numbers_of_another_meaning_ask_for_nothing(place, count):
    model = Own(metadata={"n": count})

    assert not asks_for_several(model, {place: {"n": count}, "top_k": count})


class Counted(dict[str, Any]):
    """Counts what is read of it."""

    read = 0

    def items(self):
        for item in super().items():
            self.read += 1
            yield item


def test_options_are_looked_at_within_a_bound():
    """A user may hand over a document: its end is not reached."""
    deep: Any = {"n": 2}
    for _ in range(100):
        deep = {"extra_body": deep}
    wide = Counted({f"config{number}": {} for number in range(10_000)})

    assert not asks_for_several(Own(), deep)
    assert not asks_for_several(Own(), {"extra_body": wide})
    assert wide.read <= 500


@given(st.sampled_from([None, 1, 0, True, "2", [2]]))
def test_one_answer_is_made_to_stream(value):
    assert not asks_for_several(Own(model_kwargs={"n": value}), {"n": value})


# ------------------------------------------------------------------ refusals


REFUSING = [NotImplementedError("no"), ValueError("stream"), TypeError("x"), Refused(400), Refused(422)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [*REFUSING, None], ids=repr)
async def test_a_model_that_refuses_to_stream_answers_plainly(way, error, caplog):
    """The provider does not allow streaming for my organisation: my activity gets its answer all the same."""
    caplog.set_level(logging.INFO)
    model = Own(pieces=() if error is None else (error,))

    first, seen = await ask(model, way)
    second, _ = await ask(model, way)

    assert (first.text, second.text) == ("whole", "whole")
    assert seen.text == "whole"
    assert (model.streamed_calls, model.plain_calls) == (1, 2), "the refusal was not remembered"
    assert caplog.text.count("refuses to stream") == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "error", [Refused(429), Refused(500), Refused(401), TimeoutError(), ConnectionError()]
)
async def test_what_fails_alike_without_a_stream_is_not_repeated(way, error):
    """A rate limit must not cost a second request."""
    model = Own(pieces=(error,))

    with pytest.raises(type(error)):
        await ask(model, way)

    assert (model.streamed_calls, model.plain_calls) == (1, 0)
    assert model not in REFUSALS


@pytest.mark.parametrize("way", WAYS)
async def test_a_failure_after_the_first_chunk_is_the_activitys(way):
    model = Own(pieces=("half", ValueError("cut")))

    with pytest.raises(ValueError, match="cut"):
        await ask(model, way)

    assert model.plain_calls == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_that_fails_plainly_too_raises_what_it_raises_without_us(way):
    class Broken(Own):
        def _generate(self, *args, **kwargs):
            raise LookupError("the real reason")

    model = Broken(pieces=(NotImplementedError(),))

    with pytest.raises(LookupError, match="the real reason"):
        await ask(model, way)

    assert model not in REFUSALS


@given(st.integers(100, 599))
def test_an_error_of_a_server_is_repeated_only_where_the_stream_may_be_its_reason(status):
    repeated = may_be_refusal(Refused(status))

    assert repeated is (status == 501 or (400 <= status < 500 and status not in forcing._NOT_OF_STREAMING))


# ------------------------------------------------------------------ ends


def provider(package: str, finish: dict[str, Any], **options: Any) -> Any:
    """A model as a partner package defines it, whose last chunk has `finish`."""

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        yield ChatGenerationChunk(message=AIMessageChunk("half an ans"))
        yield ChatGenerationChunk(message=AIMessageChunk("wer", response_metadata=finish))

    methods = {"_stream": _stream, "_generate": Own._generate, "__module__": package}
    return type("Chat", (Own,), methods)(**options)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("package", sorted(forced_result._ALWAYS_ENDS))
async def test_half_an_answer_does_not_pass_for_whole(way, package):
    """The body ends early but cleanly: the activity fails, and Temporal retries it."""
    with pytest.raises(IncompleteAnswer):
        await ask(provider(f"{package}.chat_models", {}), way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("package", "reason"), sorted(forced_result._FAILURES))
async def test_an_answer_that_ended_by_a_failure_does_not_pass_for_whole(way, package, reason):
    """An error event in mid-stream, which the package takes for a finish reason."""
    with pytest.raises(IncompleteAnswer):
        await ask(provider(f"{package}.chat_models", {"finish_reason": reason}), way)


@pytest.mark.parametrize("name", forced_result._ENDS)
async def test_an_answer_with_its_end_is_whole(name):
    message, _ = await ask(provider("langchain_openai.chat_models", {name: "stop"}), "ainvoke")

    assert message.text == "half an answer"


async def test_an_endpoint_of_ones_own_may_leave_the_end_out():
    """A compatible server that never sends a finish reason works as without us."""
    model = provider(
        "langchain_openai.chat_models",
        {},
        __annotations__={"base_url": str | None},
        base_url="http://localhost",
    )

    message, _ = await ask(model, "ainvoke")

    assert message.text == "half an answer"


@pytest.mark.parametrize(
    ("package", "name", "endpoint"),
    [
        ("langchain_anthropic", "anthropic_api_url", "https://api.anthropic.com"),
        ("langchain_mistralai", "endpoint", "https://api.mistral.ai/v1"),
    ],
)
async def test_the_endpoint_that_a_model_fills_in_itself_is_not_ones_own(package, name, endpoint):
    """ChatAnthropic takes its endpoint from a factory, ChatMistralAI sets it when it is validated."""
    model = provider(f"{package}.chat_models", {}, __annotations__={name: str | None}, **{name: endpoint})

    with pytest.raises(IncompleteAnswer):
        await ask(model, "ainvoke")


@given(st.sampled_from(["stop", "length", "tool_calls", "end_turn", "STOP"]), st.integers(1, 4))
def test_a_finish_reason_that_came_twice_is_one(reason, times):
    message = AIMessage("x", response_metadata={"finish_reason": reason * times, "model_name": "aa"})
    result = ChatResult(generations=[ChatGeneration(message=message)])

    forced_result.mend(Own(), result)

    assert message.response_metadata == {"finish_reason": reason, "model_name": "aa"}


def streaming(package: str, *chunks: AIMessageChunk, **options: Any) -> Any:
    """A model of a partner package that streams some chunks."""

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for chunk in chunks:
            yield ChatGenerationChunk(message=chunk.model_copy(deep=True))

    methods: dict[str, Any] = {"_stream": _stream, "_generate": Own._generate}
    methods |= {"__module__": f"{package}.chat_models", "__annotations__": {"streaming": bool}}
    return type("Chat", (Own,), {**methods, "streaming": False})(**options)


END = AIMessageChunk("", response_metadata={"stop_reason": "end_turn"})
CLAUDE: list[tuple[list[Any], Any]] = [
    (["a", "b"], "ab"),
    ([[{"type": "text", "text": "a", "index": 0}], [{"type": "text", "text": "b", "index": 0}]], "ab"),
    (
        [[{"type": "text", "text": "a", "citations": [{"url": "x"}], "index": 0}]],
        [{"type": "text", "text": "a", "citations": [{"url": "x"}]}],
    ),
    (
        [
            [{"type": "thinking", "thinking": "hm", "index": 0}],
            [{"type": "thinking", "signature": "s", "index": 0}],
            "so",
        ],
        [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "so"}],
    ),
    (
        [
            [{"type": "tool_use", "id": "1", "name": "f", "input": {}, "partial_json": "", "index": 0}],
            [{"type": "input_json_delta", "partial_json": '{"a": ', "index": 0}],
            [{"type": "input_json_delta", "partial_json": "1}", "index": 0}],
        ],
        [{"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}}],
    ),
    (
        [[{"type": "tool_use", "id": "1", "name": "f", "input": {}, "partial_json": '{"a', "index": 0}]],
        [{"type": "tool_use", "id": "1", "name": "f", "input": {}, "partial_json": '{"a'}],
    ),
    ([], []),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("contents", "plain"), CLAUDE)
async def test_content_has_the_shape_of_a_plain_answer(way, contents, plain):
    """`message.content` stays a `str` where it is one without us, and tools keep their `input`."""
    model = streaming("langchain_anthropic", *map(AIMessageChunk, contents), END)

    message, _ = await ask(model, way)

    assert message.content == plain


TOOL = {"type": "tool_use", "id": "1", "name": "f"}
CONVERSE: list[tuple[list[Any], Any]] = [
    (["a", "b"], "ab"),
    ([[{"type": "text", "text": "a", "index": 0}], [{"type": "text", "text": "b", "index": 0}]], "ab"),
    (
        [[{**TOOL, "index": 1}], [{"type": "tool_use", "input": '{"a": ', "index": 1}], []],
        [{**TOOL, "input": '{"a": '}],
    ),
    (
        [
            [{"type": "reasoning_content", "reasoning_content": {"text": "hm"}, "index": 0}],
            [{"type": "text", "text": "so", "index": 1}],
            [{**TOOL, "input": '{"a": ', "index": 2}],
            [{"type": "tool_use", "input": "1}", "index": 2}],
        ],
        [
            {"type": "reasoning_content", "reasoning_content": {"text": "hm"}},
            {"type": "text", "text": "so"},
            {**TOOL, "input": {"a": 1}},
        ],
    ),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("contents", "plain"), CONVERSE)
async def test_converse_keeps_the_shape_of_a_plain_answer(way, contents, plain):
    """A `str` for text alone, arguments as values, a latency in a list; other models of the package stay."""
    module = "langchain_aws.chat_models.bedrock_converse"
    end = AIMessageChunk("", response_metadata={"stopReason": "end_turn", "metrics": {"latencyMs": 3}})
    model = streaming(module, *map(AIMessageChunk, contents), end)
    type(model).__module__ = module

    message, _ = await ask(model, way)

    assert message.content == plain
    assert message.response_metadata["metrics"] == {"latencyMs": [3]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ends", ["", "\n", "\n\n\n"])
async def test_line_ends_that_a_package_takes_off_are_taken_off(way, ends):
    """`"yes"` stays `"yes"`; who has seen the line ends as tokens gets no gap for it."""
    chunks = [AIMessageChunk(text) for text in ("a\n", "\nyes", ends) if text]
    model = streaming("langchain_google_genai", *chunks, END)

    message, environment = await ask(model, way)

    assert message.text == "a\n\nyes"
    assert environment.text == f"a\n\nyes{ends}"
    assert not any(isinstance(event, Gap) for event in environment.events)


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_that_streams_anyway_keeps_its_shape(way):
    """Who says `streaming=True` has LangChain's sum of the chunks without us, too."""
    pieces = [AIMessageChunk([{"type": "text", "text": text, "index": 0}]) for text in "ab"]
    model = streaming("langchain_anthropic", *pieces, END, streaming=True)

    message, _ = await ask(model, way)

    assert message.content == [{"type": "text", "text": "ab", "index": 0}]


@pytest.mark.parametrize("package", ["langchain_google_genai", "my_own"])
async def test_blocks_are_not_numbered_where_a_package_numbers_only_streams(package):
    """A model of one's own may number the blocks of plain answers, so its numbers stay."""
    model = streaming(package, AIMessageChunk([{"type": "text", "text": "a", "index": 0}]), END)

    message, _ = await ask(model, "ainvoke")

    assert ("index" in message.content[0]) is (package == "my_own")


@pytest.mark.parametrize("package", ["langchain_mistralai", "langchain_google_genai"])
@given(pieces=st.lists(st.sampled_from(["", "so", "hm"]), min_size=1), place=st.integers(0, 3))
def test_text_in_a_list_is_a_block_where_a_package_has_blocks(package, pieces, place):
    """The stream of an answer with reasoning is pieces of text beside numbered blocks.

    Mistral's plain answers have blocks alone; Gemini's have them once there was a thought.
    """
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm", "index": 0}], "index": 0}
    content: list[Any] = [*pieces[:place], thought, *pieces[place:]]
    message = AIMessage(content)
    result = ChatResult(generations=[ChatGeneration(message=message)])

    forced_result.mend(streaming(package), result)

    is_block = package == "langchain_mistralai"
    plain = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    blocks: list[Any] = []
    for piece in content:
        is_block = is_block or piece is thought
        if piece:
            text = {"type": "text", "text": piece} if is_block else piece
            blocks.append(plain if piece is thought else text)
    assert message.content == blocks


@pytest.mark.parametrize("package", ["langchain_groq", "langchain_mistralai", "my_own"])
def test_raw_tool_calls_are_not_numbered_where_a_package_numbers_only_streams(package):
    """`additional_kwargs` has what the provider sent; Mistral sends the number in a plain answer, too."""
    call = {"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}
    message = AIMessage("", additional_kwargs={"tool_calls": [call]})
    result = ChatResult(generations=[ChatGeneration(message=message)])

    forced_result.mend(streaming(package), result)

    [mended] = message.additional_kwargs["tool_calls"]
    assert ("index" in mended) is (package != "langchain_groq")


@given(st.sampled_from(["anthropic-claude-v1", "openai-responses-v1", "unknown"]), st.integers(1, 5))
def test_a_format_that_every_chunk_names_is_one(name, times):
    detail = {"type": "reasoning.text", "text": "hmhm", "format": name * times, "index": 0}
    message = AIMessage("x", additional_kwargs={"reasoning_details": [detail]})
    result = ChatResult(generations=[ChatGeneration(message=message)])

    forced_result.mend(streaming("langchain_openrouter"), result)

    [mended] = message.additional_kwargs["reasoning_details"]
    assert mended == {**detail, "format": name}


@pytest.mark.parametrize("package", ["langchain_openrouter", "my_own"])
def test_an_answer_is_no_chunk(package):
    message = AIMessage("x", response_metadata={"object": "chat.completion.chunk"})
    result = ChatResult(generations=[ChatGeneration(message=message)])

    forced_result.mend(streaming(package), result)

    assert message.response_metadata["object"] == (
        "chat.completion.chunk" if package == "my_own" else "chat.completion"
    )


# ------------------------------------------------------------------ what would really run


def test_each_path_is_judged_by_what_would_run():
    """As ChatDeepSeek: its sync method is overridden, its async one and the streams are inherited."""

    class Parent(Own):
        async def _agenerate(self, *args, **kwargs):
            return self._generate(*args)

        async def _astream(self, *args, **kwargs):
            yield ChatGenerationChunk(message=AIMessageChunk("a"))

    class Child(Parent):
        def _generate(self, *args, **kwargs):
            return super()._generate(*args)

    assert forced(Parent, is_async=True)
    assert forced(Child, is_async=True)
    assert not forced(Child, is_async=False)


# ------------------------------------------------------------------ foreign frames


def wrapped(function: Any) -> Any:
    """A function as a careless instrumentation replaces it."""

    def replacement(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return replacement


def marked(function: Any) -> Any:
    """As a careful one does."""
    return functools.wraps(function)(wrapped(function))


def spanned(function: Any) -> Any:
    """As one does that opens a span, from a generator."""
    return contextlib.contextmanager(lambda: iter([None]))()(function)


def awaited(function: Any) -> Any:
    """As one does that waits for the answer, in a task of its own."""

    async def replacement(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.create_task(function(*args, **kwargs))

    return replacement if inspect.iscoroutinefunction(function) else wrapped(function)


def patched(owner: Any, name: str, wrap: Any) -> Any:
    """What stands for a member of a class or a module once it has been wrapped."""
    found = inspect.getattr_static(owner, name)
    return classmethod(wrap(found.__func__)) if isinstance(found, classmethod) else wrap(found)


WRAPS = st.sampled_from([wrapped, marked, spanned, awaited])
PLAIN = (
    ("_generate_with_cache", forced_call._generating),
    ("_agenerate_with_cache", forced_call._agenerating),
)
PATCHED = st.sampled_from(
    [
        (langchain_manager, "_configure"),
        (langchain_manager.CallbackManager, "configure"),
        (langchain_manager.AsyncCallbackManager, "configure"),
        *((BaseChatModel, name) for name in ("generate", "agenerate", *dict(PLAIN))),
    ]
)


@given(
    st.lists(WRAPS, max_size=3),
    st.lists(st.tuples(PATCHED, WRAPS), max_size=8) | st.tuples(PATCHED, WRAPS).map(lambda one: [one] * 12),
    st.lists(st.text("abc", min_size=1), min_size=1, max_size=4),
    st.sampled_from(WAYS),
)
async def test_foreign_frames_do_not_switch_streaming_off(before, after, words, way):
    """`sentry_sdk.init()` replaces `_configure`, others wrap what calls it: before our import, or after."""
    with pytest.MonkeyPatch.context() as patch:
        for name, made_by_us in PLAIN:
            inner = getattr(BaseChatModel, name).__wrapped__
            for wrap in before:
                inner = wrap(inner)
            patch.setattr(BaseChatModel, name, made_by_us(inner))
        for (owner, name), wrap in after:
            patch.setattr(owner, name, patched(owner, name, wrap))
        model = ScriptedChatModel.saying(*words, END)
        alone = await model.ainvoke("?")
        message, seen = await ask(model, way)

    assert seen.tokens == words
    assert message == alone.model_copy(update={"id": message.id})


async def test_calls_at_once_refuse_and_stream_apart():
    """What one model refuses says nothing of another."""
    models = [Own(pieces=(NotImplementedError(),)), ScriptedChatModel.saying("a", "b")]

    answers = await asyncio.gather(*(ask(model, "ainvoke") for model in models))

    assert [message.text for message, _ in answers] == ["whole", "ab"]
    assert [sum(isinstance(event, TokenEvent) for event in seen.events) for _, seen in answers] == [1, 2]
