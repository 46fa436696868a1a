"""Counts what the models of a run cost: calls that a retry replaces, too, because they are paid for."""

from typing import Any

from langgraph.stream import ProtocolEvent, StreamChannel, StreamTransformer

PRICES = {"scripted": (3e-6, 15e-6)}
"""Of a token that goes in, and of one that comes out, by model."""


class CostCounter(StreamTransformer):
    """Shows `run.extensions["costs"]`: after each call the cost so far, and the model that raised it."""

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self._costs: StreamChannel[dict[str, Any]] = StreamChannel("costs")
        self._so_far = 0.0

    def init(self) -> dict[str, Any]:
        return {"costs": self._costs}

    def process(self, event: ProtocolEvent) -> bool:
        if event["method"] == "messages":
            said, metadata = event["params"]["data"]
            if isinstance(said, dict) and said["event"] == "message-finish" and said.get("usage"):
                model = metadata.get("ls_model_name", "")
                per_input, per_output = PRICES.get(model, (0.0, 0.0))
                usage = said["usage"]
                self._so_far += usage["input_tokens"] * per_input + usage["output_tokens"] * per_output
                self._costs.push({"model": model, "so_far": round(self._so_far, 9)})
        return True
