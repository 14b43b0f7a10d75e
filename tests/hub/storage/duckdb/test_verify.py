"""Verification of DuckDB files that a real store has written."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from hub.model.store import StoreCursor
from hub.storage.duckdb import verify
from hub.storage.duckdb.store import DuckdbStore
from hub.storage.duckdb.verify import StoreFacts, verify_file
from integrity.finding import Finding
from tests.hub.storage.duckdb.locked_file import locked_by_another_process
from tests.hub.storage.readings import REGISTRY, SERIES, batch, entry, open_store

READINGS = 300_000
PLACES = 8
BLOCK_BYTES = 256 * 1024


@pytest.fixture(scope="module")
async def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a closed store with readings that do not compress."""
    folder = tmp_path_factory.mktemp("original")
    numbers = random.Random(7)
    async with open_store(folder) as store:
        await store.open()
        times = list(range(READINGS))
        values = [numbers.random() for _ in times]
        await store.write([entry(1, batch(times, {SERIES["float"]: values}))], StoreCursor("journal", 1))
    return folder / "history.duckdb"


def verified(path: Path) -> tuple[list[Finding], StoreFacts | None, list[float]]:
    """Return what the verification finds, and its progress."""
    shares: list[float] = []
    findings, facts = verify_file(path, shares.append)
    return findings, facts, shares


async def contents(path: Path) -> bytes:
    """Return every value of a file."""
    async with DuckdbStore(path, registry=REGISTRY) as store:
        await store.open()
        pieces = [piece async for piece in store.scan([SERIES["float"]], 0, READINGS)]
    return np.concatenate([np.asarray(piece.values, np.float64) for piece in pieces]).tobytes()


async def test_an_intact_file(original: Path) -> None:
    """The facts are those that the store wrote, and the progress ends with everything."""
    (finding,), facts, shares = verified(original)
    assert finding.intact
    assert facts == StoreFacts(REGISTRY, StoreCursor("journal", 1), frozenset({(SERIES["float"].id, "float")}))
    assert shares == sorted(shares)
    assert shares[-1] == 1


async def test_every_damaged_block_of_readings_is_found(original: Path, tmp_path: Path) -> None:
    """A flipped bit at seeded places: DuckDB's checksum of the block is wrong, wherever it is in use.

    Blocks that are not in use may be damaged without a consequence: the file without them has the same contents.
    """
    path, places, expected = tmp_path / "history.duckdb", random.Random(11), await contents(original)
    size = original.stat().st_size
    found = 0
    for _ in range(PLACES):
        shutil.copyfile(original, path)
        with path.open("r+b") as file:
            at = places.randrange(size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << places.randrange(8)]))
        findings, _, _ = verified(path)
        if findings[0].intact:
            assert await contents(path) == expected
        else:
            found += 1
            assert findings[0].consequence
    assert found > PLACES // 2


async def test_the_parts_lead_through_all_rows(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts have the same result as one large part: every row is counted once."""
    monkeypatch.setattr(verify, "PART_ROWS", 70_000)
    findings, _, shares = verified(original)
    assert findings[0].intact
    assert len(shares) > READINGS // 70_000
    assert shares == sorted(shares)
    assert shares[-1] == 1


async def test_a_file_that_is_open_elsewhere_could_not_be_checked(original: Path, tmp_path: Path) -> None:
    """It is not damaged, so the next step is to ask the process that has it open."""
    path = Path(shutil.copy(original, tmp_path / "history.duckdb"))
    with locked_by_another_process(path):
        (finding,), facts, _ = verified(path)
    assert (finding.intact, facts) == (None, None)


async def test_a_truncated_or_foreign_file_is_damaged(original: Path, tmp_path: Path) -> None:
    """It cannot be opened, or its tables cannot be read."""
    for number, content in enumerate((original.read_bytes()[: 3 * BLOCK_BYTES], b"no database" * 1000, b"")):
        path = tmp_path / f"{number}.duckdb"
        path.write_bytes(content)
        findings, _, _ = verified(path)
        assert {finding.intact for finding in findings} == {False}
