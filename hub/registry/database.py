"""The file of the registry: its tables, its errors, transactions, and the thread that owns the hub's connection."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apsw

from hub.model.event import Event
from hub.registry.event import insert_events
from hub.registry.repair import Irreparable, Repair, repair_if_damaged
from hub.registry.schema import (
    APPLICATION_ID,
    HUB_ID,
    SCHEMA_VERSION,
    SEALED_VERSION,
    UNSEALED_VERSION,
    VERSIONS,
    add_checksums,
    add_tables,
    create_tables,
    register_checksum,
)
from wire.errors import Code, WireError

Answer = TypeVar("Answer")

MAX_GROUP = 250
"""Requests in one transaction. 10,000 new devices at once cost 40 fsyncs, and the event loop and other processes run
between them, within 50 ms. Further requests wait in the queue; it is bounded because each connection waits for one."""

FILE_NAME = "registry.db"
"""Name of the file in the data directory."""

BUSY_TIMEOUT_MS = 5_000
"""Wait for the transaction of another process. Our transactions take milliseconds, so a process that holds the lock
longer hangs; the request then fails with BUSY and can be repeated."""

REPAIRED_KIND = "registry repaired"
"""Kind of the event that a repair records."""

MAX_BYTES = 1 << 30
"""Maximum size of the file. Its tables have bounds of their own (a million series are about 70 MB, all events about
100 MB, all commands about 50 MB, the targets of all jobs about 65 MB). Beyond this size a write fails with STORAGE_FULL
as on a full disk."""

MAX_WAL_BYTES = 16 << 20
"""Size of the write-ahead log after a checkpoint: a burst of declarations must not occupy the disk for good."""

WAL_ATTEMPTS = 100
"""Attempts to set WAL mode on a new file while other processes do the same. Each attempt waits for one of them."""


class RegistryError(WireError):
    """A failed request to the registry. Nothing of the request is stored.

    A WireError, because a connection that meets it ends with its code. The codes: BUSY (another process holds the
    lock), STORAGE_FULL, STORAGE_FAILED, TOO_MANY (a bound is reached), BAD_MESSAGE (an argument cannot be stored),
    SHUTTING_DOWN (the registry is closed).
    """


def damaged_row(what: str) -> RegistryError:
    """Return the error for a row that was intact at the start and is damaged now."""
    return RegistryError(
        Code.STORAGE_FAILED, f"the registry is damaged ({what}): restart the hub, which repairs it. Check the disk"
    )


@contextmanager
def translated() -> Iterator[None]:
    """Raise RegistryError for every SQLite error inside."""
    try:
        yield
    except apsw.Error as error:
        raise _translation(error) from error
    except Irreparable as error:
        raise RegistryError(Code.STORAGE_FAILED, str(error)) from error
    except UnicodeDecodeError as error:
        raise damaged_row(f"a text is no UTF-8: {error.reason}") from error


def _translation(error: apsw.Error) -> RegistryError:
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return RegistryError(Code.BUSY, "another process holds the lock of the registry: try again")
    if isinstance(error, apsw.FullError):
        return RegistryError(
            Code.STORAGE_FULL,
            "the disk is full and the registry stored nothing: free space on the disk of the data directory",
        )
    if isinstance(error, apsw.CantOpenError | apsw.PermissionsError | apsw.ReadOnlyError | apsw.AuthError):
        return RegistryError(
            Code.STORAGE_FAILED,
            f"the registry cannot be written ({error}): check the owner and the permissions of the data directory",
        )
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return RegistryError(
            Code.STORAGE_FAILED, f"the file of the registry is damaged ({error}): restore it from a backup"
        )
    return RegistryError(Code.STORAGE_FAILED, f"the registry failed and stored nothing: {error}")


def open_database(
    path: Path, *, max_bytes: int = MAX_BYTES, report: Callable[[Repair], None] = lambda repair: None
) -> apsw.Connection:
    """Open the registry at this path, and create the file with its tables if it is missing. Raises RegistryError.

    A damaged file is repaired first, and `report` receives what was done. Only the owner can read the file. It contains
    no secret, but it lists who has a token.
    """
    try:
        # Open a new file only: closing an existing one would drop the locks of other connections in this process.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise RegistryError(Code.STORAGE_FAILED, f"{path} cannot be opened: {error.strerror}") from error
    with translated():
        try:
            repair = repair_if_damaged(path)
        except OSError as error:
            raise RegistryError(Code.STORAGE_FAILED, f"{path} cannot be repaired: {error.strerror}") from error
        if repair is not None:
            report(repair)
        connection = apsw.Connection(os.fspath(path))
        try:
            register_checksum(connection)
            _prepare(connection, max_bytes)
            if repair is not None:
                with transaction(connection):
                    insert_events(connection, [Event(0, None, time.time_ns(), REPAIRED_KIND, str(repair))])
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: apsw.Connection, max_bytes: int) -> None:
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    _use_write_ahead_log(connection)
    connection.pragma("synchronous", "FULL")
    connection.pragma("foreign_keys", True)
    connection.pragma("temp_store", "MEMORY")
    connection.pragma("journal_size_limit", MAX_WAL_BYTES)
    connection.pragma("max_page_count", max_bytes // connection.pragma("page_size"))
    if connection.pragma("user_version") == SCHEMA_VERSION and connection.pragma("application_id") == APPLICATION_ID:
        return
    with transaction(connection):
        version = connection.pragma("user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
        if version == 0 and tables == 0:
            create_tables(connection)
        elif connection.pragma("application_id") != APPLICATION_ID:
            raise RegistryError(
                Code.STORAGE_FAILED, f"{connection.filename} is not a registry of this hub: set another data directory"
            )
        elif version == UNSEALED_VERSION:
            add_checksums(connection)
            add_tables(connection, SEALED_VERSION)
        elif version in VERSIONS:
            add_tables(connection, version)
        else:
            raise RegistryError(
                Code.STORAGE_FAILED,
                f"{connection.filename} has format {version}, but this version reads format {SCHEMA_VERSION}: install "
                "a newer version of the hub. The file is unchanged",
            )


def _use_write_ahead_log(connection: apsw.Connection) -> None:
    """Set WAL mode. SQLite rejects this change instead of waiting when several processes open a new file at once."""
    for _ in range(WAL_ATTEMPTS):
        try:
            connection.pragma("journal_mode", "wal")
        except apsw.BusyError:
            connection.execute("BEGIN IMMEDIATE")  # this waits for the first process
            connection.execute("ROLLBACK")
        else:
            return
    raise RegistryError(Code.BUSY, "other processes hold the lock of the registry: try again")


def hub_id(connection: apsw.Connection) -> str:
    """Return the id of the hub: 128 random bits in hexadecimal, created with the file."""
    value = connection.execute("SELECT value FROM facts WHERE name = ?", (HUB_ID,)).get
    return str(value)


def data_version(connection: apsw.Connection) -> int:
    """Return a number that changes when another connection commits. Our own commits do not change it."""
    # The pragma and not the method of that name: the method also counts our own commits.
    version: int = connection.pragma("data_version")
    return version


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Commit the statements inside, or roll them back on an exception. Raises RegistryError."""
    with translated():
        # IMMEDIATE waits for the lock here, before anything is read that could become stale.
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back already if the disk is full.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


class _Job(NamedTuple):
    work: Callable[[apsw.Connection], Any]
    writes: bool
    deliver: Callable[[Any, BaseException | None], None]


_Outcome = tuple[_Job, Any, BaseException | None]
"""A job with its answer, or with its error."""


class RegistryThread:
    """Thread that runs functions on one connection, in order. Requests during a commit share the next transaction.

    `connect` opens the connection inside the thread.
    """

    def __init__(self, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended = asyncio.Event()
        self._closed = False

    async def open(self) -> None:
        """Start the thread and open the connection. Raises RegistryError."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(loop, opened), name="registry")
        self._thread.start()
        await opened

    def write(
        self, work: Callable[[apsw.Connection], Answer], on_answer: Callable[[Answer], None] | None = None
    ) -> asyncio.Future[Answer]:
        """Run `work` in a transaction. The future holds its answer once it is durable, or a RegistryError.

        `on_answer` receives the answer first, in the event loop and in the order of commits. It also runs when the
        caller was cancelled, so the memory always follows the file.
        """
        return self._submit(work, on_answer, writes=True)

    def read(
        self, work: Callable[[apsw.Connection], Answer], on_answer: Callable[[Answer], None] | None = None
    ) -> asyncio.Future[Answer]:
        """Run `work` outside a transaction, after all writes that were submitted before it."""
        return self._submit(work, on_answer, writes=False)

    async def close(self) -> None:
        """Finish the submitted requests and end the thread. Idempotent."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        if self._thread is not None:
            await self._ended.wait()
            self._thread.join()

    def _submit(
        self, work: Callable[[apsw.Connection], Answer], on_answer: Callable[[Answer], None] | None, *, writes: bool
    ) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(RegistryError(Code.SHUTTING_DOWN, "the registry is closed"))
        else:
            self._queue.put(_Job(work, writes, partial(_deliver, future, on_answer)))
        return future

    # The methods below run in the thread.

    def _run(self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[None]) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 - the caller of open() gets the error
            loop.call_soon_threadsafe(_deliver, opened, None, None, error)
        else:
            try:
                loop.call_soon_threadsafe(_deliver, opened, None, None, None)
                self._serve(connection, loop)
            finally:
                connection.close()
        finally:
            loop.call_soon_threadsafe(self._ended.set)

    def _serve(self, connection: apsw.Connection, loop: asyncio.AbstractEventLoop) -> None:
        more = True
        while more:
            group, more = self._next_group()
            written = _commit(connection, [job for job in group if job.writes])
            read = [(job, *_attempt(job.work, connection)) for job in group if not job.writes]
            loop.call_soon_threadsafe(_deliver_all, written + read)

    def _next_group(self) -> tuple[list[_Job], bool]:
        """Wait for a request. Return it with all that arrived since, and whether more can follow."""
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
    """Run all jobs in one transaction. A failing job is undone alone; if the commit fails, all of them are."""
    outcomes: list[_Outcome] = []
    if not jobs:
        return outcomes
    try:
        with transaction(connection):
            outcomes.extend((job, *_attempt_alone(job.work, connection)) for job in jobs)
    except Exception as error:  # noqa: BLE001 - the callers get the error and the thread continues
        return [(job, None, error) for job in jobs]
    return outcomes


def _attempt_alone(
    work: Callable[[apsw.Connection], Any], connection: apsw.Connection
) -> tuple[Any, BaseException | None]:
    connection.execute("SAVEPOINT job")
    answer, error = _attempt(work, connection)
    if error is not None and connection.in_transaction:
        connection.execute("ROLLBACK TO job")
    if error is not None and not connection.in_transaction:
        # A full disk or an I/O error has rolled back the transaction, with the work of earlier jobs.
        raise error
    connection.execute("RELEASE job")
    return answer, error


def _attempt(work: Callable[[apsw.Connection], Any], connection: apsw.Connection) -> tuple[Any, BaseException | None]:
    try:
        with translated():
            return work(connection), None
    except Exception as error:  # noqa: BLE001 - the caller gets the error
        return None, error


# The functions below run in the event loop.


def _deliver_all(outcomes: list[_Outcome]) -> None:
    for job, answer, error in outcomes:
        job.deliver(answer, error)


def _deliver(
    future: asyncio.Future[Any], on_answer: Callable[[Any], None] | None, answer: Any, error: BaseException | None
) -> None:
    if error is None and on_answer is not None:
        try:
            on_answer(answer)
        except Exception as failure:  # noqa: BLE001 - the caller gets the error
            error = failure
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer)
