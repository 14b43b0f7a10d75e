"""Batches, journal entries and marks inside the hub. A batch is columnar from validation to the store and the browser.

Batch and Entry are msgspec structs because of their constructors: 0.08 µs instead of 0.4 µs of a class with slots, once
a frame. The garbage collector ignores them (gc=False): they cannot be part of a cycle, and a flooded hub has a hundred
thousand of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, get_args

from msgspec import Struct

from formats.record import RefusalCode
from wire.codec import Format
from wire.device import RefusedColumn
from wire.model import MetricType, Value

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray


class Series:
    """One (device, metric) with its small integer id, the same for the life of the data directory.

    There is one object for each series in a hub; it compares by identity. `last_time_ns` is the newest accepted time,
    -1 before the first. `run_ns` is the first of the times that lead up to it in steps of 1 ns: validation uses both so
    that two readings of a series never have the same time.

    A metric whose type was changed has one object for each type that it ever had, all with the same id. `parts` has
    them in the order in which the metric got these types, empty while there was only one. The registry knows the
    current one; the others stand for stored readings. `names` has every name that the metric ever had, the first one
    first, empty while it was not renamed.
    """

    __slots__ = ("description", "device", "id", "last_time_ns", "metric", "names", "parts", "run_ns", "type", "unit")

    def __init__(
        self, id: int, device: str, metric: str, type: MetricType, unit: str = "", description: str = ""
    ) -> None:
        self.id = id
        self.device = device
        self.metric = metric
        self.type: MetricType = type
        self.unit = unit
        self.description = description
        self.parts: tuple[Series, ...] = ()
        self.names: tuple[str, ...] = ()
        self.last_time_ns = -1
        self.run_ns = -1

    def reach(self, time_ns: int) -> None:
        """Record a stored reading with this time. Nothing changes when there is a newer one."""
        if time_ns > self.last_time_ns:
            self.last_time_ns = self.run_ns = time_ns

    @property
    def types(self) -> tuple[MetricType, ...]:
        """Return every type that stored readings of the series may have."""
        return tuple(part.type for part in self.parts) or (self.type,)

    @property
    def first(self) -> Series:
        """Return the object of the first type, which stands for the readings of all types."""
        return self.parts[0] if self.parts else self

    @property
    def first_name(self) -> str:
        """Return the name that the metric had first."""
        return self.names[0] if self.names else self.metric


Column: TypeAlias = "tuple[Series, list[Value] | NDArray[float64]]"
"""Values of one series, as many as the batch has times. It is a plain pair: a named one costs 0.5 µs a column.

In a list None means no value, and a float series may have ints. In a float64 array (float series only) NaN means no
value.
"""


class Batch(Struct, eq=False, gc=False):
    """Decoded content of a journal entry: rows are times, columns are series. `readings` counts values only.

    `rising` means that the times rise from row to row, so the last one is the newest.
    """

    times: list[int] | NDArray[int64]
    columns: Sequence[Column]
    readings: int
    historical: bool = False
    rising: bool = False


class EntryKind(IntEnum):
    """Kind of a journal entry. The numbers are written to disk."""

    BATCH = 1
    """An accepted batch. The payload is the received frame, or encoded again where readings were moved."""
    GAP = 2
    """Some seqs that the device declared as lost. The payload is the gap message."""
    QUARANTINE = 3
    """A batch that cannot be accepted, or the values of one that cannot be accepted for one reason, while the others
    are in a BATCH with the same seq, or a report with the code SOURCE_REFUSED. The payload is the frame, or a message
    with these values; the quarantine table has the reason."""
    EVENT = 4
    """An event of the device, which has a number like a batch. The payload is the message; the registry has it, too."""


MESSAGE_CODES = frozenset({
    *get_args(RefusalCode), "topic", "shape", "presence", "decoder", "bad_payload", "bad_seq", "before_birth",
    "out_of_order", "too_many_nodes", "too_many_devices",
})  # fmt: skip
"""Codes of messages that a bridge could not read, or not in full. Their entries in quarantine are not batches."""

SOURCE_REFUSED = "source_refused"
"""Code of a report in quarantine about what a source of the device could not read. The payload is the report."""

REPAIRED = ("repaired", "")
"""Reason of a BATCH that the store may have already: an agent sends it again, because the journal has lost it."""


class Entry(Struct, eq=False, gc=False):
    """One entry of the journal. `offset` is set by the append; `seq` is the last one that the entry covers.

    `payload` is the message, in `format`. `batch` is its decoded content (BATCH only), None in an entry that was read
    from the file. `reason` is (code, message) of a QUARANTINE, or REPAIRED. `columns` are the refused values of a
    part, for its agent, and none of a whole batch; None where no agent gets a message. They are not written to disk.
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
    columns: Sequence[RefusedColumn] | None = None


class Mark(NamedTuple):
    """A device's high-water mark and its totals since the data directory was created, durable with the entries they
    count.

    `batches` and `readings` count what was accepted, `duplicates` batches that were received again, `quarantined`
    batches in quarantine and parts of batches, `lost` batches in declared gaps, `moved` readings whose time was taken
    already. `earlier` has the highest seq of each epoch before this one, the newest first. `damaged` counts accepted
    readings whose entries the journal's disk lost before they were stored, `repaired` batches that the hub had lost and
    an agent sent again. `quarantined_readings` counts readings that went to quarantine instead of being accepted. Both
    counts of the quarantine are without what a retry has accepted since, and with what was deleted. `source_refused`
    counts lines and values that the device's sources refused, as its agent reported.
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
    damaged: int = 0
    repaired: int = 0
    quarantined_readings: int = 0
    source_refused: int = 0
