"""Events in other shapes: what stands now, LangGraph's messages, a run object."""
