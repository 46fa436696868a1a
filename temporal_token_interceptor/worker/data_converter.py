"""The data converter of the worker's client: it seals frames where the user passed none.

An async activity may ask for its client, and so may the handler of a Nexus operation; the SDK shows it to no
sync activity. There it is found in the worker that the SDK's end of the outbound chain belongs to. That is
private: where it has moved, or where another interceptor hides the chain, it is unknown whether a client has
a codec. Then nothing is sent for that activity (a plain frame might hold what the user encrypts), and the log
names the fix, once. `tests/integration/test_encryption.py` fails where the SDK has changed.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from temporalio import activity, nexus
from temporalio.converter import DataConverter
from temporalio.worker import ActivityOutboundInterceptor

logger = logging.getLogger(__name__)


class ClientConverter:
    """Knows which data converter frames are sealed with.

    Args:
        given: What the user passed; None: that of the worker's client.
    """

    def __init__(self, given: DataConverter | None) -> None:
        self._given = given
        self._is_missed = False

    def of_activity(self, outbound: ActivityOutboundInterceptor | None) -> DataConverter | None:
        """Return the converter, within an activity; None where it cannot be known, which is logged once.

        Args:
            outbound: What `init` of the activity's interceptor was given.
        """
        if self._given is not None:
            return self._given
        with suppress(RuntimeError):  # a sync activity
            return activity.client().data_converter
        while outbound is not None and not hasattr(outbound, "_worker"):
            outbound = getattr(outbound, "next", None)
        converter = getattr(getattr(outbound, "_worker", None), "_data_converter", None)
        if isinstance(converter, DataConverter):
            return converter
        if not self._is_missed:
            self._is_missed = True
            logger.warning(
                "sync activities do not stream: the data converter of the worker's client cannot be found, "
                "and without it tokens that you encrypt could be sent as plain text; pass "
                "data_converter=client.data_converter to TokenStreamingInterceptor, or use "
                "TokenStreamingPlugin (logged once)"
            )
        return None

    def of_operation(self) -> DataConverter:
        """Return the converter, within the handler of a Nexus operation."""
        return self._given if self._given is not None else nexus.client().data_converter
