"""The opening of a spool: its lock, its owner, files that cannot be used, and files of an earlier version."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from device_agent.errors import SpoolError
from device_agent.spool import SqliteSpool, StoredBatch, StoredCommand
from device_agent.spool.contract import DAMAGED_REASON, new_epoch
from device_agent.spool.layout import APPLICATION_ID, SCHEMA_VERSION
from device_agent.spool.opening import open_spool
from device_agent.spool.salvage import LastState, write_last_state
from device_agent.spool.status import read_status
from tests.device_agent.batches import batch_of, lost, numbers

STORED = Path(__file__).parents[2] / "end_to_end" / "stored_data" / "data.tar.xz"

CONTENTS = (
    "SELECT epoch, next_seq, claim, device FROM life",
    "SELECT seq, format, historical, readings, size, time, value FROM batch ORDER BY seq",
    "SELECT first, last, reason FROM gap ORDER BY first",
    "SELECT name, type, unit, description FROM metric ORDER BY rowid",
)
"""All columns of the first version."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "boiler.spool"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The spool that an agent of the first version left, with batches that wait."""
    with tarfile.open(STORED) as archive:
        archive.extract("./kiln.spool", tmp_path, filter="data")
    return tmp_path / "kiln.spool"


def contents(path: Path) -> list[list[tuple[object, ...]]]:
    """Return the rows of a spool of any version."""
    with sqlite3.connect(path) as connection:
        rows = [connection.execute(select).fetchall() for select in CONTENTS]
    connection.close()
    return rows


def version(path: Path) -> int:
    connection = sqlite3.connect(path)
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(number)


def convert(path: Path) -> None:
    """Open and close the spool, and check that all that waits is read as it was written."""
    before = contents(path)[1]
    file, moved_to = open_spool(path, device="kiln", max_bytes=1 << 20, new_epoch=new_epoch)
    standing = file.standing
    entries = file.read(standing.acked, max_batches=99, max_bytes=1 << 20)
    file.close()
    assert (moved_to, file.take_incidents()) == (None, [])
    assert [
        (entry.seq, entry.batch.time, entry.batch.values) for entry in entries if isinstance(entry, StoredBatch)
    ] == [(seq, time, value) for seq, _, _, _, _, time, value in before]
    assert numbers(entries) == [(seq, seq) for seq in range(standing.acked + 1, standing.next_seq)]
    assert len(entries) > 1


def test_a_spool_of_the_first_version_is_converted(earlier: Path) -> None:
    """Its numbers, batches, gaps and definitions stay, and each row gets a valid checksum."""
    before = contents(earlier)
    assert version(earlier) == 1
    with pytest.raises(SpoolError, match="written by an older version; its agent converts it"):
        read_status(earlier)
    convert(earlier)
    assert version(earlier) == SCHEMA_VERSION
    assert contents(earlier) == before
    assert read_status(earlier).waiting == len(before[1])
    convert(earlier)


@contextmanager
def copied_meanwhile(path: Path) -> Iterator[list[Path]]:
    """Copy the files of the spool at many moments of the block: a kill would leave them in that state."""
    copies: list[Path] = []

    def copy() -> bool:
        folder = path.with_name(f"kill-{len(copies)}")
        folder.mkdir()
        for file in (path, path.with_name(f"{path.name}-wal")):
            if file.exists():
                shutil.copy(file, folder)
        copies.append(folder / path.name)
        return False

    def hook(connection: apsw.Connection) -> None:
        connection.set_progress_handler(copy, 10)

    apsw.connection_hooks.append(hook)
    try:
        yield copies
    finally:
        apsw.connection_hooks.remove(hook)


def test_a_conversion_that_is_killed_is_repeated(earlier: Path) -> None:
    """At every moment the file is one of the first version or of this one, and never something between them."""
    before = contents(earlier)
    with copied_meanwhile(earlier) as copies:
        convert(earlier)
    assert {version(path) for path in copies} == {1, SCHEMA_VERSION}
    for path in copies:
        assert contents(path) == before
        convert(path)


@pytest.mark.parametrize(
    ("number", "dropped"), [(2, "DROP TABLE command; DROP TABLE setting"), (3, "DROP TABLE setting")]
)
async def test_a_spool_of_a_later_version_is_converted(path: Path, number: int, dropped: str) -> None:
    """Version 2 has no commands, version 3 no settings; the batches stay, and it keeps all from then on."""
    async with SqliteSpool(path, device="boiler") as spool:
        await spool.append(batch_of(1))
    before = contents(path)
    connection = sqlite3.connect(path)
    connection.executescript(f"{dropped}; PRAGMA user_version = {number}")
    connection.close()
    commands = [StoredCommand("b2", b"two"), StoredCommand("a1", b"one")]
    async with SqliteSpool(path, device="boiler") as spool:
        assert spool.moved_to is None
        assert await spool.read_commands() == []
        assert await spool.read_settings() is None
        await spool.write_commands(commands, [])
        for content in (b"first", b"second"):
            await spool.write_settings(content)
        await spool.write_commands([StoredCommand("b2", b"changed"), StoredCommand("c3", b"")], ["a1", "unknown"])
    assert version(path) == SCHEMA_VERSION
    assert contents(path)[1:] == before[1:]
    async with SqliteSpool(path, device="boiler") as spool:
        assert await spool.read_commands() == [StoredCommand("b2", b"changed"), StoredCommand("c3", b"")]
        assert await spool.read_settings() == b"second"


async def test_a_damaged_spool_keeps_its_settings(path: Path) -> None:
    """Damaged settings alone are discarded, because the hub has the desired values."""
    async with SqliteSpool(path, device="boiler") as spool:
        await spool.write_settings(b"content")
    for statement, expected in (
        ("UPDATE life SET checksum = 0", b"content"),
        ("UPDATE setting SET content = x'00'", None),
    ):
        connection = sqlite3.connect(path)
        connection.executescript(statement)
        connection.close()
        async with SqliteSpool(path, device="boiler") as spool:
            assert await spool.read_settings() == expected


async def test_a_damaged_spool_keeps_its_commands(path: Path) -> None:
    """A command that ran must not run again because batches were damaged; a damaged one is named."""
    async with SqliteSpool(path, device="boiler") as spool:
        await spool.append(batch_of(1))
        await spool.write_commands([StoredCommand("a1", b"one"), StoredCommand("b2", b"two")], [])
    connection = sqlite3.connect(path)
    connection.executescript("UPDATE life SET checksum = 0; UPDATE command SET content = x'00' WHERE id = 'b2'")
    connection.close()
    async with SqliteSpool(path, device="boiler") as spool:
        assert spool.moved_to is not None
        found = await spool.read_commands()
    assert found[0] == StoredCommand("a1", b"one")
    assert (found[1].id, found[1].content or b"") == ("b2", b"")


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
    with pytest.raises(SpoolError, match="has format 99, and this version of the agent reads up to 4"):
        async with SqliteSpool(path, device="boiler"):
            pass


@pytest.mark.parametrize("name", ["user_version", "application_id"])
async def test_a_wrong_bit_in_the_header_costs_nothing(path: Path, name: str) -> None:
    """It is neither a newer version nor another program: the batches continue in a new file, and it is reported."""
    async with SqliteSpool(path, device="boiler") as spool:
        await spool.append(batch_of(1))
    connection = apsw.Connection(str(path))
    connection.pragma(name, connection.pragma(name) ^ 1)
    connection.close()
    async with SqliteSpool(path, device="boiler") as spool:
        assert numbers(await spool.read(0, max_batches=9)) == [(1, 1)]
        assert spool.moved_to is not None
    assert "a number in the header of the file is wrong" in read_status(path).incidents[0].text


async def test_a_path_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    """A directory that does not exist is reported as what it is."""
    with pytest.raises(SpoolError, match="cannot be opened"):
        async with SqliteSpool(tmp_path / "nowhere" / "boiler.spool", device="boiler"):
            pass


def test_a_cut_spool_claims_all_numbers_of_its_life(path: Path) -> None:
    """A hub that has batches of this life welcomes it: the agent sends nothing that the hub has again."""
    file, _ = open_spool(path, device="boiler", max_bytes=1 << 20, new_epoch=new_epoch)
    file.append([batch_of(1), batch_of(2)], [], 0)  # in a run that no hub has confirmed
    epoch = file.standing.epoch
    file.close()
    write_last_state(path, LastState("boiler", epoch, 9, 5, 3, 3))
    file, _ = open_spool(path, device="boiler", max_bytes=1 << 20, new_epoch=new_epoch)
    assert (file.standing.next_seq, file.standing.claim) == (9, 9)
    assert file.take_incidents()
    file.close()
