"""Libraries that change how LangChain calls models: tokens stream beside them. Each in its own process."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.pages import ROOT

CALL = """
import asyncio
import json
from langchain_core.callbacks import BaseCallbackManager, manager
from langchain_core.language_models import BaseChatModel
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment

PATCHED = {
    "Sentry": lambda: "sentry_sdk" in manager._configure.__code__.co_filename,
    "ddtrace": lambda: getattr(BaseChatModel, "_datadog_patch", False)
    or hasattr(BaseChatModel.generate, "__wrapped__"),
    "OpenTelemetry": lambda: hasattr(BaseCallbackManager.__init__, "__wrapped__"),
}

async def main():
    for way in ("ainvoke", "invoke", "astream"):
        environment = StreamingActivityEnvironment()
        model = ScriptedChatModel.saying("a", "b", "c")

        async def activity():
            if way == "astream":
                return "".join([chunk.text async for chunk in model.astream("?")])
            return (await model.ainvoke("?") if way == "ainvoke" else model.invoke("?")).text

        answer = await environment.run(activity)
        print(json.dumps([way, answer, environment.tokens]))
    print(json.dumps([name for name in NAMES if not PATCHED[name]()]))

asyncio.run(main())
"""

LIBRARIES = {
    "Sentry": "import sentry_sdk\nsentry_sdk.init(dsn=None, traces_sample_rate=1.0)",
    "ddtrace": "import ddtrace\nddtrace.patch(langchain=True)",
    "OpenTelemetry": "from opentelemetry.instrumentation.langchain import LangchainInstrumentor\n"
    "LangchainInstrumentor().instrument()",
}
ALL = {"all three": list(LIBRARIES)}
TOGETHER = ALL if os.environ.get("TTI_PROVIDERS") == "quick" else {**{n: [n] for n in LIBRARIES}, **ALL}


@pytest.mark.timeout(150)
@pytest.mark.parametrize("is_first", [True, False], ids=["before our import", "after our import"])
@pytest.mark.parametrize("names", TOGETHER.values(), ids=TOGETHER)
def test_tokens_stream_beside_an_instrumentation(names, is_first):
    """`ainvoke` and `invoke` are made to stream, whichever is imported first; nothing comes twice."""
    patches = "\n".join(LIBRARIES[name] for name in names)
    head = patches if is_first else f"import temporal_token_interceptor.capture.model_observer\n{patches}"

    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-W", "ignore", "-c", f"{head}\nNAMES = {names!r}\n{CALL}"],
        cwd=ROOT,
        env={"PATH": "", "DD_TRACE_ENABLED": "false", "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    *calls, missing = map(json.loads, done.stdout.splitlines() or ["null"])
    assert calls == [[way, "abc", ["a", "b", "c"]] for way in ("ainvoke", "invoke", "astream")], done.stderr
    assert missing == [], "the library no longer changes what this test expects"
