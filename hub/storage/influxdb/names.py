"""The names of series in InfluxDB, each made once, and how many of them a device may have."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

from hub.model.batch import Series
from hub.storage.influxdb.line import MAX_KEY_BYTES, field_of, prefix_of
from hub.storage.influxdb.naming import Naming
from hub.storage.influxdb.state import DIGEST_BYTES
from wire.errors import Code


class Reason(NamedTuple):
    """Why readings are refused: a code, and a sentence."""

    code: str
    message: str


class Name(NamedTuple):
    """How the points of a series begin, and its field; or the problem for which there can be none.

    `tags` are those of the device that the name was made with.
    """

    prefix: str
    field: str
    problem: Reason | None
    tags: Mapping[str, str]


class Names:
    """Names of series, and the guard on cardinality.

    A device that tells other tags gets other series in InfluxDB, as one that declares more metrics does: beyond
    `max_series_per_device` there are no new ones, and their readings are refused. `known` has the digests of those that
    are there, by device, joined.
    """

    def __init__(self, naming: Naming, *, max_series_per_device: int, known: Mapping[str, bytes]) -> None:
        self._naming = naming
        self._max = max_series_per_device
        self._known = {device: set(_split(digests)) for device, digests in known.items()}
        self._names: dict[int, Name] = {}

    def of(self, series: Series) -> Name:
        """The name of a series, with the tags that its device has now."""
        name = self._names.get(series.id)
        tags = self._naming.tags_of(series.device)
        if name is None or (name.tags is not tags and name.tags != tags):
            name = self._names[series.id] = self._make(series, tags)
        return name

    def known(self) -> dict[str, bytes]:
        """The digests of all series, by device, joined."""
        return {device: b"".join(digests) for device, digests in self._known.items()}

    def _make(self, series: Series, tags: Mapping[str, str]) -> Name:
        place = self._naming.place(series)
        prefix, field = prefix_of(place), field_of(place)
        return Name(prefix, field, self._problem(series, prefix, field), tags)

    def _problem(self, series: Series, prefix: str, field: str) -> Reason | None:
        if len(prefix.encode()) + len(field.encode()) > MAX_KEY_BYTES:
            return Reason(Code.OUT_OF_RANGE.value, f"the device's tags are longer than {MAX_KEY_BYTES} bytes in all")
        digest = blake2b(f"{prefix} {field}".encode(), digest_size=DIGEST_BYTES).digest()
        known = self._known.setdefault(series.device, set())
        if digest not in known:
            if len(known) >= self._max:
                return Reason(
                    Code.TOO_MANY.value,
                    f"{series.device} has {len(known)} series in InfluxDB already: each metric is one, and one more "
                    "for each change of the device's tags. Keep the tags from changing, leave those that change out "
                    "(store.tags), or raise store.max_series_per_device",
                )
            known.add(digest)
        return None


def _split(digests: bytes) -> list[bytes]:
    return [digests[start : start + DIGEST_BYTES] for start in range(0, len(digests), DIGEST_BYTES)]
