"""Quarantine of the readings that a sink refuses: each is added once, also after a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import structlog

from hub.journal.journal import Journal
from hub.model.batch import Batch, Entry, EntryKind
from hub.model.store import RefusedReadings
from wire import limits
from wire.codec import AGENT_MESSAGES, Format
from wire.device import Data
from wire.errors import WireError

PAGE_ENTRIES = 500
PAGE_BYTES = 4 << 20
"""Bounds of one read of the quarantine. The journal bounds the whole of it."""

MAX_LOGGED = 1_000
"""Pairs of device and code whose first refusal is logged. Beyond this number refusals are only counted and kept."""

log = structlog.get_logger(__name__)


class Refusals:
    """Puts entries into quarantine for a consumer.

    A hub that ended after it had quarantined something, and before the sink's cursor was durable, gets the same
    refusals again. So refusals of entries from before this run are looked up: an entry with the same device, epoch,
    seq, code and payload is in quarantine already.
    """

    def __init__(self, journal: Journal, consumer: str) -> None:
        self._journal = journal
        self._consumer = consumer
        self._end_of_last_run = journal.last_offset
        self._known: set[bytes] | None = None
        self._logged: set[tuple[str, str]] = set()

    async def keep(self, refused: Sequence[RefusedReadings]) -> None:
        """Quarantine refused readings; durable when this returns. Raises JournalError."""
        entries = [
            _quarantine_entry(
                refusal.entry, "json", _payload(refusal.entry.seq, refusal.batch), (refusal.code, refusal.message)
            )
            for refusal in refused
        ]
        await self._append(entries, first_offset=min(refusal.entry.offset for refusal in refused))
        for refusal in refused:
            key = (refusal.entry.device, refusal.code)
            if key not in self._logged and len(self._logged) < MAX_LOGGED:
                self._logged.add(key)
                log.warning(
                    "readings refused, they are in quarantine",
                    consumer=self._consumer,
                    device=refusal.entry.device,
                    readings=refusal.batch.readings,
                    code=refusal.code,
                    reason=refusal.message,
                )

    async def keep_undecodable(self, entries: Sequence[Entry], errors: Mapping[int, WireError]) -> None:
        """Quarantine entries that cannot be decoded, with the error of each by offset. Raises JournalError."""
        quarantined = []
        for entry in entries:
            error = errors[entry.offset]
            reason = (error.code.value, f"cannot be stored: {error.message}"[: limits.MAX_MESSAGE])
            quarantined.append(_quarantine_entry(entry, entry.format, entry.payload, reason))
        await self._append(quarantined, first_offset=entries[0].offset)

    async def _append(self, entries: Sequence[Entry], *, first_offset: int) -> None:
        """Append those of these entries that are not in quarantine yet. `first_offset` is the lowest of their
        origins."""
        if first_offset <= self._end_of_last_run:
            if self._known is None:
                self._known = await self._read()
            entries = [entry for entry in entries if _digest(entry) not in self._known]
        else:
            # The consumer never returns to an entry that it has passed in this run.
            self._known = None
        if entries:
            await self._journal.append(entries, [])

    async def _read(self) -> set[bytes]:
        known: set[bytes] = set()
        before = self._end_of_last_run + 1
        while entries := await self._journal.quarantine.page(limit=PAGE_ENTRIES, max_bytes=PAGE_BYTES, before=before):
            known.update(map(_digest, entries))
            before = entries[-1].offset
        return known


def _quarantine_entry(entry: Entry, format: Format, payload: bytes, reason: tuple[str, str]) -> Entry:
    return Entry(
        EntryKind.QUARANTINE, entry.device, entry.epoch, entry.seq, entry.received_ns, format, payload, reason=reason
    )


def _payload(seq: int, batch: Batch) -> bytes:
    """Encode a message with only the refused readings, as the device might have sent it."""
    times = [int(time) for time in batch.times]
    columns = {series.metric: list(values) for series, values in batch.columns}
    return AGENT_MESSAGES["json"].encode(Data(seq, times, {**columns}, historical=batch.historical))


def _digest(entry: Entry) -> bytes:
    code, _ = entry.reason or ("", "")
    digest = blake2b(digest_size=16)
    for part in (entry.device, entry.epoch, str(entry.seq), code):
        digest.update(part.encode() + b"\0")
    digest.update(entry.payload)
    return digest.digest()
