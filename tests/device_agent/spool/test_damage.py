"""Damage to the files of a spool: nothing is wrong or missing silently, and the spool continues."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from device_agent.spool import Entry, SqliteSpool, StoredBatch
from device_agent.spool.status import read_status
from tests.device_agent.batches import NUMBER, batch_of, numbers
from wire.device import Gap

BATCHES = 60
ACKED = 20
PADDING = 300

FLIPS = 20
"""Damaged places per file."""


class Original(NamedTuple):
    """A spool that was killed: the files of its directory, and its epoch."""

    directory: Path
    epoch: str


class Found(NamedTuple):
    """Contents of a spool after it was opened again."""

    epoch: str
    entries: list[Entry]
    incidents: int


@pytest.fixture(scope="module", params=["log", "database"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Original:
    """Files as a kill leaves them: all batches are in the log, or in the database."""
    directory = tmp_path_factory.mktemp("original")

    async def fill() -> str:
        path = directory / "boiler.spool"
        copy = directory / "copy"
        async with SqliteSpool(path, device="boiler") as spool:
            await spool.confirm()
            for number in range(1, BATCHES + 1):
                await spool.append(batch_of(number, padding=PADDING), [NUMBER])
            spool.trim(ACKED)
            await spool.append(batch_of(BATCHES + 1, padding=PADDING))
            if request.param == "database":
                spool._file.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            copy.mkdir()
            for file in directory.glob("boiler.spool*"):
                shutil.copy(file, copy)
            return spool.epoch

    epoch = asyncio.run(fill())
    return Original(directory / "copy", epoch)


def damaged_copy(original: Original, directory: Path, damage: Callable[[Path], None]) -> Path:
    """Copy the files, damage them and return the path of the spool."""
    shutil.copytree(original.directory, directory)
    path = directory / "boiler.spool"
    path.with_name("boiler.spool-shm").unlink(missing_ok=True)  # a reboot leaves none that is valid
    damage(directory)
    return path


async def read_all(path: Path) -> Found:
    """Open the spool, read everything that waits, and append one batch."""
    async with SqliteSpool(path, device="boiler") as spool:
        entries: list[Entry] = []
        after = spool.acked
        while more := await spool.read(after, max_batches=16):
            entries += more
            after = more[-1].seq if isinstance(more[-1], StoredBatch) else more[-1].to
        seq = await spool.append(batch_of(0))
        assert await spool.read(seq - 1, max_batches=1) == [StoredBatch(seq, batch_of(0))]
        epoch = spool.epoch
    return Found(epoch, entries, len(read_status(path).incidents))


def check(original: Original, found: Found, *, may_lose_last: bool = False) -> None:
    """Assert that every waiting batch is there unchanged, or declared lost with a reason."""
    if found.entries:
        numbers(found.entries)
    for entry in found.entries:
        if isinstance(entry, StoredBatch) and found.epoch == original.epoch:
            assert entry.batch == batch_of(entry.seq, padding=PADDING)
    gaps = [entry for entry in found.entries if isinstance(entry, Gap)]
    if found.epoch != original.epoch:
        assert found.incidents
        assert gaps
        return
    present = {seq for first, last in numbers(found.entries) for seq in range(first, last + 1)}
    expected = set(range(ACKED + 1, BATCHES + 2))
    missing = expected - present
    assert not missing or (may_lose_last and missing == {BATCHES + 1})
    assert not gaps or found.incidents


@pytest.mark.parametrize("name", ["boiler.spool", "boiler.spool-wal", "boiler.spool.state", "boiler.spool.lock"])
async def test_a_flipped_bit_is_found(original: Original, tmp_path: Path, name: str) -> None:
    """A flipped bit anywhere changes no reading, and removes none without a gap.

    Only the last commit of a log cannot be distinguished from one that a power failure has torn.
    """
    dice = random.Random(f"{name} 7")
    for number in range(FLIPS):

        def flip(directory: Path) -> None:
            data = bytearray((directory / name).read_bytes())
            if data:
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
                (directory / name).write_bytes(data)

        path = damaged_copy(original, tmp_path / f"{number}", flip)
        check(original, await read_all(path), may_lose_last=name.endswith("-wal"))


@pytest.mark.parametrize("name", ["boiler.spool", "boiler.spool-wal"])
async def test_a_page_of_zeros_is_found(original: Original, tmp_path: Path, name: str) -> None:
    """A page that reads as zeros loses its batches with a gap."""
    pages = (original.directory / name).stat().st_size // 4096
    for page in range(pages) if pages < FLIPS else random.Random(7).sample(range(pages), FLIPS):

        def zero(directory: Path, page: int = page) -> None:
            data = bytearray((directory / name).read_bytes())
            data[page * 4096 : (page + 1) * 4096] = bytes(4096)
            (directory / name).write_bytes(data)

        path = damaged_copy(original, tmp_path / f"{page}", zero)
        check(original, await read_all(path), may_lose_last=name.endswith("-wal"))


@pytest.mark.parametrize("name", ["boiler.spool", "boiler.spool-wal"])
@pytest.mark.parametrize("rest", [0.0, 0.3, 0.7])
async def test_a_file_that_was_cut_is_found(original: Original, tmp_path: Path, name: str, rest: float) -> None:
    """A file that ends early, or is empty, loses its batches with a gap or an incident."""

    def cut(directory: Path) -> None:
        data = (directory / name).read_bytes()
        (directory / name).write_bytes(data[: int(len(data) * rest)])

    path = damaged_copy(original, tmp_path / "cut", cut)
    check(original, await read_all(path))


@pytest.mark.parametrize("names", [("boiler.spool",), ("boiler.spool-wal",), ("boiler.spool", "boiler.spool-wal")])
async def test_a_removed_file_is_found(original: Original, tmp_path: Path, names: tuple[str, ...]) -> None:
    """A file that is missing is reported with what it held."""

    def remove(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    path = damaged_copy(original, tmp_path / "removed", remove)
    check(original, await read_all(path))


async def test_an_older_copy_is_found(original: Original, tmp_path: Path) -> None:
    """A spool with fewer batches than were in it is reported with the numbers of both."""
    older = tmp_path / "older"

    async def fill() -> None:
        async with SqliteSpool(older / "boiler.spool", device="boiler", new_epoch=lambda: original.epoch) as spool:
            for number in range(1, 31):
                await spool.append(batch_of(number, padding=PADDING), [NUMBER])

    older.mkdir()
    await fill()

    def replace(directory: Path) -> None:
        for suffix in ("", "-wal"):
            (directory / f"boiler.spool{suffix}").unlink()
        shutil.copy(older / "boiler.spool", directory)

    path = damaged_copy(original, tmp_path / "replaced", replace)
    found = await read_all(path)
    assert found.incidents
    assert "31" in read_status(path).incidents[0].text
    check(original, found)
