"""What every source yields."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import NamedTuple, Protocol

from wire.model import Metric, Value


class Reading(NamedTuple):
    """Values of one time; `time_ns` None is now. `metrics` defines those that this source yields for the first time."""

    values: Mapping[str, Value]
    time_ns: int | None = None
    metrics: tuple[Metric, ...] = ()


class Source(Protocol):
    """Something that measures."""

    def readings(self) -> AsyncGenerator[Reading, None]:
        """Readings as they come; closing the iterator gives back what the source holds."""
