"""A graph whose nodes are Temporal activities, one each: `python -m examples.langgraph_nodes`."""
