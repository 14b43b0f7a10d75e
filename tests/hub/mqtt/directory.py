"""Minimal directory of the hub's devices, for tests of the inbound side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hub.model.batch import Series
from hub.model.metric import widens
from wire.errors import WireError
from wire.model import Metric


class Directory:
    """Minimal directory of the hub's devices."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str], Series] = {}

    async def declare(self, device: str, metrics: Sequence[Metric]) -> Mapping[str, Series | WireError]:
        for metric in metrics:
            key = (device, metric.name)
            known = self.series.setdefault(key, Series(len(self.series) + 1, *key, metric.type, metric.unit))
            if widens(known.type, metric.type):
                self.series[key] = Series(known.id, *key, metric.type, metric.unit)
        return {name: series for (id, name), series in self.series.items() if id == device}

    def record(self, device: str, kind: str, detail: str, time_ns: int | None = None) -> None:
        """Ignore events."""

    def describe(self, device: str, *, tags: Mapping[str, str], agent: str) -> None:
        """Ignore tags."""
