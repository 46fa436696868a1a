"""Takes e-mail addresses out of all that a reader is shown, also where one is cut into several tokens."""

import re
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage
from langgraph.stream import ProtocolEvent, StreamTransformer

ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.\w[\w.-]*\w")


class Redaction(StreamTransformer):
    """Changes events before the run's own projections see them.

    An address has no spaces, so the last word of a text waits until it is whole. The end of a block has all
    of its text, and the run shows from there what is still held.
    """

    before_builtins: ClassVar[bool] = True

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self._held: dict[tuple[str, int], str] = {}  # by message and block

    def init(self) -> dict[str, Any]:
        return {}

    def process(self, event: ProtocolEvent) -> bool:
        if self.scope:
            return True  # the one of the whole run has changed it already
        if event["method"] == "messages":
            said, metadata = event["params"]["data"]
            if isinstance(said, dict):
                self._message(said, metadata["run_id"])
            else:  # a message that a node returned whole
                event["params"]["data"] = (redacted(said), metadata)
        else:
            event["params"]["data"] = redacted(event["params"]["data"])
        return True

    def _message(self, said: Any, message: str) -> None:
        match said["event"]:
            case "content-block-delta":
                delta = said["delta"]
                member = {"text-delta": "text", "reasoning-delta": "reasoning"}.get(delta["type"])
                if member is None:
                    delta.update(args="")  # of a tool call: its end has it whole
                    return
                text = self._held.pop((message, said["index"]), "") + delta[member]
                *whole, last = re.split(r"(?<=\s)", text)
                self._held[message, said["index"]] = last
                delta[member] = redacted("".join(whole))
            case "content-block-finish":
                self._held.pop((message, said["index"]), None)
                said["content"] = redacted(said["content"])
            case _:
                pass


def redacted(value: Any) -> Any:
    """Return JSON values, or messages, without addresses."""
    match value:
        case str():
            return ADDRESS.sub("[address]", value)
        case dict():
            return {name: redacted(one) for name, one in value.items()}
        case list() | tuple():
            return [redacted(one) for one in value]
        case BaseMessage():
            return value.model_copy(update=redacted(dict(value)))
        case _:
            return value
