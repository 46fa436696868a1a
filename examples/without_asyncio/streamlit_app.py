"""A page that shows an answer as it grows: `streamlit run examples/without_asyncio/streamlit_app.py`."""

import streamlit as st

from examples.without_asyncio.reading import subscriber
from temporal_token_interceptor import AttemptStarted, TokenEvent

workflow_id = st.text_input("Workflow", key="workflow")
if workflow_id:
    shown = st.empty()
    texts: dict[str, str] = {}
    for event in subscriber.subscribe(workflow_id):
        match event:
            case TokenEvent(token=token, origin=origin):
                texts[origin.attempt_id] = texts.get(origin.attempt_id, "") + token
            case AttemptStarted(supersedes=old) if old is not None:
                texts.pop(old.attempt_id, None)
            case _:
                continue
        shown.markdown("\n\n".join(texts.values()))
