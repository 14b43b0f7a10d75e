"""The store's contract: where history lives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from hub.model.batch import Batch, Entry, Series
from wire.model import Value

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray


class StoreError(Exception):
    """The store refused or failed; the message says what to do."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or used just now: try again later, after `retry_after_s` where the store names it.

    What part of a write was stored all the same is written again, and is there once.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Cursor(NamedTuple):
    """Up to which offset of which journal the store holds everything."""

    journal: str
    offset: int


STORE_REFUSED = "store_refused"
"""The code of readings that a store does not take for a reason of its own; the message has the store's words."""


FIELD_CONFLICT = "field_conflict"
"""The code of readings that a store does not take because the field they go into has another type there. What an agent
declares with another type than the hub knows is a type_conflict, told at the door."""


class Refused(NamedTuple):
    """Readings that a store will never take, as a batch of their own, with the entry they came in and the reason."""

    entry: Entry
    batch: Batch
    code: str
    message: str


class Written(NamedTuple):
    """What became of a write: how many readings are stored now that were not, and those that were refused for good."""

    readings: int
    refused: Sequence[Refused] = ()


class Counts(NamedTuple):
    """Of a series: readings that are stored now; of all since the store was made, those that a retention deleted and
    those that it refused."""

    stored: int
    expired: int
    refused: int = 0


SCAN_READINGS = 65_536
"""Of one piece of a scan: 1 MB of numbers, few enough that whoever encodes it stays a good neighbour."""

MIN_POINTS = 2
"""Of a query: a minimum and a maximum."""

Aggregate = Literal["minmax", "avg", "min", "max", "first", "last", "count"]


class Query(NamedTuple):
    """Which readings: from `start_ns` (included) to `end_ns` (not included), at most `points` a series.

    With `points` None every reading is returned. Otherwise, where there are more, each interval gives its minimum and
    its maximum at their own times, so no peak is lost; strings and booleans give their first and last. Less points than
    MIN_POINTS are a ValueError.

    With another `aggregate` than minmax, `points` equal intervals that begin at `start_ns` give one value each, at the
    interval's begin; those without a reading give none. Their width is (end - start) / points, rounded up. avg (a
    float), min and max are for floats and integers only. An average that is no number (of opposite infinities) is left
    out.
    """

    series: Sequence[Series]
    start_ns: int
    end_ns: int
    points: int | None
    aggregate: Aggregate = "minmax"


class SeriesHistory(NamedTuple):
    """The readings of one series in order of time: int64 nanoseconds and values (an array, or a list for strings).

    `resolution` says what they are: every reading there is, or points made of readings, of minutes or of hours.
    """

    series: Series
    times_ns: NDArray[int64]
    values: list[Value] | NDArray[Any]
    resolution: Literal["raw", "reduced", "minute", "hour"]


class History(NamedTuple):
    """The answer to a query, and the cursor it is true for: it holds exactly the entries up to that offset.

    After a write to InfluxDB that failed half-way it holds some of those beyond, until they are written again.
    """

    cursor: Cursor
    series: list[SeriesHistory]


class Latest(NamedTuple):
    """The newest reading of a series."""

    time_ns: int
    value: Value


class Description(NamedTuple):
    """What the store says of itself. `readings` counts all it has stored since it was made; None is what only a server
    knows."""

    kind: str
    location: str
    readings: int
    size_bytes: int | None
    oldest_ns: int | None
    newest_ns: int | None


class Store(Protocol):
    """Implementations pass one contract test suite."""

    async def open(self) -> Cursor:
        """Makes the store ready where it is not; returns up to where it is. Raises StoreUnavailable."""

    @property
    def cursor(self) -> Cursor:
        """The durable cursor, never beyond what `open` says; of no journal before the store was open."""

    async def write(self, entries: Sequence[Entry], cursor: Cursor) -> Written:
        """Stores the batches of these entries (each has its decoded batch) and the cursor, but for what it refuses.

        What is not beyond the durable cursor is there already and is left out; the cursor of another journal counts as
        0. Raises StoreUnavailable: then `open` says up to where the store is. What it refuses is the caller's to keep:
        until `save` or the next write says that this is done, the write is not durable where anything was refused.

        Readings of one series have times of their own, acceptance sees to that: of two of one time InfluxDB keeps the
        later. It refuses infinities and the last nanosecond of 64 bits, which it has not, and what its field's type is
        not for; DuckDB takes everything.
        """

    async def save(self) -> Cursor:
        """Makes the cursor of the newest write durable where `write` left that for later; returns it.

        Raises StoreUnavailable.
        """

    async def carry(self, counts: Sequence[tuple[Series, Counts]]) -> None:
        """Takes over the books of a store whose readings are moved here: of these series so many are expired and
        refused. Durable with the next write, at the latest. Raises StoreUnavailable.
        """

    async def query(self, query: Query) -> History:
        """The readings asked for.

        Raises StoreUnavailable, and StoreError where they are too many for one answer, or of a type that the aggregate
        is not for.
        """

    def scan(self, series: Sequence[Series], start_ns: int, end_ns: int) -> AsyncGenerator[SeriesHistory, None]:
        """Every reading from `start_ns` (included) to `end_ns` (not included): one series after the other in the order
        asked for, each in order of time, in pieces of SCAN_READINGS at most.

        What is there all the while comes once; of what is written or deleted meanwhile DuckDB gives what was there when
        the scan began. Readings of one time all come. Memory is bounded, however much there is. Who stops before the
        end calls `aclose`. Raises StoreUnavailable, also where too many scans are under way.
        """

    async def latest(self, series: Sequence[Series]) -> dict[int, Latest]:
        """The newest reading of each series that has one, by series id; historical readings count like others here."""

    async def counts(self) -> dict[int, Counts]:
        """What became of each series' readings, by series id; as durable as the readings."""

    async def delete_before(self, time_ns: int) -> int:
        """Deletes readings older than this; returns how many.

        Raises StoreUnavailable, and StoreError where a server deletes by a retention of its own.
        """

    async def describe(self) -> Description:
        """What there is."""
