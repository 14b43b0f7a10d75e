"""The journal's vocabulary: errors, cursors, quarantine, and what ingest needs to submit entries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from hub.model.batch import Entry, Mark


class JournalError(Exception):
    """The journal could not do what was requested. Nothing of the request is stored."""


class JournalFull(JournalError):
    """There is no room on the disk. The journal refuses new entries, serves reads and resumes by itself."""


class JournalFailed(JournalError):
    """The disk reported an I/O error, so its contents are not certain, or a thread of the journal ended.

    The journal writes nothing until a restart, and the hub stops.
    """


class JournalTrimmed(JournalError):
    """The requested entries are deleted already. `first` is the oldest offset that exists."""

    def __init__(self, first: int) -> None:
        super().__init__(f"the journal begins at offset {first}")
        self.first = first


class EntriesLost(JournalTrimmed):
    """The requested entries cannot be read: the disk lost them. `first` is the oldest offset behind them."""

    def __init__(self, lost: LostRange) -> None:
        super().__init__(lost.last_offset + 1)
        self.args = (str(lost),)
        self.lost = lost


class LostRange(NamedTuple):
    """Offsets without a readable entry, and why. `counted`: their readings are part of the devices' `damaged`."""

    first_offset: int
    last_offset: int
    found_ns: int
    reason: str
    counted: bool = False

    def __str__(self) -> str:
        """Return what is lost, for people."""
        are = "is" if self.first_offset == self.last_offset else "are"
        return f"{self.entries} of the journal {are} lost: {self.reason}"

    @property
    def entries(self) -> str:
        """Return the range in words."""
        if self.first_offset == self.last_offset:
            return f"entry {self.first_offset:,}"
        return f"entries {self.first_offset:,} to {self.last_offset:,}"


class JournalIncident(NamedTuple):
    """Damage of the journal that was found, or repaired: the kind of its event, and a sentence with the next step."""

    kind: str
    text: str


class JournalPosition(NamedTuple):
    """The id of a journal and one of its offsets, the newest that somebody knows."""

    id: str
    offset: int


class ConsumerCursor(NamedTuple):
    """Durable cursor of a consumer: it has processed everything up to `offset`."""

    name: str
    offset: int


class QuarantinedEntry(NamedTuple):
    """Index entry of the quarantine. `size_bytes` is the size of the payload, which is not in memory."""

    offset: int
    device: str
    code: str
    received_ns: int
    size_bytes: int


class QuarantineDecision(NamedTuple):
    """Outcome for an entry in quarantine: the reason (code, message) why it stays, or None when it leaves."""

    offset: int
    reason: tuple[str, str] | None = None


DurabilityCallback = Callable[[JournalError | None], None]
"""Called once: with None when the submitted entries are durable, else with the reason why they are not."""

T = TypeVar("T")


def settle(future: asyncio.Future[T], outcome: T | JournalError) -> None:
    """Set the future's result or error, unless it is cancelled. `partial(settle, future)` is a DurabilityCallback."""
    if future.done():
        return
    if isinstance(outcome, JournalError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


class EntrySource(Protocol):
    """Owner of a mark whose entries are submitted to the journal: a device."""

    def mark(self) -> Mark:
        """Return the mark that becomes durable together with everything submitted so far."""


class CommitListener(Protocol):
    """Receiver of what the journal committed, on the event loop, in the order of the offsets."""

    def committed(
        self, entries: Sequence[Entry], submitted: Sequence[Entry], marks: Mapping[EntrySource, Mark]
    ) -> None:
        """Process durable entries. `submitted` are those of `entries` that came through `submit`, with their marks."""

    def commit_failed(self, sources: set[EntrySource], error: JournalError) -> None:
        """Roll back these sources: nothing that they submitted since their last durable mark is stored."""


class EntryWriter(Protocol):
    """The journal's write side, as far as ingest needs it."""

    def marks(self) -> dict[str, Mark]:
        """Return each device's durable mark as it was when the journal was opened."""

    def listen(self, listener: CommitListener) -> None:
        """Report every commit to this listener."""

    def submit(self, source: EntrySource, entry: Entry, decision: QuarantineDecision | None = None) -> None:
        """Queue an entry. It becomes durable with the source's mark, or the source is rolled back.

        `decision` is about an entry in quarantine and becomes durable in the same transaction.
        """

    def submit_fact(self, name: str, text: str) -> None:
        """Write a fact with the entries that were submitted in this turn of the event loop, or not at all.

        It replaces one of the same name. `facts` returns it after a restart.
        """

    def facts(self) -> Mapping[str, int | str]:
        """Return the facts as they were when the journal was opened."""

    async def append(
        self, entries: Sequence[Entry], marks: Sequence[Mark], decisions: Sequence[QuarantineDecision] = ()
    ) -> int:
        """Write entries, marks and decisions in one transaction; return the last offset when they are durable.

        Raises JournalFull, JournalFailed, or JournalError for entries that cannot be written.
        """

    def when_durable(self, callback: DurabilityCallback) -> None:
        """Call back when everything submitted up to the end of this turn of the event loop is durable, or is not."""

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back when the next commit has ended, whether it succeeded or failed."""

    @property
    def pending(self) -> bool:
        """Return whether submitted entries wait for the next commit."""

    @property
    def congested(self) -> bool:
        """Return whether more than MAX_PENDING_BYTES wait: readers have to wait for `room`."""

    async def room(self) -> None:
        """Wait until fewer than MAX_PENDING_BYTES wait for the disk."""

    @property
    def quarantine(self) -> QuarantineIndex:
        """Return the quarantine."""


async def durable(writer: EntryWriter) -> None:
    """Wait until everything that was submitted up to this turn of the event loop is durable. Raises JournalError."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    writer.when_durable(partial(settle, done))
    await done


class QuarantineIndex(Protocol):
    """Content of the quarantine."""

    @property
    def index(self) -> Mapping[int, QuarantinedEntry]:
        """Index by offset, the oldest first. It changes with each commit."""

    async def entries(self, offsets: Sequence[int]) -> list[Entry]:
        """Return those of these entries that are in quarantine, the oldest first. Raises JournalError."""
