"""Which models refuse to stream, and whether a call that failed may be repeated without a stream.

A result must be the one of a run without us. So the decision is made for each call: by what would run
(`same_author.py`), by what this model has refused before, and by what the call asks for
(`several_answers.py`).
"""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from inspect import getfile
from itertools import pairwise
from traceback import walk_tb
from typing import Final

from langchain_core.language_models import BaseChatModel

logger = logging.getLogger(__name__)

# ------------------------------------------------------------------ what a model has refused


class Refusals:
    """Remembers the models that refuse to stream; one log line for each.

    Args:
        most: How many are remembered; the oldest is forgotten first.
    """

    def __init__(self, most: int = 1_000) -> None:
        self._most = most
        self._models: OrderedDict[tuple[type, str], None] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, model: BaseChatModel) -> bool:
        return _identity(model) in self._models

    def add(self, model: BaseChatModel, error: Exception) -> None:
        """Remember a model, and log it the first time."""
        key = _identity(model)
        with self._lock:
            if key in self._models:
                return
            self._models[key] = None
            if len(self._models) > self._most:
                self._models.popitem(last=False)
        logger.info(
            "model %s %r refuses to stream (%s): its calls are no longer made to stream in this process, "
            "and their text arrives at their end",
            *(key[0].__name__, key[1], type(error).__name__),
        )

    def clear(self) -> None:
        """Forget all: for tests."""
        with self._lock:
            self._models.clear()


REFUSALS = Refusals()
"""Of this process: a provider refuses every call of a model alike, whichever activity makes it."""


def _identity(model: BaseChatModel) -> tuple[type, str]:
    names = (getattr(model, name, None) for name in ("model_name", "model"))
    return type(model), next((name for name in names if isinstance(name, str)), "")


def may_be_refusal(error: Exception) -> bool:
    """Whether an error before the first chunk may be due to streaming: then a plain call is worth a try.

    What would have failed alike without a stream is not repeated: limits, rights, outages, timeouts, and
    what comes before the model.
    """
    if failed_in(error) in _BEFORE_THE_MODEL:
        return False
    try:
        status = _status_of(error)
    except Exception:  # noqa: BLE001 - an attribute of the user's error; theirs is what the activity raises
        status = None
    if status is not None:
        return status == _NOT_IMPLEMENTED or (400 <= status < 500 and status not in _NOT_OF_STREAMING)
    if isinstance(error, TimeoutError | OSError):
        return False
    return _NETWORK.search(type(error).__name__) is None and not type(error).__module__.startswith(
        "langgraph."
    )


def failed_in(error: Exception) -> str | None:
    """Return what failed of a model's call: the method that LangChain's own had called, if one."""
    frames = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    for code, called in pairwise(frames):
        if code.co_filename == _CHAT_MODELS_FILE and code.co_name in _CALLS:
            return called.co_name
    return None


def _status_of(error: Exception) -> int | None:
    for place in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code", "http_status"):
            value = getattr(place, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and 100 <= value < 600:
                return value
    found = getattr(error, "response", None)
    if isinstance(found, Mapping):  # botocore
        value = found.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return value if isinstance(value, int) else None
    return None


_CHAT_MODELS_FILE: Final = getfile(BaseChatModel)
_CALLS: Final = frozenset({"_generate_with_cache", "_agenerate_with_cache"})
_BEFORE_THE_MODEL: Final = frozenset(
    {"lookup", "alookup", "acquire", "aacquire", "dumps", "_get_llm_string", "_convert_cached_generations"}
)
_NOT_OF_STREAMING = frozenset({401, 402, 407, 408, 409, 413, 425, 429})
_NOT_IMPLEMENTED = 501
_NETWORK = re.compile(
    r"Timeout|TimedOut|Connect|Network|Throttl|RateLimit|Overload|Unavailable|Auth|Permission"
)
