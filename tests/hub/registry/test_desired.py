"""The tables of desired values and of declared settings: rows that are damaged, and a restart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
import pytest
from structlog.testing import capture_logs

from hub.model.desired import Change, DesiredRecord, DesiredRefused, changed, reported
from hub.registry.database import RegistryError, open_database, transaction
from hub.registry.desired import change_desired, select_all, select_desired
from hub.registry.event import select_events
from hub.registry.registry import Registry
from wire.command import CommandParameter
from wire.device import Reported, SettingProblem
from wire.errors import Code
from wire.limits import MAX_MESSAGE, MAX_SETTINGS

NAMES = ["pressure", "mode"]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    with closing(open_database(tmp_path / "registry.db")) as connection:
        yield connection


def change(connection: apsw.Connection, device: str = "pump", **values: float | str) -> DesiredRecord:
    transition = partial(changed, change=Change(values, (), "operator o1"), now_ns=5)
    with transaction(connection):
        return change_desired(connection, device, transition, NAMES, 5)


def report(connection: apsw.Connection, report: Reported) -> DesiredRecord:
    transition = partial(reported, report=report, declared=NAMES, now_ns=7)
    with transaction(connection):
        return change_desired(connection, "pump", transition, NAMES, 7)


def test_a_record_is_read_as_it_was_written(connection: apsw.Connection) -> None:
    """With the report, and an event of each change in the same transaction."""
    assert change(connection, pressure=2.5, mode="é") == select_desired(connection, "pump")
    problem = SettingProblem("mode", "refused", "m" * MAX_MESSAGE)
    stored = report(connection, Reported(1, {"pressure": 2.5}, [problem]))
    assert stored == select_desired(connection, "pump")
    assert select_desired(connection, "other") is None
    kinds = [event.kind for event in select_events(connection, "pump")]
    assert kinds == ["desired value rejected", "desired value in force", "desired value", "desired value"]
    # The same report again changes nothing.
    before = connection.total_changes()
    assert report(connection, Reported(1, {"pressure": 2.5}, [problem])) == stored
    assert connection.total_changes() == before


def test_a_refused_change_leaves_nothing(connection: apsw.Connection) -> None:
    """Neither a record nor an event."""
    transition = partial(changed, change=Change({"mode": "eco"}, (), "operator o1", 3), now_ns=5)
    with pytest.raises(DesiredRefused), transaction(connection):
        change_desired(connection, "pump", transition, NAMES, 5)
    assert select_all(connection) == []
    assert select_events(connection, "pump") == []


def test_a_damaged_record_is_left_out_and_not_overwritten(connection: apsw.Connection) -> None:
    """The next start repairs the file."""
    change(connection, pressure=2.5)
    change(connection, "other", pressure=3)
    connection.execute("UPDATE desired SET checksum = checksum + 1 WHERE device = 'pump'")
    with capture_logs() as logged:
        assert [record.device for record in select_all(connection)] == ["other"]
    assert [entry["device"] for entry in logged] == ["pump"]
    with pytest.raises(RegistryError, match="restart the hub") as refused:
        change(connection, pressure=3)
    assert refused.value.code is Code.STORAGE_FAILED


async def test_declared_settings_are_kept_in_their_order_within_a_bound(tmp_path: Path) -> None:
    """Over a restart. Those beyond the bound are named, and a watcher gets each change."""
    declared = [CommandParameter(f"s{number}", unit="bar", max=6) for number in range(MAX_SETTINGS)]
    news: list[str] = []
    async with Registry(tmp_path / "registry.db") as registry:
        registry.desired.watch_declared(news.append)
        for _ in range(2):
            assert await registry.desired.declare("pump", declared, replace=True) == []
        assert news == ["pump"]
        changes = [CommandParameter("s0", "integer"), CommandParameter("more")]
        assert await registry.desired.declare("pump", changes, replace=False) == ["more"]
        expected = [changes[0], *declared[1:]]
        assert registry.desired.declared("pump") == expected
        assert registry.commands.declared("pump") == []
    async with Registry(tmp_path / "registry.db") as registry:
        assert registry.desired.declared("pump") == expected
        await registry.desired.declare("pump", [], replace=True)
        assert registry.desired.declared("pump") == []
