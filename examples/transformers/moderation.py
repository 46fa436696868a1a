"""Has each message judged while the run goes on: a reader waits for no verdict, and the run's end for all."""

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from langgraph.stream import ProtocolEvent, StreamChannel, StreamTransformer

Judge = Callable[[str], Awaitable[str]]
"""A moderation service: returns its verdict on a text."""


class Moderation(StreamTransformer):
    """Shows `run.extensions["verdicts"]`: `(message id, verdict)`, as verdicts come."""

    requires_async: ClassVar[bool] = True

    def __init__(self, scope: tuple[str, ...], judge: Judge) -> None:
        super().__init__(scope)
        self._judge = judge
        self._verdicts: StreamChannel[tuple[str, str]] = StreamChannel()
        self._ids: dict[str, str] = {}
        self._texts: dict[str, list[str]] = {}

    def init(self) -> dict[str, Any]:
        return {"verdicts": self._verdicts}

    def process(self, event: ProtocolEvent) -> bool:
        if event["method"] != "messages" or self.scope:
            return True
        said, metadata = event["params"]["data"]
        run = metadata["run_id"]
        match said["event"]:
            case "message-start":
                self._ids[run], self._texts[run] = said["id"], []
            case "content-block-finish" if said["content"]["type"] == "text":
                self._texts[run].append(said["content"]["text"])
            case "message-finish":
                self.schedule(self._judged(self._ids.pop(run), "".join(self._texts.pop(run))))
            case "error":
                del self._ids[run], self._texts[run]
            case _:
                pass
        return True

    async def _judged(self, message: str, text: str) -> None:
        self._verdicts.push((message, await self._judge(text)))
