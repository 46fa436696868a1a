"""The LangChain side: callbacks of models, graphs and tools go into a bounded buffer."""
