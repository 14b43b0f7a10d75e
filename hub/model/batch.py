"""A batch inside the hub: columnar from its acceptance to the store and the browser.

Batch and Entry are msgspec structs for their constructors: 0.08 µs instead of 0.4 µs of a class with slots, once a
frame. They are kept from the garbage collector (gc=False): they hold nothing that could hold them, and a flooded hub
has a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from msgspec import Struct

from wire.codec import Format
from wire.model import MetricType, Value

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray


class Series:
    """One (device, metric) with its small integer id, the same for the life of the data directory.

    There is one object per series in a hub; it compares by identity. `last_time_ns` is the newest accepted time, -1
    before the first, and `run_ns` the first of the times that lead up to it by steps of 1 ns: acceptance keeps them so
    that two readings of a series never have the same time.
    """

    __slots__ = ("description", "device", "id", "last_time_ns", "live", "metric", "run_ns", "type", "unit")

    def __init__(
        self, id: int, device: str, metric: str, type: MetricType, unit: str = "", description: str = ""
    ) -> None:
        self.id = id
        self.device = device
        self.metric = metric
        self.type: MetricType = type
        self.unit = unit
        self.description = description
        self.last_time_ns = -1
        self.run_ns = -1
        self.live: object | None = None

    def reach(self, time_ns: int) -> None:
        """A reading of this time is stored; nothing happens when there is a newer one."""
        if time_ns > self.last_time_ns:
            self.last_time_ns = self.run_ns = time_ns


Column: TypeAlias = "tuple[Series, list[Value] | NDArray[float64]]"
"""The values of one series, as long as the batch's times. A plain pair: one with names costs 0.5 µs a column.

A list has None where there is no value, and may hold ints for a float series; a float64 array (float series only) has
NaN there.
"""


class Batch(Struct, eq=False, gc=False):
    """The decoded content of a journal entry: rows are times, columns are series. `readings` counts values only.

    `rising`: the times are known to rise from row to row, so the last one is the newest.
    """

    times: list[int] | NDArray[int64]
    columns: Sequence[Column]
    readings: int
    historical: bool = False
    rising: bool = False


class EntryKind(IntEnum):
    """What an entry of the journal is. The numbers are written to disk."""

    BATCH = 1
    """An accepted batch; the payload is the frame as it was received, or encoded again where readings were moved."""
    GAP = 2
    """The device declared the loss of some seqs; the payload is the gap message."""
    QUARANTINE = 3
    """A batch that cannot be accepted; the payload is the frame, the quarantine table has the reason."""


class Entry(Struct, eq=False, gc=False):
    """One entry of the journal. `offset` is set by the append; `seq` is the last one that the entry covers.

    `payload` is the message, in `format`. `batch` is its decoded content where it is at hand (BATCH
    only); an entry that was read from the file has None there. `reason` is (code, message) of a QUARANTINE.
    """

    kind: EntryKind
    device: str
    epoch: str
    seq: int
    received_ns: int
    format: Format
    payload: bytes
    batch: Batch | None = None
    reason: tuple[str, str] | None = None
    offset: int = 0


class Mark(NamedTuple):
    """A device's high-water mark and its totals since the data directory was made, durable with the entries they count.

    `batches` and `readings` count what was accepted, `duplicates` batches that came again, `quarantined` batches in
    quarantine, `lost` batches in declared gaps, `moved` readings whose time was taken already. `earlier` has the
    highest seq of each epoch before this one, the newest first.
    """

    device: str
    epoch: str
    seq: int
    batches: int = 0
    readings: int = 0
    duplicates: int = 0
    quarantined: int = 0
    lost: int = 0
    moved: int = 0
    earlier: tuple[tuple[str, int], ...] = ()
