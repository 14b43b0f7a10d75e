"""The journal's contract: the hub's durable, ordered log of accepted batches. Acknowledgements come from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from hub.model.batch import Entry, Mark
from wire.limits import MAX_SEQ


class JournalError(Exception):
    """The journal could not do what was asked; nothing of the request is stored."""


class JournalFull(JournalError):
    """There is no room on the disk: refuse new data, keep serving reads, try again. The journal resumes by itself."""


class JournalFailed(JournalError):
    """The disk reported an I/O error: what it holds is not certain any more. The journal takes nothing more until
    restarted."""


class JournalTrimmed(JournalError):
    """The entries asked for are deleted already. `first` is the oldest offset that is still there."""

    def __init__(self, first: int) -> None:
        super().__init__(f"the journal begins at offset {first}")
        self.first = first


class ConsumerState(NamedTuple):
    """A consumer's durable cursor: it has dealt with all up to `offset`."""

    name: str
    offset: int


class Held(NamedTuple):
    """An entry that is in quarantine, without its payload, which has `size_bytes`."""

    offset: int
    device: str
    code: str
    received_ns: int
    size_bytes: int


class Verdict(NamedTuple):
    """What became of an entry in quarantine: the reason (code, message) why it stays, None when it leaves."""

    offset: int
    reason: tuple[str, str] | None = None


class Journal(Protocol):
    """Entries have offsets 1, 2, 3, … without holes; the same in every run."""

    @property
    def id(self) -> str:
        """A random id of this journal's life: offsets of another journal mean nothing here."""

    @property
    def first_offset(self) -> int:
        """The oldest entry's offset; last_offset + 1 when there is none."""

    @property
    def last_offset(self) -> int:
        """The newest durable entry's offset, 0 before the first."""

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""

    def marks(self) -> dict[str, Mark]:
        """Each device's durable mark, as read when the journal was opened (later ones are the caller's own)."""

    async def append(self, entries: Sequence[Entry], marks: Sequence[Mark], verdicts: Sequence[Verdict] = ()) -> int:
        """Entries, marks and verdicts in one transaction, durable when this returns; sets each entry's offset, returns
        the last.

        Concurrent calls share a commit. Raises JournalFull or JournalFailed; then nothing of the call is stored.
        """

    async def read(self, after: int, *, max_entries: int = 1000, max_bytes: int = 1 << 20) -> list[Entry]:
        """The entries after offset `after`, in order, at least one if there is any, within the bounds.

        Those that are still in memory come with their decoded batch. Raises JournalTrimmed.
        """

    async def wait(self, after: int) -> None:
        """Returns when there is an entry after this offset."""

    @property
    def highest_series(self) -> int:
        """The highest series id that the journal was told of, in any run."""

    async def tell_series(self, highest: int) -> None:
        """Series up to this id are given out; durable when this returns. Raises JournalFull or JournalFailed."""

    def consumer(self, name: str) -> ConsumerState:
        """The consumer's cursor; a new consumer begins before the oldest entry. From now on trimming waits for it."""

    def advance(self, name: str, offset: int) -> None:
        """The consumer has durably dealt with all up to `offset`. On disk soon, or at close.

        May go back, for a consumer that lost what it had. ValueError for one whose cursor was never asked for.
        """

    def forget(self, name: str) -> None:
        """There is no such consumer any more: trimming does not wait for it."""

    def consumers(self) -> list[ConsumerState]:
        """Every known consumer."""

    async def quarantined(
        self,
        device: str | None = None,
        *,
        code: str | None = None,
        limit: int = 100,
        max_bytes: int = 1 << 30,
        before: int = MAX_SEQ,
    ) -> list[Entry]:
        """Entries in quarantine below offset `before`, the newest first, within the bounds, at least one if there is
        any; of one device, or of all, and of one reason's code, or of all.

        The quarantine has bounds of its own; an entry may be here that the journal has trimmed.
        """

    async def quarantined_at(self, offsets: Sequence[int]) -> list[Entry]:
        """Those of these entries that are in quarantine, the oldest first."""

    @property
    def held(self) -> Mapping[int, Held]:
        """All that is in quarantine, by offset, the oldest first; it changes with each commit."""

    def quarantine_totals(self) -> dict[str, int]:
        """How many entries were ever put in quarantine, by code."""

    @property
    def quarantine_dropped(self) -> int:
        """How many of them had to leave, because the quarantine is bounded."""
