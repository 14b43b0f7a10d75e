"""Retry and delete entries in quarantine, on the request of a person.

The values that are accepted are submitted like every batch, as a historical one, and the entry leaves the quarantine in
the transaction that makes them durable. So they are accepted once, whatever happens in between. Values that are still
refused get an entry of their own in the same transaction.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from hub.ingest.device import Devices, validate_batch, validate_values
from hub.ingest.partial_batch import VALIDATION_CODES, RefusedPart, loose, read_loosely
from hub.ingest.validate import ValidBatch, decode, metrics_to_widen
from hub.model.batch import MESSAGE_CODES, SOURCE_REFUSED, Entry, EntryKind, Series
from hub.model.bridge import DecodedMessage
from hub.model.identity import Identity
from hub.model.journal import JournalError, QuarantineDecision, QuarantinedEntry, settle
from hub.model.store import FIELD_CONFLICT
from wire import device as messages
from wire.codec import AGENT_MESSAGES
from wire.errors import Code, WireError
from wire.limits import MAX_SEQ
from wire.model import Metric
from wire.text import plural

RETRY_ENTRIES = 1_000
"""Entries of one call. It returns within a second or two, so a client that retries everything sees progress."""

RETRY_BYTES = 8 * 1024 * 1024
"""Payload bytes of one call: the size of one commit of the journal."""

COMMITTED_ENTRIES = 64
"""Entries that are submitted before the call waits for their commit. Devices' batches share the commit and its wait."""

TURN_ENTRIES = 16
"""Entries that are validated in one turn of the event loop: 2 ms of small ones."""

MATCHING_ENTRIES = 10_000
"""Entries that are retried after a metric was changed, before its request is answered: some ten seconds. Further ones
stay for a retry that a person starts."""

METRIC_CODES = frozenset({
    Code.TYPE_CONFLICT.value, Code.WRONG_TYPE.value, Code.UNKNOWN_METRIC.value, FIELD_CONFLICT,
    "type", "number", "unit",
})  # fmt: skip
"""Codes of entries that a change of a metric's type or name may make acceptable. The last three are of messages."""

MessageDecoder = Callable[[Entry], Awaitable[DecodedMessage]]
"""Decode a message of a broker in quarantine again."""

DELETE_ENTRIES = 500
DELETE_BYTES = 8 * 1024 * 1024
"""Entries and payload bytes that one commit deletes, so that acknowledgements do not wait for a long deletion."""

log = structlog.get_logger(__name__)


class QuarantineSelection(NamedTuple):
    """Selection of entries: of one device or all, of one reason's code, of several `codes`, or of all, with offsets in
    (after, up_to]."""

    device: str | None = None
    code: str | None = None
    after: int = 0
    up_to: int = MAX_SEQ
    codes: frozenset[str] = frozenset()

    def entries(self, index: Mapping[int, QuarantinedEntry]) -> Iterator[QuarantinedEntry]:
        """Yield the selected entries of the index, the oldest first."""
        return (
            entry
            for entry in index.values()
            if self.after < entry.offset <= self.up_to
            and (self.device is None or entry.device == self.device)
            and (self.code is None or entry.code == self.code)
            and (not self.codes or entry.code in self.codes)
        )


class RetryOutcome(NamedTuple):
    """Outcome for one entry: so many `readings` are accepted. `reason` is why the others stay, None if none does."""

    offset: int
    device: str
    reason: tuple[str, str] | None
    readings: int = 0


class RemainingPart(NamedTuple):
    """Part of an entry that is still refused: the reason and the content of its own entry."""

    reason: tuple[str, str]
    payload: bytes


class RetryReport(NamedTuple):
    """Result of one call. `next` is the `after` of the next call, None when no selected entry is left."""

    outcomes: list[RetryOutcome]
    next: int | None


class QuarantineActions:
    """Retries and deletes entries in quarantine."""

    def __init__(
        self,
        devices: Devices,
        *,
        metrics_of: Callable[[str], Mapping[str, Series]],
        declare: Callable[[str, Sequence[Metric]], Awaitable[object]],
        record: Callable[[str | None, int, str, str], None],
        decode_message: MessageDecoder,
    ) -> None:
        """`metrics_of` returns a device's current metrics, `declare` declares some; `record` records an event of a
        device, or of the hub (None). `decode_message` decodes the message of an entry with one of MESSAGE_CODES."""
        self._journal = devices.journal
        self._devices = devices
        self._metrics_of = metrics_of
        self._declare = declare
        self._record = record
        self._decode_message = decode_message
        # Entries with a decision that is being committed. No other decision about them may begin.
        self._under_way: set[int] = set()

    async def retry(self, selection: QuarantineSelection, by: Identity) -> RetryReport:
        """Validate the oldest entries of the selection again, within the bounds of one call.

        Accepted entries are durable when this returns; the others stay, with the newest reason. Raises WireError while
        no data are accepted, and JournalError.
        """
        chosen = first_that_fit(selection.entries(self._journal.quarantine.index), RETRY_ENTRIES, RETRY_BYTES)
        if not chosen:
            return RetryReport([], None)
        entries = await self._journal.quarantine.entries([entry.offset for entry in chosen])
        outcomes: list[RetryOutcome] = []
        try:
            is_complete = await self._retry(entries, outcomes)
        finally:
            outcomes.sort()
            self._report("quarantine_retried", outcomes, by)
        last = chosen[-1].offset if is_complete else outcomes[-1].offset
        more = any(selection._replace(after=last).entries(self._journal.quarantine.index))
        return RetryReport(outcomes, last if more else None)

    async def retry_matching(self, device: str, by: Identity) -> RetryReport:
        """Retry what the change of a metric of this device may have made acceptable, at most MATCHING_ENTRIES.

        What cannot be tried now stays for a later retry: the change itself is done.
        """
        # What is still refused of an entry gets one of its own, with a higher offset: each is tried once.
        newest = max(self._journal.quarantine.index, default=0)
        selection = QuarantineSelection(device, codes=METRIC_CODES, up_to=newest)
        outcomes: list[RetryOutcome] = []
        while True:
            try:
                report = await self.retry(selection, by)
            except (WireError, JournalError) as error:
                log.warning("quarantine not retried after a metric was changed", device=device, error=str(error))
                return RetryReport(outcomes, selection.after)
            outcomes += report.outcomes
            if report.next is None or len(outcomes) >= MATCHING_ENTRIES:
                return RetryReport(outcomes, report.next)
            selection = selection._replace(after=report.next)

    async def delete(self, selection: QuarantineSelection, by: Identity) -> int:
        """Delete the entries of the selection; return how many. Raises JournalError."""
        deleted: list[RetryOutcome] = []
        index = self._journal.quarantine.index
        wanted = [entry for entry in selection.entries(index) if entry.offset not in self._under_way]
        try:
            while wanted:
                part = first_that_fit(wanted, DELETE_ENTRIES, DELETE_BYTES)
                del wanted[: len(part)]
                part = [entry for entry in part if self._is_free(entry.offset)]
                offsets = {entry.offset for entry in part}
                self._under_way |= offsets
                try:
                    await self._journal.append([], [], [QuarantineDecision(offset) for offset in sorted(offsets)])
                finally:
                    self._under_way -= offsets
                deleted += [RetryOutcome(entry.offset, entry.device, None) for entry in part]
        finally:
            self._report("quarantine_deleted", deleted, by)
        return len(deleted)

    async def _retry(self, entries: Sequence[Entry], outcomes: list[RetryOutcome]) -> bool:
        """Append the outcome of each entry; return False where only the first of them could be tried."""
        for first in range(0, len(entries), COMMITTED_ENTRIES):
            if not await self._retry_part(entries[first : first + COMMITTED_ENTRIES], outcomes):
                return False
        return True

    async def _retry_part(self, entries: Sequence[Entry], outcomes: list[RetryOutcome]) -> bool:
        updated: list[QuarantineDecision] = []
        waiting: list[asyncio.Future[RetryOutcome]] = []
        is_complete = True
        for number, entry in enumerate(entries):
            if number % TURN_ENTRIES == 0:
                await asyncio.sleep(0)
            await self._journal.room()
            try:
                self._devices.check_open()
                again = await self._decode_again(entry)
            except WireError:
                if not waiting and not outcomes:
                    raise
                is_complete = False
                break
            # No await from here to the end of the turn: no other decision about the entry can begin meanwhile.
            if not self._is_free(entry.offset):
                continue
            if entry.reason is not None and entry.reason[0] == SOURCE_REFUSED:
                # It contains no readings that could be accepted.
                outcomes.append(RetryOutcome(entry.offset, entry.device, entry.reason))
                continue
            try:
                batches, rest = self._revalidate(entry, again)
                if batches:
                    waiting.append(self._submit(entry, batches, rest))
                    continue
                reason = rest[0].reason if rest else None
            except WireError as error:
                reason = (error.code.value, error.message)
            outcomes.append(RetryOutcome(entry.offset, entry.device, reason))
            if reason != entry.reason:
                updated.append(QuarantineDecision(entry.offset, reason))
        settled = await asyncio.gather(*waiting, return_exceptions=True)
        outcomes += [outcome for outcome in settled if isinstance(outcome, RetryOutcome)]
        for failure in settled:
            if isinstance(failure, BaseException):
                raise failure
        if updated:
            await self._journal.append([], [], updated)
        return is_complete

    async def _decode_again(self, entry: Entry) -> DecodedMessage | None:
        """Return the content of a message of a broker, None for any other entry, whose metrics are then prepared.

        Raises WireError while no metrics can be declared.
        """
        if entry.reason is not None and entry.reason[0] in MESSAGE_CODES:
            return await self._decode_message(entry)
        await self._widen(entry)
        return None

    async def _widen(self, entry: Entry) -> None:
        """Widen the integer metrics to which the entry brings floats, as a batch of the device would."""
        if entry.reason is None or entry.reason[0] != Code.WRONG_TYPE:
            return
        batch = read_loosely(entry.payload, entry.format)
        wider = metrics_to_widen(batch.values, self._metrics_of(entry.device)) if batch is not None else []
        if wider:
            with suppress(WireError):  # the entry then stays in quarantine
                await self._declare(entry.device, wider)

    def _is_free(self, offset: int) -> bool:
        return offset in self._journal.quarantine.index and offset not in self._under_way

    def _revalidate(
        self, entry: Entry, again: DecodedMessage | None
    ) -> tuple[list[tuple[str, ValidBatch]], list[RemainingPart]]:
        """Return the batches that are valid now, by device, and what is still refused. Raises WireError.

        `again` is the content of a message of a broker.
        """
        if again is None:
            valid, parts = revalidate(entry, self._metrics_of(entry.device))
            rest = [RemainingPart((code.value, message), payload) for code, message, payload, _ in parts]
            return [(entry.device, valid)], rest
        batches = [(device, validate_batch(data, self._metrics_of(device), device)) for device, data in again.batches]
        return batches, [] if again.reason is None else [RemainingPart(again.reason, again.rest)]

    def _submit(
        self, entry: Entry, batches: Sequence[tuple[str, ValidBatch]], rest: Sequence[RemainingPart]
    ) -> asyncio.Future[RetryOutcome]:
        """Submit the batches, and what is still refused; the future has the outcome when it is durable."""
        now = self._devices.clock()
        # The entry leaves with the first batch; all are submitted in this turn, so they share a commit.
        decision: QuarantineDecision | None = QuarantineDecision(entry.offset)
        readings = sum(valid.batch.readings for _, valid in batches)
        outcome = RetryOutcome(entry.offset, entry.device, rest[0].reason if rest else None, readings)
        future: asyncio.Future[RetryOutcome] = asyncio.get_running_loop().create_future()
        self._under_way.add(entry.offset)
        self._journal.when_durable(partial(self._settled, outcome, future))
        for id, valid in batches:
            device = self._devices.device(id)
            device.count_batch(valid.batch, valid.moved)
            payload = AGENT_MESSAGES[entry.format].encode(valid.data)
            accepted = Entry(
                EntryKind.BATCH, device.id, entry.epoch, entry.seq, now, entry.format, payload, batch=valid.batch
            )
            self._journal.submit(device, accepted, decision)
            decision = None
        device = self._devices.device(entry.device)
        if _was_never_accepted(entry):
            device.quarantined = max(0, device.quarantined - 1)
            device.quarantined_readings = max(0, device.quarantined_readings - readings)
        for reason, part in rest:
            kept = Entry(
                EntryKind.QUARANTINE, device.id, entry.epoch, entry.seq, entry.received_ns, entry.format, part,
                reason=reason,
            )  # fmt: skip
            device.quarantined += 1
            self._journal.submit(device, kept)
        return future

    def _settled(self, outcome: RetryOutcome, future: asyncio.Future[RetryOutcome], error: JournalError | None) -> None:
        # Here and not in the waiting coroutine: that may be cancelled while the commit continues.
        self._under_way.discard(outcome.offset)
        settle(future, outcome if error is None else error)

    def _report(self, kind: str, outcomes: Sequence[RetryOutcome], by: Identity) -> None:
        """Record the action and its author as an event: of the device, or of the hub where it concerns several."""
        if not outcomes:
            return
        devices = {outcome.device for outcome in outcomes}
        refused = Counter(outcome.reason[0] for outcome in outcomes if outcome.reason is not None)
        parts = [
            f"{len(outcomes)} of {len(devices)} devices" if len(devices) > 1 else f"{len(outcomes)}",
            f"offsets {outcomes[0].offset} to {outcomes[-1].offset}",
            f"by {by.operator}",
            *(f"{plural(count, 'stays', 'stay')}: {code}" for code, count in refused.most_common()),
        ]
        self._record(devices.pop() if len(devices) == 1 else None, self._devices.clock(), kind, ", ".join(parts))


def revalidate(entry: Entry, metrics: Mapping[str, Series]) -> tuple[ValidBatch, list[RefusedPart]]:
    """Return the values of an entry in quarantine that are valid now, as a historical batch, and the others.

    Raises WireError when no value is valid. A batch that validation rejected has no distinct times yet. Readings that
    the store refused have, and keep them: they are the newest times of their series, and nothing else is stored there.
    """
    try:
        message = AGENT_MESSAGES[entry.format].decode(entry.payload)
    except WireError as error:
        # A part of a batch, or a batch with a value that no message can have.
        batch = read_loosely(entry.payload, entry.format)
        historical = None if batch is None else replace(batch, historical=True)
        return validate_values(historical, entry.format, metrics, entry.device, error)
    if not isinstance(message, messages.Data):
        raise WireError(Code.BAD_MESSAGE, "the entry is not a batch")
    data = replace(message, historical=True)
    if not _was_never_accepted(entry):
        accepted = decode(data, metrics)
        if len({int(time) for time in accepted.times}) == len(accepted.times):
            return ValidBatch(accepted, data, 0), []
    try:
        return validate_batch(data, metrics, entry.device), []
    except WireError as error:
        return validate_values(loose(data), entry.format, metrics, entry.device, error)


def _was_never_accepted(entry: Entry) -> bool:
    return entry.reason is not None and entry.reason[0] in VALIDATION_CODES | MESSAGE_CODES


def first_that_fit(entries: Iterable[QuarantinedEntry], max_entries: int, max_bytes: int) -> list[QuarantinedEntry]:
    """Return the first entries that stay within the bounds, at least one if there is any."""
    chosen: list[QuarantinedEntry] = []
    size_bytes = 0
    for entry in islice(entries, max_entries):
        size_bytes += entry.size_bytes
        if chosen and size_bytes > max_bytes:
            break
        chosen.append(entry)
    return chosen
