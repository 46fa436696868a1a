"""The records of one model call: what its chunks and its final message hold, in the order of the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

from temporal_token_interceptor.capture.block_facts import (
    TEXTS,
    ServerTools,
    facts_block,
    facts_of,
    in_stream,
    new_facts,
    text_of,
)
from temporal_token_interceptor.capture.block_pieces import BlockPieces, index_of
from temporal_token_interceptor.capture.filters import Selection
from temporal_token_interceptor.capture.message_parts import (
    TOOL_CALLS,
    block_key,
    block_of,
    blocks_of,
    json_of,
    plain_blocks,
    tool_calls_of,
)
from temporal_token_interceptor.capture.names import id_of, name_of
from temporal_token_interceptor.capture.outlet import Outlet
from temporal_token_interceptor.capture.stream_usage import StreamUsage
from temporal_token_interceptor.capture.text_path import NEW_BLOCK, SAME_BLOCK, OnToken, SentText, digest_of
from temporal_token_interceptor.events import Call, ContentBlock, Gap, TextKind, ToolCallChunk

_LINE_ENDS = 16
"""How many line ends at the end of a streamed text are no difference to the final message."""


_MOST_PARTS = 2_000
"""Blocks and tool calls of one message that are sent: each takes 50 to 100 us, on the thread of the model."""


class LiveCall:
    """A call that has started and not ended."""

    __slots__ = (
        "around",
        "blocks",
        "call",
        "is_echo",
        "on_token",
        "parts",
        "pieces",
        "sent",
        "server_tools",
        "streamed",
        "thought",
        "tool_calls",
        "tool_parts",
        "usage",
    )

    def __init__(self, call: Call, outlet: Outlet, around: tuple[int, ...] = ()) -> None:
        self.call = call
        self.around = around  # the ordinals of the calls that it is within
        self.sent = SentText(outlet, call)
        self.thought = SentText(outlet, call, "reasoning")
        self.tool_calls = 0  # of those without an index
        self.tool_parts = 0  # all of them, fragments too
        self.server_tools = ServerTools()
        self.pieces = BlockPieces()
        self.blocks = 0
        self.usage = StreamUsage()
        self.streamed = False
        self.is_echo = False  # repeats what a call inside it has sent already
        self.on_token: OnToken  # by the one who begins it
        # Of a call captured by v3 events: the blocks that came in parts. A model may report its chunks
        # both as events and as tokens; whichever comes first is listened to.
        self.parts: set[int | str] | None = None


class CallRecords:
    """Puts the parts of messages into the buffer, as records of their call.

    Args:
        buffer: Where they go.
        selection: Which kinds are wanted.
    """

    def __init__(self, buffer: Outlet, selection: Selection) -> None:
        kinds = selection.kinds
        self.takes_text, self._takes_reasoning = "text" in kinds, "reasoning" in kinds
        self._takes_tool_calls, self._takes_blocks = "tool_call" in kinds, "block" in kinds
        self._with_media = "media" in selection.contents
        self._buffer = buffer

    def complete(self, live: LiveCall, message: AIMessage) -> bool:
        """Send what the final message has and the stream did not; report a text that differs.

        The final message is the truth of a call: a model may report tokens by hand, or only some of them.

        Returns:
            Whether the text that was sent is now that of the message.
        """
        if live.pieces.is_open:
            self.put_open(live)
        sent, text, is_same = live.sent, message.text, True
        sent.take_hash()
        if self.takes_text and (sent.length != len(text) or sent.digest != digest_of(text)):
            if sent.digest == digest_of(text[: sent.length]):
                self.put_text(live, "text", text[sent.length :], SAME_BLOCK)
            # Gemini's package takes line ends off the end of a plain answer, and so do we off a forced one.
            elif sent.digest != digest_of(text.ljust(min(sent.length, len(text) + _LINE_ENDS), "\n")):
                self._buffer.put(Gap(missing=None, reason="mismatch", call=live.call), live.call)
                is_same = False
        if not live.tool_parts:
            for tool_call in tool_calls_of(message):
                self.put_block(live, tool_call)
        if live.parts is None:
            self._complete_blocks(live, blocks_of(message))
        return is_same

    def _complete_blocks(self, live: LiveCall, blocks: Sequence[Mapping[str, Any]]) -> None:
        """Send the blocks that were not streamed, and what those of text and reasoning say beside it."""
        had_blocks, had_thought = bool(live.blocks), live.thought.first is not None
        for block in blocks:
            kind = block["type"]
            if kind == "text" or kind in TOOL_CALLS:
                continue
            if kind == "server_tool_call" and live.server_tools.is_open:
                is_sent = live.server_tools.has_sent(block)
            else:
                is_sent = had_thought if kind == "reasoning" else had_blocks
            if not is_sent:
                self.put_block(live, block)
        self._complete_facts(live, live.sent, blocks)
        if had_thought:
            self._complete_facts(live, live.thought, blocks)

    def _complete_facts(self, live: LiveCall, text: SentText, blocks: Sequence[Mapping[str, Any]]) -> None:
        """Send what the message alone says of its texts, such as the sources of an answer of Gemini's."""
        found = [facts_of(block) for block in blocks if block["type"] == text.kind]
        first = text.first or 0
        if len(found) == text.last - first + 1:
            for number, facts in enumerate(found, first):
                known = text.facts.get(number, {})
                self._put_facts(live, text, number, {n: facts[n] for n in facts.keys() - known.keys()})

    def put_message(self, live: LiveCall, message: BaseMessage) -> None:
        """Put everything that a message, or a chunk of one, holds."""
        if (plain_ones := plain_blocks(message)) is not None:
            if plain_ones:
                self.put_open(live)
            for block in plain_ones:
                self.put_block(live, block, block_key(message, block))
            return
        blocks = blocks_of(message)
        text = "".join(text_of(block) for block in blocks if block["type"] == "text")
        if text != message.text:
            # Not every provider's blocks are translated; `.text` is what users compare with.
            self.put_text(live, "text", message.text, block_key(message, {}))
            blocks = [{**block, "text": ""} if block["type"] == "text" else block for block in blocks]
        if tool_calls := tool_calls_of(message):
            blocks = [block for block in blocks if block["type"] not in TOOL_CALLS]
        if len(blocks) + len(tool_calls) > _MOST_PARTS:
            self._put_most(live, message.text if text == message.text else "", [*blocks, *tool_calls])
            return
        for block in (*blocks, *tool_calls):
            if isinstance(message, AIMessageChunk):
                self._put_piece(live, message, block)
            else:
                self.put_block(live, block, block_key(message, block))

    def _put_most(self, live: LiveCall, text: str, parts: Sequence[Mapping[str, Any]]) -> None:
        """Put the text of a message in one piece, and as much else of it as takes no long time."""
        self.put_text(live, "text", text)
        others = [part for part in parts if part["type"] != "text"]
        for part in others[:_MOST_PARTS]:
            self.put_block(live, part)
        if len(others) > _MOST_PARTS:
            missing = len(others) - _MOST_PARTS
            self._buffer.put(Gap(missing=missing, reason="overflow", call=live.call), live.call)

    def _put_piece(self, live: LiveCall, message: AIMessageChunk, block: Mapping[str, Any]) -> None:
        if block["type"] == "server_tool_call_chunk":
            self._put_pieces(live)
            for call in live.server_tools.add(message, block):
                self.put_other(live, call)
            return
        if (index := index_of(block)) is not None:
            self._put_server_tools(live)
            for whole in live.pieces.add(message, index):
                self.put_other(live, whole)
            live.sent.before = live.thought.before = partial(self.put_open, live)
            return
        self.put_open(live)
        self.put_block(live, in_stream(message, block), block_key(message, block))

    def put_block(self, live: LiveCall, block: Mapping[str, Any], key: object = NEW_BLOCK) -> None:
        kind = block["type"]
        if kind in TEXTS:
            text = text_of(block)
            self.put_text(live, kind, text, key)
            if facts := facts_of(block):
                sent = live.sent if kind == "text" else live.thought
                if not text:
                    sent.turn_to(key)
                self._put_facts(live, sent, sent.block, facts)
        elif kind in TOOL_CALLS:
            self.put_tool_call(live, block)
        else:
            self.put_other(live, block)

    def put_other(self, live: LiveCall, block: Mapping[str, Any]) -> None:
        """Put a block that is neither text nor a tool call."""
        live.blocks += 1
        if block["type"] == "server_tool_call":
            live.server_tools.note(block)
        if self._takes_blocks:
            self._put_content(live, block)

    def _put_facts(self, live: LiveCall, text: SentText, number: int, facts: dict[str, Any]) -> None:
        """Put what a block of text or reasoning says beside it."""
        takes_text = self.takes_text if text.kind == "text" else self._takes_reasoning
        if takes_text and self._takes_blocks:
            new = new_facts(facts, text.facts.setdefault(number, {}))
            if new:
                self._put_content(live, facts_block(text.kind, number, new))

    def put_open(self, live: LiveCall) -> None:
        """Put the blocks that came in pieces and are whole now: something else begins, or the call ends."""
        self._put_server_tools(live)
        self._put_pieces(live)

    def _put_server_tools(self, live: LiveCall) -> None:
        if live.server_tools.is_open:
            for call in live.server_tools.take():
                self.put_other(live, call)

    def _put_pieces(self, live: LiveCall) -> None:
        if live.pieces.is_open:
            for block in live.pieces.take():
                self.put_other(live, block)

    def _put_content(self, live: LiveCall, block: Mapping[str, Any]) -> None:
        sent = block_of(block, with_media=self._with_media)
        self._put_or_gap(live, None if sent is None else ContentBlock(block=sent, call=live.call))

    def put_text(self, live: LiveCall, kind: TextKind, text: str, key: object = None) -> None:
        """Send a piece of text; `key` as that of `SentText.add`."""
        if text and (self.takes_text if kind == "text" else self._takes_reasoning):
            (live.sent if kind == "text" else live.thought).add(text, key)

    def put_tool_call(self, live: LiveCall, block: Mapping[str, Any]) -> None:
        if not self._takes_tool_calls:
            return
        live.tool_parts += 1
        args, index = block.get("args"), block.get("index")
        if index is None:  # as in a whole message: LangChain's way to say that it is no fragment
            index, live.tool_calls = live.tool_calls, live.tool_calls + 1
        text = args if isinstance(args, str) else json_of(args)
        if text is None:
            self._put_or_gap(live, None)
            return
        chunk = ToolCallChunk(
            index=index if isinstance(index, int) else id_of(index),
            id=id_of(block.get("id")),
            name=name_of(block.get("name")),
            args=text,
            invalid=block["type"] == "invalid_tool_call",
            call=live.call,
        )
        self._buffer.put(chunk, live.call)

    def _put_or_gap(self, live: LiveCall, record: ContentBlock | None) -> None:
        """Put a record; a gap in its place where it was too large to be read."""
        self._buffer.put(record or Gap(missing=1, reason="overflow", call=live.call), live.call)
