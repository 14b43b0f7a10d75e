"""The file of the registry, its transactions, and the thread that owns the hub's connection."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from hub.registry.database import (
    MAX_GROUP,
    RegistryError,
    RegistryThread,
    data_version,
    hub_id,
    open_database,
    transaction,
)
from wire.errors import Code

OPEN = """
import sys
from pathlib import Path
from hub.registry.database import hub_id, open_database
print(hub_id(open_database(Path(sys.argv[1]))))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


def test_the_hub_id_is_created_once(path: Path, tmp_path: Path) -> None:
    """The id is random and survives the process."""
    first = open_database(path)
    id = hub_id(first)
    first.close()
    assert hub_id(open_database(path)) == id
    assert hub_id(open_database(tmp_path / "other.db")) != id


def test_commits_are_on_disk_before_they_return(path: Path) -> None:
    """WAL with synchronous=FULL: every commit is an fsync (SQLite's documentation of PRAGMA synchronous)."""
    connection = open_database(path)
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2


def test_only_the_owner_can_read_the_file(path: Path) -> None:
    """Other users of the machine cannot see who has a token."""
    connection = open_database(path)
    with transaction(connection):
        connection.execute("INSERT INTO facts (name, value) VALUES ('a', 'b')")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_processes_that_open_a_new_file_at_once_agree(path: Path) -> None:
    """The first process creates the file; the others wait and read the same hub id."""
    running = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    answers = [process.communicate() for process in running]
    assert {process.returncode for process in running} == {0}, answers
    assert len({stdout for stdout, _ in answers}) == 1


def test_a_transaction_that_raises_is_rolled_back(path: Path) -> None:
    """A transaction is stored completely or not at all."""
    connection = open_database(path)
    with pytest.raises(RegistryError), transaction(connection):
        connection.execute("INSERT INTO facts (name, value) VALUES ('a', 'b'), ('a', 'b')")
    with pytest.raises(ZeroDivisionError), transaction(connection):
        connection.execute("INSERT INTO facts (name, value) VALUES ('a', ?)", (1 / 0,))
    assert connection.execute("SELECT count(*) FROM facts WHERE name = 'a'").get == 0
    assert not connection.in_transaction


def test_a_lock_held_by_another_process_is_busy(path: Path) -> None:
    """After the timeout the caller gets BUSY and can try again."""
    holder, waiter = open_database(path), open_database(path)
    waiter.set_busy_timeout(0)
    with transaction(holder), pytest.raises(RegistryError) as caught, transaction(waiter):
        pass
    assert caught.value.code is Code.BUSY


def test_a_full_file_rejects_writes_and_can_be_read(path: Path) -> None:
    """STORAGE_FULL rolls back the transaction; reads still work."""
    connection = open_database(path, max_bytes=128 * 1024)
    with pytest.raises(RegistryError) as caught, transaction(connection):
        connection.execute("INSERT INTO facts (name, value) VALUES ('big', ?)", ("x" * 200_000,))
    assert caught.value.code is Code.STORAGE_FULL
    assert hub_id(connection)
    with transaction(connection):
        connection.execute("INSERT INTO facts (name, value) VALUES ('small', 'x')")


def test_the_data_version_changes_with_commits_of_others_only(path: Path) -> None:
    """Our own commits do not cause a new read; those of another connection do."""
    ours, other = open_database(path), open_database(path)
    before = data_version(ours)
    with transaction(ours):
        ours.execute("INSERT INTO facts (name, value) VALUES ('a', '1')")
    assert data_version(ours) == before
    with transaction(other):
        other.execute("INSERT INTO facts (name, value) VALUES ('b', '1')")
    assert data_version(ours) != before


def test_a_file_of_another_program_is_rejected(path: Path) -> None:
    """A SQLite file that is not a registry is not written to."""
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE theirs (a)")
    other.close()
    with pytest.raises(RegistryError, match="is not a registry"):
        open_database(path)
    assert apsw.Connection(str(path)).execute("SELECT name FROM sqlite_schema").get == "theirs"


def test_a_file_of_a_newer_version_is_rejected(path: Path) -> None:
    """An older version does not write into a format that it does not know."""
    newer = open_database(path)
    newer.pragma("user_version", 99)
    newer.close()
    with pytest.raises(RegistryError, match="format 99"):
        open_database(path)


@pytest.mark.parametrize("content", [b"not a database at all, but long enough for a header" * 20, b"\0" * 4096])
def test_a_damaged_file_is_reported(path: Path, content: bytes) -> None:
    """The error is STORAGE_FAILED with a sentence, never a traceback of SQLite."""
    path.write_bytes(content)
    with pytest.raises(RegistryError) as caught:
        open_database(path)
    assert caught.value.code is Code.STORAGE_FAILED


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    """The message contains the path."""
    with pytest.raises(RegistryError, match=r"nowhere/registry\.db cannot be opened"):
        open_database(tmp_path / "nowhere" / "registry.db")


class CommitCounter:
    """Commit hook that counts the commits of a connection."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> bool:
        self.count += 1
        return False


@pytest.fixture
def commits() -> CommitCounter:
    return CommitCounter()


@pytest.fixture
async def writer(tmp_path: Path, commits: CommitCounter) -> AsyncIterator[RegistryThread]:
    def connect() -> apsw.Connection:
        connection = open_database(tmp_path / "registry.db", max_bytes=1 << 20)
        connection.set_commit_hook(commits)
        return connection

    writer = RegistryThread(connect)
    await writer.open()
    yield writer
    await writer.close()


def put(name: str, value: str = "") -> Callable[[apsw.Connection], str]:
    def work(connection: apsw.Connection) -> str:
        connection.execute("INSERT INTO facts (name, value) VALUES (?, ?)", (name, value))
        return name

    return work


def count(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM facts WHERE name != 'hub_id'").get)


async def test_waiting_requests_share_a_commit(writer: RegistryThread, commits: CommitCounter) -> None:
    """A thousand requests at once become a handful of transactions, not a thousand fsyncs."""
    requests = 4 * MAX_GROUP
    all_are_there = threading.Event()
    busy = writer.write(lambda _: all_are_there.wait())
    writes = [writer.write(put(f"{n}")) for n in range(requests)]
    all_are_there.set()
    assert await asyncio.gather(*writes) == [f"{n}" for n in range(requests)]
    assert await busy
    # Four, and one for the transaction that the thread was busy with.
    assert 4 <= commits.count <= 5
    assert await writer.read(count) == requests


async def test_a_read_sees_the_writes_before_it(writer: RegistryThread) -> None:
    """This includes writes that the caller did not wait for."""
    writes = [writer.write(put(f"{n}")) for n in range(10)]
    assert await writer.read(count) == 10
    assert all(write.done() for write in writes)


async def test_a_failing_request_is_undone_alone(writer: RegistryThread) -> None:
    """Its changes are rolled back; the other requests of the transaction are stored."""

    def half(connection: apsw.Connection) -> None:
        put("half")(connection)
        raise ZeroDivisionError

    before, failing, after = writer.write(put("before")), writer.write(half), writer.write(put("after"))
    assert (await before, await after) == ("before", "after")
    with pytest.raises(ZeroDivisionError):
        await failing
    assert await writer.read(count) == 2


async def test_an_error_of_sqlite_is_translated(writer: RegistryThread) -> None:
    """Callers never see an exception of the SQLite library."""
    await writer.write(put("once"))
    with pytest.raises(RegistryError) as caught:
        await writer.write(put("once"))
    assert caught.value.code is Code.STORAGE_FAILED
    with pytest.raises(RegistryError):
        await writer.read(lambda connection: connection.execute("SELECT nonsense").get)


async def test_a_full_disk_does_not_end_the_thread(writer: RegistryThread) -> None:
    """A write that does not fit gets STORAGE_FULL; smaller writes and reads still work."""
    with pytest.raises(RegistryError) as caught:
        await writer.write(put("big", "x" * (2 << 20)))
    assert caught.value.code is Code.STORAGE_FULL
    assert await writer.write(put("small")) == "small"
    assert await writer.read(count) == 1


async def test_a_failed_commit_fails_every_request(writer: RegistryThread, tmp_path: Path) -> None:
    """If the transaction fails, all its requests fail and the memory is unchanged."""
    heard: list[str] = []

    def abandon(connection: apsw.Connection) -> str:
        connection.execute("ROLLBACK")
        raise apsw.IOError("the disk is gone")

    futures = [writer.write(put("a"), heard.append), writer.write(abandon), writer.write(put("b"), heard.append)]
    answers = await asyncio.gather(*futures, return_exceptions=True)
    stored = await writer.read(count)
    assert stored == len(heard) == sum(isinstance(answer, str) for answer in answers)
    assert isinstance(answers[1], RegistryError)


async def test_memory_follows_the_file_after_a_cancelled_request(writer: RegistryThread) -> None:
    """A request of a cancelled caller is still committed and applied in memory."""
    heard: list[str] = []
    request = writer.write(put("a"), heard.append)
    request.cancel()
    assert await writer.read(count) == 1
    assert heard == ["a"]


async def test_memory_changes_in_the_order_of_commits(writer: RegistryThread) -> None:
    """It changes before the caller continues, and never in another order than the file."""
    heard: list[str] = []
    names = [f"{n}" for n in range(2 * MAX_GROUP)]
    await writer.write(put("first"), heard.append)
    assert heard == ["first"]
    await asyncio.gather(*(writer.write(put(name), heard.append) for name in names))
    assert heard == ["first", *names]


async def test_closing_finishes_submitted_requests(writer: RegistryThread, tmp_path: Path) -> None:
    """Submitted requests are answered, later ones are rejected, and close is idempotent."""
    requests = [writer.write(put(f"{n}")) for n in range(3 * MAX_GROUP)]
    await writer.close()
    await writer.close()
    assert len(await asyncio.gather(*requests)) == 3 * MAX_GROUP
    with pytest.raises(RegistryError) as caught:
        await writer.write(put("late"))
    assert caught.value.code is Code.SHUTTING_DOWN
    assert count(open_database(tmp_path / "registry.db")) == 3 * MAX_GROUP


async def test_open_reports_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """Closing afterwards works."""
    writer = RegistryThread(lambda: open_database(tmp_path / "nowhere" / "registry.db"))
    with pytest.raises(RegistryError):
        await writer.open()
    await writer.close()
