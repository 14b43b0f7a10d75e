"""The thread that reads the file for readers that fell behind, on a connection of its own."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec
import structlog

from hub.journal.block import BlockDamaged, BlockRow, limit_entries
from hub.journal.quarantine import Quarantine, QuarantineRow
from hub.journal.rows import KEPT_ROWS
from hub.journal.schema import connect_reader
from hub.journal.state import Retention
from hub.journal.stored_blocks import UNREADABLE, OldBlock, next_intact, read_blocks, read_old_blocks
from hub.model.batch import Entry, EntryKind
from hub.model.journal import JournalError, JournalFailed, QuarantinedEntry
from wire.codec import Format
from wire.limits import MAX_SEQ

KEPT_BLOCKS = 4
"""Decoded blocks that stay in memory because a read ended within them. This many readers can be behind at different
offsets without decoding a block again for each read. About 3 MB each."""

LOAD_RETRY_S = 60.0
"""After a read of the oldest blocks failed, the next attempt waits this long. Until then the journal only grows."""

log = structlog.get_logger(__name__)

_READ_BLOCK_TIME = """
SELECT first_offset + count - 1, received_ns FROM block
WHERE first_offset <= ? ORDER BY first_offset DESC LIMIT 1"""
_READ_QUARANTINE = """
SELECT offset, device, epoch, seq, received_ns, code, message, format, payload FROM quarantine
WHERE offset < ?1 AND (?2 IS NULL OR device = ?2) AND (?3 IS NULL OR code = ?3) ORDER BY offset DESC LIMIT ?4"""
_READ_QUARANTINE_AT = """
SELECT offset, device, epoch, seq, received_ns, code, message, format, payload FROM quarantine
WHERE offset IN (SELECT value FROM json_each(?)) ORDER BY offset"""

Answer = TypeVar("Answer")


class EntriesUnreadable(JournalError):
    """The entries from `first` to `last` cannot be read; their rows, if there are any, are damaged."""

    def __init__(self, first: int, last: int, reason: str, rows: Sequence[BlockRow]) -> None:
        super().__init__(f"entries {first} to {last} cannot be read: {reason}")
        self.first = first
        self.last = last
        self.reason = reason
        self.rows = rows


class FileReader:
    """Thread with a read-only connection. Requests run one after the other, each in a short read transaction."""

    def __init__(
        self, path: Path, *, vfs: str | None, failed: Callable[[JournalFailed], None] = lambda failure: None
    ) -> None:
        """`failed` is called when the file cannot be read at all any more."""
        self._path = path
        self._vfs = vfs
        self._failed = failed
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal-reader")
        self._connection: apsw.Connection | None = None
        self._partly_read: OrderedDict[int, list[Entry]] = OrderedDict()

    async def entries(self, after: int, up_to: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Return the entries after `after` up to `up_to`, without a hole, within the bounds, at least one.

        Raises EntriesUnreadable if the first of them is not there or is damaged, with the range up to the next intact
        block, and JournalError.
        """
        return await self._run(lambda: self._entries(after, up_to, max_entries, max_bytes))

    async def old_blocks(self, after: int) -> list[OldBlock]:
        """Return the oldest blocks that begin after this offset. Raises JournalError."""
        return await self._run(lambda: read_old_blocks(self._connect(), after))

    async def offset_since(self, since_ns: int, first_offset: int, last_offset: int) -> int:
        """Return the last offset of the blocks whose entries all arrived before then. Raises JournalError.

        A binary search over the blocks: a clock that was put back can hide entries that arrived before that.
        """

        def search() -> int:
            low, high = first_offset, last_offset + 1
            while low < high:
                middle = (low + high) // 2
                block = self._connect().execute(_READ_BLOCK_TIME, (middle,)).get
                if block is None or block[1] >= since_ns:
                    high = middle
                else:
                    low = block[0] + 1
            return low - 1

        return await self._run(search)

    async def quarantine_page(
        self, device: str | None, code: str | None, *, limit: int, max_bytes: int, before: int
    ) -> list[Entry]:
        """Return entries in quarantine below offset `before`, the newest first, within the bounds, at least one.

        Raises JournalError.
        """

        def read() -> list[Entry]:
            found: list[Entry] = []
            size_bytes = 0
            with closing(self._connect().execute(_READ_QUARANTINE, (before, device, code, limit))) as rows:
                for row in rows:
                    entry = _entry(QuarantineRow(*row))
                    size_bytes += len(entry.payload)
                    if found and size_bytes > max_bytes:
                        break
                    found.append(entry)
            return found

        return await self._run(read)

    async def quarantine_entries(self, offsets: Sequence[int]) -> list[Entry]:
        """Return those of these entries that are in quarantine, the oldest first. Raises JournalError."""
        wanted = msgspec.json.encode(offsets).decode()
        return await self._run(
            lambda: [_entry(QuarantineRow(*row)) for row in self._connect().execute(_READ_QUARANTINE_AT, (wanted,))]
        )

    async def close(self) -> None:
        """End the thread after the reads under way."""
        await self._run(self._disconnect)
        self._executor.shutdown()

    async def _run(self, read: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, read)
        except (apsw.BusyError, apsw.LockedError, apsw.NoMemError) as error:
            raise JournalError(f"the journal cannot be read now: {error}") from error
        except (apsw.Error, UnicodeDecodeError) as error:
            failure = JournalFailed(
                f"{self._path} cannot be read ({error}). Check the disk and the system log, then restart the hub: it "
                "continues with what is readable, and reports what is not"
            )
            self._failed(failure)
            raise failure from error

    def _connect(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = connect_reader(self._path, vfs=self._vfs)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _entries(self, after: int, up_to: int, max_entries: int, max_bytes: int) -> list[Entry]:
        found: list[Entry] = []
        damage = _Damage()
        with closing(self._blocks(after + 1, up_to, damage)) as blocks:
            for first_offset, block in blocks:
                if first_offset > after + 1:
                    if not found:
                        raise EntriesUnreadable(after + 1, first_offset - 1, damage.reason, damage.rows)
                    break
                skip = after + 1 - first_offset
                end = min(skip + max_entries - len(found), up_to + 1 - first_offset)
                part, used = limit_entries(block[skip:end], max_bytes)
                if not part or (found and used > max_bytes):
                    break
                found += part
                after = part[-1].offset
                max_bytes -= used
                self._partly_read.pop(first_offset, None)
                if part[-1] is not block[-1]:
                    self._partly_read[first_offset] = block
                    if len(self._partly_read) > KEPT_BLOCKS:
                        self._partly_read.popitem(last=False)
                    break
                if len(found) >= max_entries or max_bytes <= 0:
                    break
        if not found and after < up_to:
            raise EntriesUnreadable(after + 1, up_to, damage.reason, damage.rows)
        return found

    def _blocks(self, offset: int, up_to: int, damage: _Damage) -> Generator[tuple[int, list[Entry]], None, None]:
        """Yield the intact blocks from the one that contains this offset, each with its first offset.

        A damaged block is left out and recorded in `damage`. Raises one of UNREADABLE if a page is damaged and no
        intact block can be found behind it.
        """
        for first_offset, block in self._partly_read.items():
            if first_offset <= offset < first_offset + len(block):
                yield first_offset, block
                offset = first_offset + len(block)
                break
        while True:
            try:
                # Closed with the generator: an open cursor is an open transaction, which holds the write-ahead log.
                with closing(read_blocks(self._connect(), offset)) as rows:
                    for row in rows:
                        try:
                            block = row.open_entries(first_offset=offset)
                        except BlockDamaged as error:
                            if row.last_offset >= offset:
                                damage.record(row, str(error))
                            continue
                        if row.first_offset + len(block) > offset:
                            yield row.first_offset, block
                            offset = row.first_offset + len(block)
                return
            except UNREADABLE as error:
                found = next_intact(self._connect(), offset, up_to)
                if found is None:
                    raise
                damage.reason = f"a page of the file is damaged ({error})"
                offset = found


class _Damage:
    """Damaged rows that a read has met: the first KEPT_ROWS of them."""

    def __init__(self) -> None:
        self.reason = "they are missing in the file"
        self.rows: list[BlockRow] = []

    def record(self, row: BlockRow, reason: str) -> None:
        self.reason = reason
        if len(self.rows) < KEPT_ROWS:
            self.rows.append(row)


class QuarantineReader:
    """The quarantine for everyone who looks into it. It has bounds of its own, and trimming does not touch it."""

    def __init__(self, quarantine: Quarantine, reader: Callable[[], FileReader]) -> None:
        """`reader` returns the reader of the file. Raises JournalError when the journal is closed."""
        self._quarantine = quarantine
        self._reader = reader

    async def page(
        self,
        device: str | None = None,
        *,
        code: str | None = None,
        limit: int = 100,
        max_bytes: int = 1 << 30,
        before: int = MAX_SEQ,
    ) -> list[Entry]:
        """Return entries below offset `before`, the newest first, within the bounds, at least one if there is any.

        `device` and `code` select the entries of one device or one reason. Raises JournalError.
        """
        return await self._reader().quarantine_page(device, code, limit=limit, max_bytes=max_bytes, before=before)

    async def entries(self, offsets: Sequence[int]) -> list[Entry]:
        """Return those of these entries that are in quarantine, the oldest first. Raises JournalError."""
        return await self._reader().quarantine_entries(offsets)

    @property
    def index(self) -> Mapping[int, QuarantinedEntry]:
        """Return the index by offset, the oldest first. It changes with each commit."""
        return self._quarantine.entries

    @property
    def totals(self) -> dict[str, int]:
        """Return how many entries were ever put in quarantine, by code."""
        return dict(self._quarantine.totals)

    @property
    def dropped(self) -> int:
        """Return how many entries the bounds of the quarantine deleted."""
        return self._quarantine.dropped


class OldBlockLoader:
    """Reads the oldest blocks for the retention, which decides with them what may be deleted."""

    def __init__(self, retention: Retention, reader: Callable[[], FileReader]) -> None:
        self._retention = retention
        self._reader = reader
        self._task: asyncio.Task[None] | None = None
        self._not_before_s = 0.0

    def load(self, last_offset: int) -> None:
        """Begin to read if the retention needs blocks up to `last_offset` and knows none."""
        retention = self._retention
        if self._task is None and retention.exhausted and retention.known_up_to < last_offset:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._not_before_s:
                self._task = loop.create_task(self._load(), name="journal: old blocks")

    async def finish(self) -> None:
        """Wait for the read under way."""
        if self._task is not None:
            await self._task

    async def _load(self) -> None:
        try:
            self._retention.load(await self._reader().old_blocks(self._retention.known_up_to))
        except JournalError as error:
            log.error("journal cannot delete old entries now", error=str(error), retry_s=LOAD_RETRY_S)
            self._not_before_s = asyncio.get_running_loop().time() + LOAD_RETRY_S
        finally:
            self._task = None


def _entry(row: QuarantineRow) -> Entry:
    format: Format = "msgpack" if row.format == "msgpack" else "json"
    return Entry(
        EntryKind.QUARANTINE,
        row.device,
        row.epoch,
        row.seq,
        row.received_ns,
        format,
        row.payload,
        reason=(row.code, row.message),
        offset=row.offset,
    )
