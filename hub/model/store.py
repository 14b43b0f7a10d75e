"""The contract of a history store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from hub.model.batch import Batch, Entry, Series
from wire.model import Value

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray


class StoreError(Exception):
    """The store rejected a request or failed. The message says what to do."""


class StoreUnavailable(StoreError):
    """The store cannot be used now. Try again later, after `retry_after_s` if the store gives it.

    The part of a failed write that was stored is written again and exists once.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreFileLost(StoreUnavailable):
    """The file of the store was removed, replaced or cut while it was open: what it acknowledged may be lost."""


class StoreCursor(NamedTuple):
    """The journal, and the last offset of it up to which the store holds every entry."""

    journal: str
    offset: int


STORE_REFUSED = "store_refused"
"""Error code of readings that the store refuses for its own reason. The message contains the store's words."""


FIELD_CONFLICT = "field_conflict"
"""Error code of readings that the store refuses because their field has another type there. A metric that an agent
declares with another type than the hub knows is a type_conflict, which the hub reports when the agent declares it."""


class RefusedReadings(NamedTuple):
    """Readings that the store will never accept, as a separate batch, with their entry and the reason."""

    entry: Entry
    batch: Batch
    code: str
    message: str


class WriteResult(NamedTuple):
    """The number of readings that a write added, and the readings that the store refused permanently."""

    readings: int
    refused: Sequence[RefusedReadings] = ()


class ReadingCounts(NamedTuple):
    """Counts for one series: readings stored now, and readings ever deleted by a retention and ever refused."""

    stored: int
    expired: int
    refused: int = 0


class MissingReadings(NamedTuple):
    """Readings of one series that the store lacks: their times, int64 nanoseconds in ascending order."""

    series: Series
    times_ns: NDArray[int64]


class RewriteResult(NamedTuple):
    """Result of writing the missing ones of some readings again: those that are stored now, and those that the store
    refused.

    `added` are the readings by which the store's counts grew, by series id. The counts of InfluxDB are those of what
    was written once, and do not change.
    """

    readings: int
    refused: int
    added: Mapping[int, int] = {}


SCAN_READINGS = 65_536
"""Maximum readings in one piece of a scan: 1 MB of numbers. A caller that encodes one piece does not block others."""

MIN_POINTS = 2
"""Minimum points of a query: a minimum and a maximum."""

Aggregate = Literal["minmax", "avg", "min", "max", "first", "last", "count"]


class HistoryQuery(NamedTuple):
    """The readings from `start_ns` (included) to `end_ns` (excluded), at most `points` for each series.

    If `points` is None, the answer contains every reading. Otherwise, a series with more readings is divided into
    intervals. Each interval returns its minimum and its maximum at their own times, so no peak is lost. For strings
    and booleans it returns the first and the last reading. Fewer points than MIN_POINTS raise ValueError.

    If `aggregate` is not minmax, the range is divided into `points` equal intervals from `start_ns`. Each returns one
    value at its begin; an interval without a reading returns none. The width is (end - start) / points, rounded up.
    avg (a float), min and max apply to floats and integers only. An average that is not a number (of opposite
    infinities) is left out.
    """

    series: Sequence[Series]
    start_ns: int
    end_ns: int
    points: int | None
    aggregate: Aggregate = "minmax"


class SeriesHistory(NamedTuple):
    """The readings of one series in time order: int64 nanoseconds, and values (an array, or a list of strings).

    `resolution` says whether they are all readings, or points computed from readings, minutes or hours.
    """

    series: Series
    times_ns: NDArray[int64]
    values: list[Value] | NDArray[Any]
    resolution: Literal["raw", "reduced", "minute", "hour"]


class History(NamedTuple):
    """The answer to a query. It contains exactly the entries up to `cursor`.

    After a write to InfluxDB failed halfway, it also contains some later entries until they are written again.
    """

    cursor: StoreCursor
    series: list[SeriesHistory]


class NewestReading(NamedTuple):
    """The newest reading of a series."""

    time_ns: int
    value: Value


class StoreDescription(NamedTuple):
    """Facts about the store. `readings` counts all readings ever stored. A value that only a server knows is None."""

    kind: str
    location: str
    readings: int
    size_bytes: int | None
    oldest_ns: int | None
    newest_ns: int | None


class StorePart(NamedTuple):
    """A part of the store's own files that was read to verify them.

    `next` is the position of the next part, None at the end; `verified` and `total` count rows. `problem` is what is
    damaged in this part.
    """

    next: int | None
    verified: int
    total: int
    problem: str | None = None


class PartRange(NamedTuple):
    """A part of the entries that the store has acknowledged: it ends at offset `last`, and all of them at `up_to`.

    `received_ns` is when its first entry arrived. `undecodable` batches are not among its `batches`.
    """

    last: int
    up_to: int
    received_ns: int
    batches: int
    readings: int
    undecodable: int


class LostReadings(NamedTuple):
    """Number of readings of a series that the store had acknowledged and lacks, with their first and last time."""

    device: str
    metric: str
    readings: int
    first_ns: int
    last_ns: int


class ComparedPart(NamedTuple):
    """A part of the entries, and what the store lacks of it."""

    part: PartRange
    lost: Sequence[LostReadings]


class ResentPart(NamedTuple):
    """A part of the entries, the readings that were written again, and those that the store refused again."""

    part: PartRange
    readings: int
    refused: int


class Store(Protocol):
    """A history store. All implementations pass one contract test suite."""

    async def open(self) -> StoreCursor:
        """Open the store if it is not open, and return its cursor. Raises StoreUnavailable."""

    @property
    def cursor(self) -> StoreCursor:
        """The durable cursor, never beyond the one that `open` returns. Its journal is empty before the first open."""

    @property
    def history_problem(self) -> str | None:
        """Why a part of the history cannot be read, and what to do; None if all of it can. Writing may continue."""

    async def write(self, entries: Sequence[Entry], cursor: StoreCursor) -> WriteResult:
        """Store the decoded batches of these entries and the cursor, except for readings that it refuses.

        Entries up to the durable cursor are stored already and are skipped. A cursor of another journal counts as 0.
        Raises StoreUnavailable; after that, `open` returns how far the store is. The caller must keep what the store
        refuses. If anything was refused, the write becomes durable with `save` or with the next write, which confirm
        that the caller has kept it.

        Two readings of one series have different times; ingest ensures that. Of two with one time, InfluxDB keeps the
        later one. InfluxDB refuses infinities, the last nanosecond of a 64-bit time and values of another type than
        their field; DuckDB accepts everything.
        """

    async def find_missing(self, entries: Sequence[Entry]) -> list[MissingReadings]:
        """Return which readings of these decoded entries the store lacks. Two of one series and time count as one.

        Readings that the store expired or can never hold are not among them. Those that it refused are, if it holds
        none of their series and time. Raises StoreUnavailable.
        """

    async def rewrite(self, entries: Sequence[Entry]) -> RewriteResult:
        """Write those readings of these decoded entries that find_missing returns.

        The entries are up to the cursor, which does not change. Durable when it returns. Raises StoreUnavailable; then
        the call can be repeated.
        """

    async def save(self) -> StoreCursor:
        """Make the cursor of the newest write durable if `write` has deferred that, and return it.

        Raises StoreUnavailable.
        """

    async def import_counts(self, counts: Sequence[tuple[Series, ReadingCounts]]) -> None:
        """Take over the expired and refused counts of the store from which the readings of these series are copied.

        They are durable with the next write at the latest. Raises StoreUnavailable.
        """

    async def query(self, query: HistoryQuery) -> History:
        """Return the requested readings.

        Raises StoreUnavailable, and StoreError if they are too many for one answer or if the aggregate does not apply
        to their type.
        """

    def scan(self, series: Sequence[Series], start_ns: int, end_ns: int) -> AsyncGenerator[SeriesHistory, None]:
        """Yield every reading from `start_ns` (included) to `end_ns` (excluded) in pieces of at most SCAN_READINGS.

        Series follow each other in the given order, and the readings of each are in time order. A reading that exists
        during the whole scan occurs once; readings of one time all occur. DuckDB reads a snapshot from the start of
        the scan, so later writes and deletions do not change it. Memory is bounded. A caller that stops early calls
        `aclose`. Raises StoreUnavailable, also if too many scans are in progress.
        """

    async def latest(self, series: Sequence[Series]) -> dict[int, NewestReading]:
        """Return the newest reading of each series that has one, by series id. Historical readings count too."""

    async def counts(self) -> dict[int, ReadingCounts]:
        """Return the counts of each series by series id. They are as durable as the readings."""

    async def describe(self) -> StoreDescription:
        """Return facts about the store."""

    def hold(self) -> AbstractAsyncContextManager[StoreCursor]:
        """Keep the store's own files as they are within the context, so that another process can copy them.

        They contain everything up to the returned cursor, which stays the durable one. Reads continue. Raises
        StoreUnavailable.
        """

    async def verify(self, position: int) -> StorePart:
        """Read a part of the store's own files, from a position that the part before returned; the first one is 0.

        Raises StoreUnavailable.
        """
