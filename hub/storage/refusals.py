"""What a store will never take goes into the journal's quarantine, once, whatever crashes in between."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import structlog

from hub.model.batch import Batch, Entry, EntryKind
from hub.model.journal import Journal
from hub.model.store import RefusedReadings
from wire.codec import AGENT_MESSAGES
from wire.device import Data

PAGE_ENTRIES = 500
PAGE_BYTES = 4 << 20
"""Of the quarantine, read at a time to see what is there; all of it is bounded by the journal."""

MAX_TOLD = 1_000
"""Devices and codes whose first refusal was logged; those that come later are logged again with each refusal."""

log = structlog.get_logger(__name__)


class Refusals:
    """Puts entries into quarantine for the store's writer.

    A hub that died after it had put something there, and before the store's cursor said so, gets the same refusals
    again. So those of entries from before this run are looked up: what has the same device, epoch, seq, code and
    payload is there already.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._end_of_last_run = journal.last_offset
        self._there: set[bytes] | None = None
        self._told: set[tuple[str, str]] = set()

    async def keep(self, refused: Sequence[RefusedReadings]) -> list[Entry]:
        """Durable when this returns; gives what was put there. Raises JournalError."""
        entries = [(one.entry.offset, _entry(one)) for one in refused]
        added = await self.put([entry for _, entry in entries], first_offset=min(offset for offset, _ in entries))
        for one in refused:
            if (one.entry.device, one.code) not in self._told and len(self._told) <= MAX_TOLD:
                self._told.add((one.entry.device, one.code))
                log.warning(
                    "the store refuses readings; they are in quarantine",
                    device=one.entry.device,
                    readings=one.batch.readings,
                    code=one.code,
                    reason=one.message,
                )
        return added

    async def put(self, entries: Sequence[Entry], *, first_offset: int) -> list[Entry]:
        """Appends those of these QUARANTINE entries that are not there yet; returns them. Raises JournalError.

        `first_offset` is the lowest one of the entries that they were made of.
        """
        if first_offset <= self._end_of_last_run:
            if self._there is None:
                self._there = await self._read()
            entries = [entry for entry in entries if _digest(entry) not in self._there]
        else:
            # The writer never goes back before what it has passed in this run.
            self._there = None
        if entries:
            await self._journal.append(entries, [])
        return list(entries)

    async def _read(self) -> set[bytes]:
        found: set[bytes] = set()
        before = self._end_of_last_run + 1
        while entries := await self._journal.quarantined(limit=PAGE_ENTRIES, max_bytes=PAGE_BYTES, before=before):
            found.update(map(_digest, entries))
            before = entries[-1].offset
        return found


def _entry(refused: RefusedReadings) -> Entry:
    """A message with only the refused readings, as the device might have sent it."""
    given = refused.entry
    return Entry(
        EntryKind.QUARANTINE,
        given.device,
        given.epoch,
        given.seq,
        given.received_ns,
        "json",
        AGENT_MESSAGES["json"].encode(_message(given.seq, refused.batch)),
        reason=(refused.code, refused.message),
    )


def _message(seq: int, batch: Batch) -> Data:
    return Data(
        seq,
        [int(time) for time in batch.times],
        {series.metric: list(values) for series, values in batch.columns},
        historical=batch.historical,
    )


def _digest(entry: Entry) -> bytes:
    code, _ = entry.reason or ("", "")
    digest = blake2b(digest_size=16)
    for part in (entry.device, entry.epoch, str(entry.seq), code):
        digest.update(part.encode() + b"\0")
    digest.update(entry.payload)
    return digest.digest()
