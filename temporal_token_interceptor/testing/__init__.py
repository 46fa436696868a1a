"""For your own tests: models without a provider, activities without a server, checks for transports.

`ScriptedChatModel` and `tool_call` need no key and no network, and stream as LangChain does.
`StreamingActivityEnvironment` runs an activity as a worker with the interceptor does, and has its events.
`check_transport` holds a `TokenSink` and `TokenSource` of yours to the laws that ours keep.
"""

from temporal_token_interceptor.testing.activities import StreamingActivityEnvironment
from temporal_token_interceptor.testing.models import Piece, ScriptedChatModel, tool_call
from temporal_token_interceptor.testing.transport_laws import TRANSPORT_LAWS, Law, Transport, check_transport

__all__ = [
    "TRANSPORT_LAWS",
    "Law",
    "Piece",
    "ScriptedChatModel",
    "StreamingActivityEnvironment",
    "Transport",
    "check_transport",
    "tool_call",
]
