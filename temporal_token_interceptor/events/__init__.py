"""What was said: the events of a stream, and the records that a frame carries. Pure data."""

from temporal_token_interceptor.events.model import *  # noqa: F403
