"""Ten ways in which a provider fails, each as it looks to a plain call and to a call that streams."""

from collections.abc import Callable
from dataclasses import replace

from temporal_token_interceptor.errors import IncompleteAnswer
from tests.providers.answers import FILTERED, TEXT
from tests.providers.compare import said
from tests.providers.page import messages_in
from tests.providers.play import Outcome, saying
from tests.providers.providers import Provider
from tests.providers.wire import Reply, Request

Failing = Callable[[Provider, Request], Reply]


def _refusing(status: int, kind: str, message: str) -> Failing:
    return lambda provider, _: Reply([provider.form.error(status, kind, message)], status=status)


def _answer(provider: Provider, request: Request) -> Reply:
    return saying(provider, TEXT)(request)


def _half(reply: Reply) -> list[bytes]:
    """The first half of a body: of its events, or of its bytes."""
    if len(reply.pieces) == 1:
        return [reply.pieces[0][: len(reply.pieces[0]) // 2]]
    return list(reply.pieces[: len(reply.pieces) // 2])


def _cut(provider: Provider, request: Request) -> Reply:
    reply = _answer(provider, request)
    return replace(reply, pieces=_half(reply), end="cut")


def _early_end(provider: Provider, request: Request) -> Reply:
    reply = _answer(provider, request)
    return replace(reply, pieces=_half(reply))


def _error_event(provider: Provider, request: Request) -> Reply:
    reply = _answer(provider, request)
    if provider.form.asks_to_stream(request):
        return replace(reply, pieces=[*_half(reply), provider.form.error_event("the model failed")])
    return Reply([provider.form.error(500, "api_error", "the model failed")], status=500)


def _no_stream(provider: Provider, request: Request) -> Reply:
    if provider.form.asks_to_stream(request):
        message = "Your organization must be verified to stream this model."
        return Reply([provider.form.error(400, "unsupported_value", message)], status=400)
    return _answer(provider, request)


def _malformed(provider: Provider, request: Request) -> Reply:
    reply = _answer(provider, request)
    if provider.form.asks_to_stream(request):
        return replace(reply, pieces=[*_half(reply), provider.form.malformed, reply.pieces[-1]])
    return replace(reply, pieces=[b'{"half'])


def hanging(provider: Provider, request: Request) -> Reply:
    reply = _answer(provider, request)
    return replace(reply, pieces=_half(reply), end="hang")


FAILURES: dict[str, Failing] = {
    "429, too many requests": _refusing(429, "rate_limit_error", "Rate limit reached."),
    "500": _refusing(500, "api_error", "Internal server error."),
    "the connection breaks in mid-body": _cut,
    "the body ends early, cleanly": _early_end,
    "an error within the stream": _error_event,
    "streaming is refused": _no_stream,
    "malformed JSON": _malformed,
    "a timeout in mid-body": hanging,
    "400, the context is too long": _refusing(
        400, "context_length_exceeded", "This model's maximum context length is 8192 tokens."
    ),
    "a content filter": lambda provider, request: saying(provider, FILTERED)(request),
}


def verdict(bare: Outcome, captured: Outcome) -> tuple[bool, str]:
    """Return whether an outcome is as good as the one without us, and the two in words."""
    one, other = _words(bare), _words(captured)
    if isinstance(captured.result, IncompleteAnswer) and _is_half(bare):
        return True, f"half an answer, as if it were whole | {other}"
    if bare.raised or captured.raised:
        # To fail in another way is as good: Temporal retries both. To pass half an answer off as one is not.
        return bare.raised and captured.raised, f"{one} | {'the same' if one == other else other}"
    is_same = [said(m) for m in messages_in(bare)] == [said(m) for m in messages_in(captured)]
    return is_same, f"{one} | {'the same' if is_same else other}"


def _is_half(outcome: Outcome) -> bool:
    """Whether a run passed off half an answer as one."""
    return not outcome.raised and said(outcome.result)["end"] is None


def _words(outcome: Outcome) -> str:
    if outcome.raised:
        return f"fails, `{type(outcome.result).__name__}`"
    return f"an answer, `{said(outcome.result)['end']}`"
