"""For your own tests: chat models that stream without a provider, and checks for transports of your own.

`ScriptedChatModel` and `tool_call` need no key and no network, and stream as LangChain does.
`check_transport` holds a `TokenSink` and `TokenSource` of yours to the laws that ours keep.
"""

from temporal_token_interceptor.testing.models import Piece, ScriptedChatModel, tool_call
from temporal_token_interceptor.testing.transports import TRANSPORT_LAWS, Law, Transport, check_transport

__all__ = [
    "TRANSPORT_LAWS",
    "Law",
    "Piece",
    "ScriptedChatModel",
    "Transport",
    "check_transport",
    "tool_call",
]
