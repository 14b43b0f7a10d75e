"""Copies between stores contain everything once after any interruption, and differences are found."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.model.batch import Batch
from hub.model.store import ReadingCounts, Store, StoreCursor, StoreError
from hub.storage import store_copy
from hub.storage.duckdb.store import DuckdbStore
from hub.storage.store_copy import copy_store, differences
from tests.hub.storage.duckdb.deletion import delete_before
from tests.hub.storage.readings import REGISTRY, SERIES, batch, batches, entries, order, readings_of
from wire.limits import MAX_TIME_NS

ALL = list(SERIES.values())
END = StoreCursor("journal", 1_000)


class CutOff(Exception):
    """The copying program ends here."""


def open_store(directory: str | Path, name: str) -> DuckdbStore:
    return DuckdbStore(Path(directory) / f"{name}.duckdb", registry=REGISTRY)


async def fill(store: Store, content: list[Batch]) -> None:
    await store.open()
    await store.write(entries(content), END)


async def everything(store: Store) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    async for piece in store.scan(ALL, 0, MAX_TIME_NS + 1):
        values = piece.values if isinstance(piece.values, list) else piece.values.tolist()
        found.setdefault(piece.series.id, []).extend(zip(piece.times_ns.tolist(), values, strict=True))
    return {id: sorted(readings, key=order) for id, readings in found.items()}


def ignore_progress(readings: int) -> None:
    """Ignore the progress."""


@settings(max_examples=20)
@given(st.lists(batches(ALL), max_size=4))
async def test_a_copy_equals_its_source(content: list[Batch]) -> None:
    """It has every reading of every type to the bit, and the source's cursor, so that a hub continues with it."""
    with tempfile.TemporaryDirectory() as directory:
        async with open_store(directory, "source") as source, open_store(directory, "target") as target:
            await fill(source, content)
            copied = await copy_store(source, target, ALL, ignore_progress)
            expected = readings_of(content)
            assert await everything(target) == await everything(source)
            assert copied.written == sum(map(len, expected.values()))
            assert target.cursor == END
            assert await differences(source, target, ALL, ignore_progress) == []


async def test_a_copy_includes_the_counts(tmp_path: Path) -> None:
    """Expired and refused counts are copied, also of series without a reading left, and survive reopening."""
    real, text = SERIES["float"], SERIES["string"]
    async with open_store(tmp_path, "source") as source:
        await fill(source, [batch([1, 2, 9], {real: [1.0, 2.0, 9.0]}), batch([1], {text: ["a"]})])
        await source.import_counts([(real, ReadingCounts(0, 5, 7)), (SERIES["integer"], ReadingCounts(0, 0, 3))])
        assert await delete_before(source, 3) == 3
        expected_counts = await source.counts()
        assert expected_counts == {
            real.id: ReadingCounts(1, 7, 7),
            text.id: ReadingCounts(0, 1, 0),
            SERIES["integer"].id: ReadingCounts(0, 0, 3),
        }
        for _ in range(2):
            async with open_store(tmp_path, "target") as target:
                await copy_store(source, target, ALL, ignore_progress)
                assert await target.counts() == expected_counts
    async with open_store(tmp_path, "target") as target:
        await target.open()
        assert await target.counts() == expected_counts
        await target.write(entries([batch([10], {real: [1.0]})], first=1_001), StoreCursor("journal", 1_001))
        assert (await target.counts())[real.id] == ReadingCounts(2, 7, 7)


async def test_an_interrupted_copy_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after each write, with the target opened again each time, the copy finally has everything once."""
    monkeypatch.setattr(store_copy, "WRITE_READINGS", 50_000)
    content = [
        batch(list(range(150_000)), {SERIES["float"]: [float(number) for number in range(150_000)]}),
        batch([5] * 70_000, {SERIES["integer"]: list(range(70_000))}),
        batch([1, 2], {SERIES["string"]: ["a", "b"]}),
    ]
    cuts = 0
    async with open_store(tmp_path, "source") as source:
        await fill(source, content)
        for _ in range(20):
            first: list[int] = []

            def cut_off(readings: int, expected_counts: list[int] = first) -> None:
                expected_counts.append(readings)
                if len(expected_counts) > 1:
                    raise CutOff

            try:
                async with open_store(tmp_path, "target") as target:
                    copied = await copy_store(source, target, ALL, cut_off)
            except CutOff:
                cuts += 1
                continue
            break
        assert cuts >= 3
        assert copied.written == 0
        async with open_store(tmp_path, "target") as target:
            assert await copy_store(source, target, ALL, ignore_progress) == (0, 220_002, 0)
            assert await differences(source, target, ALL, ignore_progress) == []
            assert await everything(target) == await everything(source)


async def test_a_target_with_other_contents_is_not_changed(tmp_path: Path) -> None:
    """This includes the copy of an earlier state of the source."""
    async with open_store(tmp_path, "source") as source, open_store(tmp_path, "target") as target:
        await fill(source, [batch([1], {SERIES["float"]: [1.0]})])
        await copy_store(source, target, ALL, ignore_progress)
        await source.write(entries([batch([2], {SERIES["float"]: [2.0]})], first=1_001), StoreCursor("journal", 1_001))
        with pytest.raises(StoreError, match="empty store"):
            await copy_store(source, target, ALL, ignore_progress)
        assert await everything(target) == {SERIES["float"].id: [(1, 1.0)]}


async def test_differences_are_found_in_number_and_in_content(tmp_path: Path) -> None:
    """A missing reading, another value and another time are found."""
    async with open_store(tmp_path, "source") as source, open_store(tmp_path, "target") as target:
        await fill(source, [batch([1, 2], {SERIES["float"]: [1.0, 2.0], SERIES["string"]: ["a", "b"]})])
        await fill(target, [batch([1], {SERIES["float"]: [1.0]}), batch([1, 3], {SERIES["string"]: ["a", "b"]})])
        found = await differences(source, target, ALL, ignore_progress)
        assert [(item.series.type, item.source, item.target) for item in found] == [("float", 2, 1), ("string", 2, 2)]
