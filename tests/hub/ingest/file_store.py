"""The tables of a registry for state machines: a test decides when a write is on disk, fails, or is lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import apsw

from hub.ingest.command_dispatcher import IdInUse, Stored, Transition
from hub.model.command import CommandRecord
from hub.model.desired import DesiredRefused
from hub.registry.command import change_commands, insert_with_new_id
from hub.registry.database import RegistryError
from hub.registry.schema import create_tables
from wire.errors import Code

REFUSALS = (RegistryError, DesiredRefused, IdInUse)
"""Errors with which a write is refused, and changes nothing."""


class FileStore:
    """Writes that happen when `commit` is called, in their order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.connection = apsw.Connection(":memory:")
        create_tables(self.connection)
        self.waiting: deque[tuple[Callable[[], Any], Callable[[Any], None], asyncio.Future[Any]]] = deque()
        self.now_ns = 1

    def wait(self, work: Callable[[], Any], on_stored: Callable[[Any], None] = lambda _: None) -> asyncio.Future[Any]:
        """Return the future answer of a write."""
        future: asyncio.Future[Any] = self.loop.create_future()
        self.waiting.append((work, on_stored, future))
        return future

    def commit(self) -> None:
        """Execute the oldest write."""
        work, on_stored, future = self.waiting.popleft()
        try:
            answer = work()
        except REFUSALS as error:
            if not future.cancelled():
                future.set_exception(error)
            return
        on_stored(answer)
        if not future.cancelled():
            future.set_result(answer)

    def fail(self) -> None:
        """Let the oldest write fail, because the disk is full."""
        _, _, future = self.waiting.popleft()
        if not future.cancelled():
            future.set_exception(RegistryError(Code.STORAGE_FULL, "the disk is full"))

    def lose(self, written: int) -> None:
        """End the process after so many of the writes."""
        for work, _, _ in list(self.waiting)[:written]:
            with suppress(*REFUSALS):
                work()
        self.waiting.clear()


class CommandFileStore(FileStore):
    """The tables of commands. Implements hub.ingest.command_dispatcher.CommandStore."""

    def insert(
        self, record: CommandRecord, on_stored: Callable[[CommandRecord], None]
    ) -> asyncio.Future[CommandRecord]:
        """Store a new command."""
        return self.wait(lambda: insert_with_new_id(self.connection, record), on_stored)

    def change(
        self, device: str, ids: Sequence[str], transition: Transition, on_stored: Callable[[Sequence[Stored]], None]
    ) -> asyncio.Future[Sequence[Stored]]:
        """Replace commands by what `transition` returns."""
        return self.wait(lambda: change_commands(self.connection, device, ids, transition, self.now_ns), on_stored)
