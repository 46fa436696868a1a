"""Transformers of a reader's own over the events of any workflow: LangGraph's `StreamTransformer`."""
