"""The data converter of the worker's client: what the user encrypted stays encrypted, also if nobody said so.

An async activity may ask for its client, and so may the handler of a Nexus operation; the SDK shows it to no
sync activity. There it is found in the worker that the SDK's end of the outbound chain belongs to. That is
private: `tests/integration/test_encryption.py` fails where it has moved, and then frames stay plain and the
log says so, once.
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
        given: The user's own word; None: that of the worker's client.
    """

    def __init__(self, given: DataConverter | None) -> None:
        self._given = given
        self._is_missed = False

    def of_activity(self, outbound: ActivityOutboundInterceptor | None) -> DataConverter | None:
        """Return the converter, within an activity; None where it cannot be known, which is said once.

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
                "the data converter of the worker's client cannot be found: tokens of sync activities are "
                "stored as plain JSON; pass data_converter=client.data_converter to "
                "TokenStreamingInterceptor, or use TokenStreamingPlugin (said once)"
            )
        return None

    def of_operation(self) -> DataConverter:
        """Return the converter, within the handler of a Nexus operation."""
        return self._given if self._given is not None else nexus.client().data_converter
