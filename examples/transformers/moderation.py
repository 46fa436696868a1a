"""Has each message judged while the run goes on: a reader waits for no verdict, and the run's end for all."""

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage
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
        run = metadata.get("run_id", "")
        match said:
            case {"event": "message-start", "id": message}:
                self._ids[run], self._texts[run] = message, []
            case {"event": "content-block-finish", "content": {"type": "text", "text": text}}:
                self._texts[run].append(text)
            case {"event": "message-finish"}:
                self.schedule(self._judged(self._ids.pop(run), "".join(self._texts.pop(run))))
            case {"event": "error"}:
                del self._ids[run], self._texts[run]
            case BaseMessage():  # a node returned it whole
                self.schedule(self._judged(str(said.id), said.text))
            case _:
                pass
        return True

    async def _judged(self, message: str, text: str) -> None:
        self._verdicts.push((message, await self._judge(text)))
