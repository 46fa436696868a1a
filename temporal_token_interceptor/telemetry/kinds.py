"""What a span and a metric are, before they have names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, eq=False)
class SpanName:
    """A kind of span.

    Attributes:
        name: With the placeholders that its name has.
        kind: OpenTelemetry's.
        about: When there is one, and where it hangs.
        attributes: All that it may have.
    """

    name: str
    kind: Literal["CLIENT", "INTERNAL", "PRODUCER"]
    about: str
    attributes: Sequence[str]


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A kind of instrument.

    Attributes:
        name: Its name.
        kind: What creates it: `meter.create_<kind>`.
        unit: In UCUM.
        about: What it counts, and when.
        attributes: All that it may have; never an id.
        buckets: Of a histogram: the advised bounds.
    """

    name: str
    kind: Literal["counter", "histogram", "up_down_counter", "observable_up_down_counter"]
    unit: str
    about: str
    attributes: Sequence[str] = ()
    buckets: Sequence[float] = ()
