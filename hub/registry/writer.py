"""One thread that owns the connection: requests that arrive while it commits share the next transaction."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import apsw

from hub.registry.database import transaction
from hub.registry.errors import RegistryError, translated
from wire.errors import Code

Answer = TypeVar("Answer")

MAX_GROUP = 250
"""Requests in one transaction. 10,000 new devices at once are 40 fsyncs, and between them the event loop and other
processes have their turn within 50 ms. The rest waits in the queue, which is bounded by what connections wait for: each
for one request."""


class _Job(NamedTuple):
    work: Callable[[apsw.Connection], Any]
    writes: bool
    deliver: Callable[[Any, BaseException | None], None]


class _Outcome(NamedTuple):
    job: _Job
    answer: Any
    error: BaseException | None


class Writer:
    """Runs functions on a connection, in the order of their submission, without blocking the event loop.

    `connect` opens the connection, in the thread.
    """

    def __init__(self, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended = asyncio.Event()
        self._closed = False

    async def open(self) -> None:
        """Starts the thread and opens the connection. Raises RegistryError."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(loop, opened), name="registry")
        self._thread.start()
        await opened

    def write(
        self, work: Callable[[apsw.Connection], Answer], done: Callable[[Answer], None] | None = None
    ) -> asyncio.Future[Answer]:
        """Runs the work in a transaction; the future has its answer once that is durable, or a RegistryError.

        `done` gets the answer first, in the event loop, in the order of commits, and also when nobody waits for the
        future any more: what memory knows follows the file even where a request was cancelled.
        """
        return self._submit(work, done, writes=True)

    def read(
        self, work: Callable[[apsw.Connection], Answer], done: Callable[[Answer], None] | None = None
    ) -> asyncio.Future[Answer]:
        """Runs the work outside of transactions, after all writes that were submitted before it."""
        return self._submit(work, done, writes=False)

    async def close(self) -> None:
        """Finishes what was submitted and ends the thread. Idempotent."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        if self._thread is not None:
            await self._ended.wait()
            self._thread.join()

    def _submit(
        self, work: Callable[[apsw.Connection], Answer], done: Callable[[Answer], None] | None, *, writes: bool
    ) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(RegistryError(Code.SHUTTING_DOWN, "the registry is closed"))
        else:
            self._queue.put(_Job(work, writes, partial(_deliver, future, done)))
        return future

    # From here on: the thread.

    def _run(self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[None]) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 - the edge of the thread: whoever opens is told
            loop.call_soon_threadsafe(_fail, opened, error)
        else:
            try:
                loop.call_soon_threadsafe(_succeed, opened, None)
                self._serve(connection, loop)
            finally:
                connection.close()
        finally:
            loop.call_soon_threadsafe(self._ended.set)

    def _serve(self, connection: apsw.Connection, loop: asyncio.AbstractEventLoop) -> None:
        more = True
        while more:
            group, more = self._take()
            written = _commit(connection, [job for job in group if job.writes])
            read = [_Outcome(job, *_attempt(job.work, connection)) for job in group if not job.writes]
            loop.call_soon_threadsafe(_deliver_all, written + read)

    def _take(self) -> tuple[list[_Job], bool]:
        """Waits for a request; returns it with all that have come since, and whether there may be more."""
        job = self._queue.get()
        group = []
        while job is not None:
            group.append(job)
            if len(group) == MAX_GROUP:
                return group, True
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return group, True
        return group, False


def _commit(connection: apsw.Connection, jobs: list[_Job]) -> list[_Outcome]:
    """All jobs in one transaction. One that fails is undone alone; if the commit fails, none of them has happened."""
    outcomes: list[_Outcome] = []
    if not jobs:
        return outcomes
    try:
        with transaction(connection):
            outcomes.extend(_Outcome(job, *_attempt_alone(job.work, connection)) for job in jobs)
    except Exception as error:  # noqa: BLE001 - whoever waits is told, and the thread goes on
        return [_Outcome(job, None, error) for job in jobs]
    return outcomes


def _attempt_alone(
    work: Callable[[apsw.Connection], Any], connection: apsw.Connection
) -> tuple[Any, BaseException | None]:
    connection.execute("SAVEPOINT one")
    answer, error = _attempt(work, connection)
    if error is not None and connection.in_transaction:
        connection.execute("ROLLBACK TO one")
    if error is not None and not connection.in_transaction:
        # A full disk or an I/O error has undone the whole transaction, with the work of those before.
        raise error
    connection.execute("RELEASE one")
    return answer, error


def _attempt(work: Callable[[apsw.Connection], Any], connection: apsw.Connection) -> tuple[Any, BaseException | None]:
    try:
        with translated():
            return work(connection), None
    except Exception as error:  # noqa: BLE001 - whoever waits for the answer gets the error
        return None, error


# From here on: the event loop.


def _deliver_all(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        outcome.job.deliver(outcome.answer, outcome.error)


def _deliver(
    future: asyncio.Future[Any], done: Callable[[Any], None] | None, answer: Any, error: BaseException | None
) -> None:
    if error is None and done is not None:
        try:
            done(answer)
        except Exception as failure:  # noqa: BLE001 - the same
            error = failure
    if error is not None:
        _fail(future, error)
    else:
        _succeed(future, answer)


def _succeed(future: asyncio.Future[Any], answer: object) -> None:
    if not future.cancelled():
        future.set_result(answer)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.cancelled():
        future.set_exception(error)
