"""Group commit on the event loop: one transaction under way, and everything that arrives meanwhile is the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import structlog

from hub.journal.block import ENTRY_BYTES, size_of
from hub.journal.ledger import Commit, Ledger
from hub.journal.reader import Reader
from hub.journal.tail import Tail
from hub.journal.writer import LimitReached, Transaction
from hub.model.batch import Entry, Mark
from hub.model.journal import JournalError, JournalFailed, JournalFull, Verdict

COMMIT_BYTES = 8 * 1024 * 1024
"""Of one commit; calls beyond it wait for the next, so that the first are not acknowledged as late as the last. A
single larger call is committed as it is: it is one transaction."""

CURSOR_DELAY_S = 1.0
"""A consumer's cursor that no commit takes along is written this long after it moved. Until then a crash only makes the
consumer begin a little earlier."""

log = structlog.get_logger(__name__)


class _Call(NamedTuple):
    """An append that waits."""

    entries: list[Entry]
    marks: list[Mark]
    verdicts: list[Verdict]
    size_bytes: int
    durable: asyncio.Future[int]


class Committer:
    """Brings entries, marks and cursors into the ledger's file through `submit`, and the entries into the tail.

    There is no timer between entries and their commit: a lone call is committed at once, and what arrives while a
    commit runs shares the next. `grown` is set, and replaced, when there are new entries.
    """

    def __init__(
        self,
        ledger: Ledger,
        tail: Tail,
        reader: Reader,
        submit: Callable[[Transaction], None],
        *,
        clock: Callable[[], int],
    ) -> None:
        self.grown = asyncio.Event()
        self._ledger = ledger
        self._tail = tail
        self._reader = reader
        self._submit = submit
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._calls: deque[_Call] = deque()
        self._under_way: Commit | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        self._closing = False
        self._failure: JournalFailed | None = None
        self._cursor_timer: asyncio.TimerHandle | None = None
        self._learning: asyncio.Task[None] | None = None

    @property
    def first_offset(self) -> int:
        """The oldest offset that will be there when the commit under way has ended."""
        trim = self._under_way.trim if self._under_way is not None else None
        return trim.first_offset if trim is not None else self._ledger.retention.first_offset

    async def append(self, entries: Sequence[Entry], marks: Sequence[Mark], verdicts: Sequence[Verdict] = ()) -> int:
        """Returns the last offset when they are durable. Raises JournalError."""
        if self._failure is not None:
            raise JournalFailed(str(self._failure))
        if not entries and not marks and not verdicts:
            return self._ledger.last_offset
        durable: asyncio.Future[int] = self._loop.create_future()
        self._calls.append(_Call(list(entries), list(marks), list(verdicts), size_of(entries), durable))
        if self._under_way is None:
            self._commit_waiting()
        return await durable

    def write_cursors_soon(self) -> None:
        """Has changed cursors written, by the next commit or by one of their own."""
        waits = self._cursor_timer is not None or self._under_way is not None
        if not waits and self._ledger.cursors.changed and not self._closing and self._failure is None:
            self._cursor_timer = self._loop.call_later(CURSOR_DELAY_S, self._write_cursors)

    def fail(self, failure: JournalFailed) -> None:
        """Nothing more can be written."""
        self._failure = failure

    async def close(self) -> None:
        """Commits the calls that wait, and the cursors."""
        self._closing = True
        await self._settled.wait()
        if self._ledger.cursors.changed and self._failure is None:
            self._commit([])
            await self._settled.wait()
        self._disarm()
        if self._learning is not None:
            await self._learning
        self.grown.set()

    def _commit_waiting(self) -> None:
        """Commits the calls that wait: all of them, or as many as fit into one commit."""
        while self._calls and self._under_way is None:
            calls: list[_Call] = []
            size_bytes = 0
            while self._calls and (not calls or size_bytes + self._calls[0].size_bytes <= COMMIT_BYTES):
                call = self._calls.popleft()
                if not call.durable.cancelled():
                    calls.append(call)
                    size_bytes += call.size_bytes
            if calls:
                self._commit(calls)

    def _commit(self, calls: list[_Call]) -> None:
        # Usually there is one: the hub's intake collects for itself.
        entries = calls[0].entries if len(calls) == 1 else [entry for call in calls for entry in call.entries]
        marks = calls[0].marks if len(calls) == 1 else [mark for call in calls for mark in call.marks]
        verdicts = [verdict for call in calls for verdict in call.verdicts]
        size_bytes = sum(call.size_bytes for call in calls)
        try:
            commit = self._ledger.prepare(entries, marks, verdicts, size_bytes=size_bytes, now_ns=self._clock())
        except (TypeError, ValueError, OverflowError) as error:
            _refuse(calls, JournalError(f"the entries cannot be written: {error}"))
            return
        self._disarm()
        if not commit.statements:
            # Verdicts only, on what is not in quarantine any more.
            for call in calls:
                call.durable.set_result(self._ledger.last_offset)
            return
        self._under_way = commit
        self._settled.clear()
        done = partial(self._ended, commit, calls)
        self._submit(Transaction(commit.statements, size_bytes, done, makes_room=not calls))

    def _ended(self, commit: Commit, calls: list[_Call], error: JournalError | None) -> None:
        """The commit is durable, or nothing of it is."""
        self._under_way = None
        offset = self._ledger.last_offset
        if error is None:
            self._ledger.done(commit)
            self._tail.extend(commit.entries, commit.size_bytes - ENTRY_BYTES * len(commit.entries))
            self._tail.drop(self._ledger.cursors.passed(0))
            if not calls and commit.piece is not None:
                # The deletions that may make room wait for the marks of their blocks: fold them all.
                self._commit([])
        else:
            self._ledger.put_back(commit)
            error = self._explained(error)
            if calls and isinstance(error, JournalFull):
                # Entries keep out what came with them: cursors and deletions, which make room.
                self._commit([])
        # The disk goes on before anybody is told.
        self._commit_waiting()
        if error is not None:
            _refuse(calls, error)
        else:
            for call in calls:
                offset += len(call.entries)
                if not call.durable.done():
                    call.durable.set_result(offset)
            if commit.entries:
                self.grown.set()
                self.grown = asyncio.Event()
            self._learn_old_blocks()
        if self._under_way is None:
            self._settled.set()
            self.write_cursors_soon()

    def _explained(self, error: JournalError) -> JournalError:
        if not isinstance(error, LimitReached):
            return error
        slowest = self._ledger.cursors.slowest()
        if slowest is None or slowest.offset >= self._ledger.last_offset:
            return JournalFull(f"{error} and deletes what is not needed any more; if this lasts, raise the bound")
        behind = self._ledger.last_offset - slowest.offset
        return JournalFull(f"{error}, since {slowest.name} has not dealt with {behind} of its entries yet")

    def _disarm(self) -> None:
        if self._cursor_timer is not None:
            self._cursor_timer.cancel()
            self._cursor_timer = None

    def _write_cursors(self) -> None:
        self._cursor_timer = None
        if self._failure is None and not self._closing:
            self._commit([])

    def _learn_old_blocks(self) -> None:
        retention = self._ledger.retention
        if self._learning is None and retention.exhausted and retention.known_up_to < self._ledger.last_offset:
            self._learning = self._loop.create_task(self._learn(), name="journal: old blocks")

    async def _learn(self) -> None:
        retention = self._ledger.retention
        try:
            retention.learn(await self._reader.old_blocks(retention.known_up_to))
        except JournalError as error:
            # Once is enough: it stays like this until somebody looks at the disk and restarts.
            log.error("the journal cannot delete old entries any more", error=str(error))
        else:
            self._learning = None


def _refuse(calls: list[_Call], error: JournalError) -> None:
    for call in calls:
        if not call.durable.done():
            call.durable.set_exception(error)
