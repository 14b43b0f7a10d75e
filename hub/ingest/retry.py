"""Batches in quarantine: judged again, or deleted, because a person says so.

What is accepted goes the way of all batches, as a historical one, and leaves the quarantine in the transaction that
makes it durable: whatever happens in between, it is accepted once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from hub.ingest.acceptance import Accepted, accept, decode
from hub.ingest.intake import Intake
from hub.model.batch import Entry, EntryKind, Series
from hub.model.identity import Identity
from hub.model.journal import Held, Journal, JournalError, Verdict
from wire import device as messages
from wire.codec import AGENT_MESSAGES
from wire.errors import Code, WireError
from wire.limits import MAX_SEQ

RETRY_ENTRIES = 1_000
"""Batches of one call: it answers within a second or two, and whoever retries all sees how far that is."""

RETRY_BYTES = 8 * 1024 * 1024
"""Their payload: what one commit of the journal takes."""

COMMITTED_ENTRIES = 64
"""Batches that are handed over before their commit is waited for: devices' batches share it, and wait for it."""

JUDGED_ENTRIES = 16
"""Batches judged before others get their turn of the event loop: 2 ms of small ones."""

DELETE_ENTRIES = 500
DELETE_BYTES = 8 * 1024 * 1024
"""Of one commit, so that acknowledgements do not wait for the deletion of all that there is."""

log = structlog.get_logger(__name__)


class Selection(NamedTuple):
    """Which entries: of one device or all, of one reason's code or all, with offsets beyond `after`, not beyond
    `up_to`."""

    device: str | None = None
    code: str | None = None
    after: int = 0
    up_to: int = MAX_SEQ

    def of(self, held: Mapping[int, Held]) -> Iterator[Held]:
        """Those that are meant, the oldest first."""
        return (
            one
            for one in held.values()
            if self.after < one.offset <= self.up_to
            and (self.device is None or one.device == self.device)
            and (self.code is None or one.code == self.code)
        )


class Outcome(NamedTuple):
    """What became of one entry: accepted, or why not. `readings` is how many were accepted."""

    offset: int
    device: str
    reason: tuple[str, str] | None
    readings: int = 0


class Round(NamedTuple):
    """What one call did. `next` is where the next one goes on (`after`), None when nothing is left to try."""

    outcomes: list[Outcome]
    next: int | None


class QuarantineWork:
    """Retries and deletes. `metrics_of` gives a device's metrics as they are now, `record` keeps an event of a device
    or (None) of the hub."""

    def __init__(
        self,
        journal: Journal,
        intake: Intake,
        *,
        metrics_of: Callable[[str], Mapping[str, Series]],
        record: Callable[[str | None, int, str, str], None],
    ) -> None:
        self._journal = journal
        self._intake = intake
        self._metrics_of = metrics_of
        self._record = record
        # Nobody else may decide about these until their commit has ended.
        self._under_way: set[int] = set()

    async def retry(self, selection: Selection, by: Identity) -> Round:
        """Judges the oldest entries of the selection again, within the bounds of one call.

        Those that are accepted are durable when this returns; those that are not stay, with the newest reason. Raises
        WireError while no data are taken in, JournalError.
        """
        chosen = first_that_fit(selection.of(self._journal.held), RETRY_ENTRIES, RETRY_BYTES)
        if not chosen:
            return Round([], None)
        entries = await self._journal.quarantined_at([held.offset for held in chosen])
        outcomes: list[Outcome] = []
        try:
            is_complete = await self._retry(entries, outcomes)
        finally:
            outcomes.sort()
            self._report("quarantine_retried", outcomes, by)
        last = chosen[-1].offset if is_complete else outcomes[-1].offset
        more = any(selection._replace(after=last).of(self._journal.held))
        return Round(outcomes, last if more else None)

    async def delete(self, selection: Selection, by: Identity) -> int:
        """Deletes the entries of the selection for good; returns how many. Raises JournalError."""
        deleted: list[Outcome] = []
        wanted = [held for held in selection.of(self._journal.held) if held.offset not in self._under_way]
        try:
            while wanted:
                part = first_that_fit(wanted, DELETE_ENTRIES, DELETE_BYTES)
                del wanted[: len(part)]
                part = [held for held in part if self._is_free(held.offset)]
                offsets = {held.offset for held in part}
                self._under_way |= offsets
                try:
                    await self._journal.append([], [], [Verdict(offset) for offset in sorted(offsets)])
                finally:
                    self._under_way -= offsets
                deleted += [Outcome(held.offset, held.device, None) for held in part]
        finally:
            self._report("quarantine_deleted", deleted, by)
        return len(deleted)

    async def _retry(self, entries: Sequence[Entry], outcomes: list[Outcome]) -> bool:
        """Adds what became of each entry; False where only the first of them could be tried."""
        for first in range(0, len(entries), COMMITTED_ENTRIES):
            if not await self._retry_part(entries[first : first + COMMITTED_ENTRIES], outcomes):
                return False
        return True

    async def _retry_part(self, entries: Sequence[Entry], outcomes: list[Outcome]) -> bool:
        renamed: list[Verdict] = []
        waiting: list[asyncio.Future[Outcome]] = []
        is_complete = True
        for number, entry in enumerate(entries):
            if number % JUDGED_ENTRIES == 0:
                await asyncio.sleep(0)
            await self._intake.room()
            try:
                self._intake.check_open()
            except WireError:
                if not waiting and not outcomes:
                    raise
                is_complete = False
                break
            # From here to the end of the turn there is no await: nobody else can decide about it meanwhile.
            if not self._is_free(entry.offset):
                continue
            try:
                waiting.append(self._submit(entry, judge(entry, self._metrics_of(entry.device))))
            except WireError as refusal:
                reason = (refusal.code.value, refusal.message)
                outcomes.append(Outcome(entry.offset, entry.device, reason))
                if reason != entry.reason:
                    renamed.append(Verdict(entry.offset, reason))
        settled = await asyncio.gather(*waiting, return_exceptions=True)
        outcomes += [outcome for outcome in settled if isinstance(outcome, Outcome)]
        for error in settled:
            if isinstance(error, BaseException):
                raise error
        if renamed:
            await self._journal.append([], [], renamed)
        return is_complete

    def _is_free(self, offset: int) -> bool:
        return offset in self._journal.held and offset not in self._under_way

    def _submit(self, entry: Entry, accepted: Accepted) -> asyncio.Future[Outcome]:
        """Hands the batch over; the future has its outcome when it is durable."""
        batch = accepted.batch
        device = self._intake.device(entry.device)
        device.batches += 1
        device.readings += batch.readings
        device.moved += accepted.moved
        payload = AGENT_MESSAGES[entry.format].encode(accepted.data)
        now = self._intake.clock()
        again = Entry(EntryKind.BATCH, device.id, entry.epoch, entry.seq, now, entry.format, payload, batch=batch)
        outcome = Outcome(entry.offset, entry.device, None, batch.readings)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._under_way.add(entry.offset)
        self._intake.settle(device, again, Verdict(entry.offset), partial(self._settled, outcome, future))
        return future

    def _settled(self, outcome: Outcome, future: asyncio.Future[Outcome], error: JournalError | None) -> None:
        # Here and not where it is waited for: whoever waits may have gone while the commit goes on.
        self._under_way.discard(outcome.offset)
        if future.done():
            return
        if error is None:
            future.set_result(outcome)
        else:
            future.set_exception(error)

    def _report(self, kind: str, outcomes: Sequence[Outcome], by: Identity) -> None:
        """Keeps who did it, with the device where it was one."""
        if not outcomes:
            return
        devices = {outcome.device for outcome in outcomes}
        refused = Counter(outcome.reason[0] for outcome in outcomes if outcome.reason is not None)
        parts = [
            f"{len(outcomes)} of {len(devices)} devices" if len(devices) > 1 else f"{len(outcomes)}",
            f"offsets {outcomes[0].offset} to {outcomes[-1].offset}",
            f"by {by.role} {by.token_id}",
            *(f"{count} stay: {code}" for code, count in refused.most_common()),
        ]
        self._record(devices.pop() if len(devices) == 1 else None, self._intake.clock(), kind, ", ".join(parts))


def judge(entry: Entry, metrics: Mapping[str, Series]) -> Accepted:
    """The batch of an entry in quarantine as a historical one. Raises WireError for one that still cannot be accepted.

    What was refused at the door has never been given times of its own. What the store refused has, and keeps them: they
    are the newest that its series know, and nothing else is stored there.
    """
    message = AGENT_MESSAGES[entry.format].decode(entry.payload)
    if not isinstance(message, messages.Data):
        raise WireError(Code.BAD_MESSAGE, "it is not a batch")
    data = replace(message, historical=True)
    code = entry.reason[0] if entry.reason is not None else ""
    if code not in _DOOR_CODES:
        batch = decode(data, metrics)
        if len({int(time) for time in batch.times}) == len(batch.times):
            return Accepted(batch, data, 0)
    try:
        return accept(data, metrics)
    except WireError:
        raise
    except Exception:
        # It is in quarantine because the hub could not judge it once already: it must not end the retry of the others.
        log.exception("a batch in quarantine could not be judged", device=entry.device, offset=entry.offset)
        raise WireError(Code.BAD_MESSAGE, "the hub cannot judge it; its log says why") from None


def first_that_fit(held: Iterable[Held], max_entries: int, max_bytes: int) -> list[Held]:
    """The first of these entries that stay within the bounds, at least one if there is any."""
    chosen: list[Held] = []
    size_bytes = 0
    for one in islice(held, max_entries):
        size_bytes += one.size_bytes
        if chosen and size_bytes > max_bytes:
            break
        chosen.append(one)
    return chosen


_DOOR_CODES = frozenset(code.value for code in Code) - {Code.TOO_LARGE}
"""Those of a batch that was never accepted. What is too large is the store's: at the door it ends the connection."""
