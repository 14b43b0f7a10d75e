"""The spool's contract: the agent's durable queue of batches that are not yet acknowledged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from device_agent.batch import EncodedBatch
from wire.device import Gap
from wire.model import Metric

ROW_BYTES = 64
"""What a batch costs a spool besides its columns: its number, its counts, its place in the tree."""

OVERFLOW_REASON = "the spool was full"


class Stored(NamedTuple):
    """A batch and the number it was given."""

    seq: int
    batch: EncodedBatch


Entry = Stored | Gap
"""What waits to be sent, in the order of its numbers: a batch, or the declared loss of some."""


class Lost(NamedTuple):
    """What left the spool unacknowledged since it was opened. A batch that was under way just then may have arrived."""

    batches: int = 0
    readings: int = 0


class Spool(Protocol):
    """An async context manager; everything else between entering and leaving it, from one event loop.

    Numbers are given from 1 on, without holes: each is a batch or within a gap until it is acknowledged.
    """

    @property
    def durable(self) -> bool:
        """Whether it outlives the process."""

    @property
    def epoch(self) -> str:
        """The random id of this spool's life."""

    @property
    def next_seq(self) -> int:
        """The number that the next batch gets."""

    @property
    def hello_seq(self) -> int:
        """What a hello says as next_seq: no batch from this number on was ever sent.

        Until the first welcome of a run it is what next_seq was before that run. A spool that was restored from a copy
        gives itself away by it: had it said a number that counts what was appended since, a hub could not tell those
        new batches from the older ones that it has under the same numbers.
        """

    @property
    def acked(self) -> int:
        """All up to this number is acknowledged and gone from here; 0 before the first."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The definitions that were stored, by name, of this run and earlier ones."""

    @property
    def revision(self) -> int:
        """Grows whenever a definition is stored, so that a change is noticed without comparing."""

    @property
    def waiting(self) -> int:
        """Batches held here."""

    @property
    def size_bytes(self) -> int:
        """What they weigh: their columns and ROW_BYTES each; what was acknowledged just now may still count."""

    @property
    def max_bytes(self) -> int:
        """The bound of size_bytes."""

    @property
    def lost(self) -> Lost:
        """What did not fit."""

    async def append(self, batch: EncodedBatch, metrics: Sequence[Metric] = ()) -> int:
        """Stores a batch together with definitions that are new or changed; durable when this returns its number.

        Where the bound is passed, the oldest batches leave and become a gap; the newest always stays. A call that is
        cancelled may have stored its batch. Raises SpoolError; then nothing of the call is stored.
        """

    async def read(self, after: int, *, max_batches: int, max_bytes: int = 1 << 18) -> list[Entry]:
        """What comes after this number, in order: at least one entry if there is any, within the bounds.

        A gap that began before is cut to begin right after. Raises SpoolError.
        """

    async def wait(self, after: int) -> None:
        """Returns when there is an entry after this number."""

    async def wait_room(self, size_bytes: int) -> None:
        """Returns when a batch of this size fits without an overflow, or nothing is waiting."""

    def trim(self, acked: int) -> None:
        """All up to `acked` has arrived. Forgotten at once; a durable spool writes it with its next commit or soon.

        Losing that in a crash costs nothing: the hub says again what it has.
        """

    async def replace(self, seq: int, parts: Sequence[EncodedBatch], reason: str) -> None:
        """Puts smaller batches in the place of one that was never taken; the numbers after it move up.

        Without parts it becomes a gap with this reason. Nothing changes when the batch is not there any more.
        """

    async def confirm(self) -> None:
        """A hub knows this spool as it is: from here on batches are sent, and hello_seq is next_seq. Durable on return.

        Raises SpoolError.
        """

    async def begin_epoch(self) -> None:
        """Begins a new life: a new epoch, in which everything that waits is numbered from 1 on."""

    async def __aenter__(self) -> Spool: ...

    async def __aexit__(self, *exc_info: object) -> None: ...
