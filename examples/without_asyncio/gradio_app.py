"""A page that shows an answer as it grows: `python -m examples.without_asyncio.gradio_app`."""

from collections.abc import Iterator

import gradio

from examples.without_asyncio.reading import subscriber
from temporal_token_interceptor import AttemptStarted, TokenEvent


def answer(workflow_id: str) -> Iterator[str]:
    texts: dict[str, str] = {}
    for event in subscriber.subscribe(workflow_id):
        match event:
            case TokenEvent(token=token, origin=origin):
                texts[origin.attempt_id] = texts.get(origin.attempt_id, "") + token
            case AttemptStarted(supersedes=old) if old is not None:
                texts.pop(old.attempt_id, None)
            case _:
                continue
        yield "\n\n".join(texts.values())


page = gradio.Interface(answer, inputs="text", outputs="markdown", api_name="answer")

if __name__ == "__main__":
    page.launch()
