"""The opening of a spool: its lock, its owner, and files that cannot be used."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
from pathlib import Path

import apsw
import pytest

from device_agent.errors import SpoolError
from device_agent.spool import SqliteSpool, StoredBatch
from device_agent.spool.contract import DAMAGED_REASON
from device_agent.spool.layout import APPLICATION_ID
from tests.device_agent.batches import batch_of, lost, numbers


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "boiler.spool"


def _hold(path: Path, held: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    async def hold() -> None:
        async with SqliteSpool(path, device="boiler"):
            held.set()
            await asyncio.to_thread(done.wait)

    asyncio.run(hold())


async def test_two_processes_cannot_use_one_spool(path: Path) -> None:
    """The second process gets an error that names the owner; the spool is free after the first process ends."""
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(path, held, done))
    process.start()
    await asyncio.to_thread(held.wait)
    with pytest.raises(SpoolError, match=rf"in use by another agent \(process {process.pid}\)"):
        async with SqliteSpool(path, device="boiler"):
            pass
    done.set()
    await asyncio.to_thread(process.join)
    async with SqliteSpool(path, device="boiler") as spool:
        assert spool.moved_to is None


async def test_one_process_cannot_open_a_spool_twice(path: Path) -> None:
    """The rule holds between two agents of one process as well."""
    async with SqliteSpool(path, device="boiler"):
        with pytest.raises(SpoolError, match="in use"):
            async with SqliteSpool(path, device="boiler"):
                pass


async def test_a_spool_belongs_to_its_device(path: Path) -> None:
    """Readings of one device are never sent as another's."""
    async with SqliteSpool(path, device="boiler") as spool:
        await spool.append(batch_of(1))
    with pytest.raises(SpoolError, match="belongs to the device 'boiler'"):
        async with SqliteSpool(path, device="kettle"):
            pass
    async with SqliteSpool(path, device="boiler") as spool:
        assert spool.waiting == 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"this is not a database" * 400, id="overwritten"),
        pytest.param(lambda data: b"\0" * 4096 + data[4096:], id="first page lost"),
        pytest.param(lambda data: data[:4096] + b"\xff" * (len(data) - 4096), id="all but the first page lost"),
        pytest.param(lambda data: data[: len(data) // 2], id="cut short"),
    ],
)
async def test_a_damaged_spool_is_moved_aside(path: Path, damage: object) -> None:
    """A file that SQLite cannot read is kept under another name, and what is intact in it continues."""
    async with SqliteSpool(path, device="boiler") as spool:
        for number in range(50):
            await spool.append(batch_of(number, padding=200))
        epoch = spool.epoch
    damaged = damage(path.read_bytes())  # type: ignore[operator]
    path.write_bytes(damaged)
    async with SqliteSpool(path, device="boiler") as spool:
        assert spool.moved_to is not None
        assert spool.moved_to.read_bytes() == damaged
        assert spool.moved_to.name.startswith("boiler.spool.damaged-")
        assert (spool.epoch, spool.next_seq) == (epoch, 51)
        entries = await spool.read(0, max_batches=99)
        assert (numbers(entries)[0][0], numbers(entries)[-1][1]) == (1, 50)
        assert {reason for _, _, reason in lost(entries)} == {DAMAGED_REASON}
        intact = [entry for entry in entries if isinstance(entry, StoredBatch)]
        assert intact == [StoredBatch(entry.seq, batch_of(entry.seq - 1, padding=200)) for entry in intact]
        assert await spool.append(batch_of(1)) == 51


async def test_a_spool_with_a_hole_is_damaged(path: Path) -> None:
    """A number that is neither a batch nor lost cannot come from a spool, and is not passed over."""
    async with SqliteSpool(path, device="boiler") as spool:
        for number in range(3):
            await spool.append(batch_of(number))
    with apsw.Connection(os.fspath(path)) as connection:
        connection.execute("DELETE FROM batch WHERE seq = 2")
    connection.close()
    async with SqliteSpool(path, device="boiler") as spool:
        assert spool.moved_to is not None


async def test_two_damaged_spools_are_both_kept(path: Path) -> None:
    """A file that was put aside is never overwritten by the next one."""
    kept = []
    for content in (b"first" * 999, b"second" * 999):
        path.write_bytes(content)
        async with SqliteSpool(path, device="boiler") as spool:
            assert spool.moved_to is not None
            kept.append(spool.moved_to)
        path.unlink()
    assert [file.read_bytes()[:5] for file in kept] == [b"first", b"secon"]


async def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    """A sound SQLite file that is no spool is refused, not moved."""
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE accounts (name TEXT)")
    foreign.commit()
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(SpoolError, match="another program"):
        async with SqliteSpool(path, device="boiler"):
            pass
    assert path.read_bytes() == before


async def test_a_spool_of_a_later_version_is_left_alone(path: Path) -> None:
    """A spool written by a newer program is rejected with that reason."""
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(SpoolError, match="newer version"):
        async with SqliteSpool(path, device="boiler"):
            pass


async def test_a_path_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    """A directory that does not exist is reported as what it is."""
    with pytest.raises(SpoolError, match="cannot be opened"):
        async with SqliteSpool(tmp_path / "nowhere" / "boiler.spool", device="boiler"):
            pass
