"""One thread, one connection: order, shared commits, errors for whom they concern, memory that follows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from hub.registry.database import open_database
from hub.registry.errors import RegistryError
from hub.registry.writer import MAX_GROUP, Writer
from wire.errors import Code


class Commits:
    """Counts the commits of a connection."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> bool:
        self.count += 1
        return False


@pytest.fixture
def commits() -> Commits:
    return Commits()


@pytest.fixture
async def writer(tmp_path: Path, commits: Commits) -> AsyncIterator[Writer]:
    def connect() -> apsw.Connection:
        connection = open_database(tmp_path / "registry.db", max_bytes=1 << 20)
        connection.set_commit_hook(commits)
        return connection

    writer = Writer(connect)
    await writer.open()
    yield writer
    await writer.close()


def put(name: str, value: str = "") -> Callable[[apsw.Connection], str]:
    def work(connection: apsw.Connection) -> str:
        connection.execute("INSERT INTO facts VALUES (?, ?)", (name, value))
        return name

    return work


def count(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM facts WHERE name != 'hub_id'").get)


async def test_requests_that_wait_share_a_commit(writer: Writer, commits: Commits) -> None:
    """A thousand requests at once are a handful of transactions, not a thousand fsyncs."""
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


async def test_a_read_sees_the_writes_before_it(writer: Writer) -> None:
    """Also those that nobody has waited for yet."""
    writes = [writer.write(put(f"{n}")) for n in range(10)]
    assert await writer.read(count) == 10
    assert all(write.done() for write in writes)


async def test_one_that_fails_is_undone_alone(writer: Writer) -> None:
    """What it had written is gone, those that shared its transaction are there."""

    def half(connection: apsw.Connection) -> None:
        put("half")(connection)
        raise ZeroDivisionError

    before, failing, after = writer.write(put("before")), writer.write(half), writer.write(put("after"))
    assert (await before, await after) == ("before", "after")
    with pytest.raises(ZeroDivisionError):
        await failing
    assert await writer.read(count) == 2


async def test_an_error_of_sqlite_is_translated(writer: Writer) -> None:
    """Nobody outside of this room meets an exception of its library."""
    await writer.write(put("once"))
    with pytest.raises(RegistryError) as caught:
        await writer.write(put("once"))
    assert caught.value.code is Code.STORAGE_FAILED
    with pytest.raises(RegistryError):
        await writer.read(lambda connection: connection.execute("SELECT nonsense").get)


async def test_a_full_disk_does_not_end_the_thread(writer: Writer) -> None:
    """STORAGE_FULL for what there is no room for; what fits, and reading, goes on."""
    with pytest.raises(RegistryError) as caught:
        await writer.write(put("big", "x" * (2 << 20)))
    assert caught.value.code is Code.STORAGE_FULL
    assert await writer.write(put("small")) == "small"
    assert await writer.read(count) == 1


async def test_nobody_is_told_of_what_did_not_become_durable(writer: Writer, tmp_path: Path) -> None:
    """Where the transaction itself fails, every request in it has failed, and memory has learnt nothing."""
    heard: list[str] = []

    def abandon(connection: apsw.Connection) -> str:
        connection.execute("ROLLBACK")
        raise apsw.IOError("the disk is gone")

    futures = [writer.write(put("a"), heard.append), writer.write(abandon), writer.write(put("b"), heard.append)]
    answers = await asyncio.gather(*futures, return_exceptions=True)
    stored = await writer.read(count)
    assert stored == len(heard) == sum(isinstance(answer, str) for answer in answers)
    assert isinstance(answers[1], RegistryError)


async def test_memory_follows_the_file_when_nobody_waits_any_more(writer: Writer) -> None:
    """A request whose caller was cancelled is committed all the same, and memory is told."""
    heard: list[str] = []
    request = writer.write(put("a"), heard.append)
    request.cancel()
    assert await writer.read(count) == 1
    assert heard == ["a"]


async def test_memory_learns_in_the_order_of_commits(writer: Writer) -> None:
    """Before the caller goes on, and never a later change before an earlier one."""
    heard: list[str] = []
    names = [f"{n}" for n in range(2 * MAX_GROUP)]
    await writer.write(put("first"), heard.append)
    assert heard == ["first"]
    await asyncio.gather(*(writer.write(put(name), heard.append) for name in names))
    assert heard == ["first", *names]


async def test_closing_finishes_what_was_asked(writer: Writer, tmp_path: Path) -> None:
    """Every request that was submitted is answered; later ones are refused; closing twice is closing once."""
    requests = [writer.write(put(f"{n}")) for n in range(3 * MAX_GROUP)]
    await writer.close()
    await writer.close()
    assert len(await asyncio.gather(*requests)) == 3 * MAX_GROUP
    with pytest.raises(RegistryError) as caught:
        await writer.write(put("late"))
    assert caught.value.code is Code.SHUTTING_DOWN
    assert count(open_database(tmp_path / "registry.db")) == 3 * MAX_GROUP


async def test_a_file_that_cannot_be_opened_is_told_to_whoever_opens(tmp_path: Path) -> None:
    """And closing afterwards is no trouble."""
    writer = Writer(lambda: open_database(tmp_path / "nowhere" / "registry.db"))
    with pytest.raises(RegistryError):
        await writer.open()
    await writer.close()
