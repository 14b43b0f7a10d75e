"""The tables of commands: their bounds, and rows that are damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
import pytest
from structlog.testing import capture_logs

from hub.model.command import KEPT_NS, KEPT_PER_DEVICE, CommandPhase, CommandRecord, cancelled, new_command
from hub.registry.command import (
    MAX_PAGE,
    PRUNING_PERIOD,
    change_commands,
    delete_old,
    delete_surplus,
    insert_command,
    select_command,
    select_commands,
    select_open,
)
from hub.registry.database import RegistryError, open_database, transaction
from hub.registry.declared import MAX_DECLARED_BYTES
from hub.registry.registry import Registry
from wire.command import CommandDeclaration, CommandParameter
from wire.errors import Code


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    with closing(open_database(tmp_path / "registry.db")) as connection:
        yield connection


def queued(number: int, device: str = "pump") -> CommandRecord:
    return new_command(
        id=f"{number:032x}", device=device, name="stop", parameters={"speed": 1.0, "mode": "é"}, operator="operator o",
        now_ns=number, timeout_ms=1, ttl_s=60,
    )  # fmt: skip


def end(connection: apsw.Connection, record: CommandRecord) -> None:
    change_commands(connection, record.device, [record.id], partial(cancelled, operator="o", now_ns=9), 9)


def numbers(connection: apsw.Connection, device: str = "pump") -> list[int]:
    return [record.created_ns for record in select_commands(connection, device, limit=1_000)]


def test_a_command_is_read_as_it_was_written(connection: apsw.Connection) -> None:
    """With its number. A change is written only if there is one; another device has no such command."""
    stored = insert_command(connection, queued(1))
    assert stored == select_command(connection, "pump", stored.id)
    assert stored.parameters == {"speed": 1.0, "mode": "é"}
    assert select_command(connection, "other", stored.id) is None
    for is_changed in (True, False):
        transition = partial(cancelled, operator="operator o", now_ns=5)
        (answer,) = change_commands(connection, "pump", [stored.id], transition, 5)
        assert answer.is_changed is is_changed
        assert answer.record == select_command(connection, "pump", stored.id)
    assert select_open(connection) == []
    found = select_commands(connection, "pump", limit=9, states=[CommandPhase.CANCELLED])
    assert [record.id for record in found] == [stored.id]


def test_open_commands_have_a_bound_per_device_and_in_all(connection: apsw.Connection) -> None:
    """A command beyond it is refused; an ended one makes room."""
    records = [insert_command(connection, queued(n, f"pump-{n % 2}")) for n in range(4)]
    for bounds in ({"max_open_per_device": 2}, {"max_open": 4}):
        with pytest.raises(RegistryError) as refused:
            insert_command(connection, queued(9, "pump-0"), **bounds)
        assert refused.value.code is Code.TOO_MANY
    end(connection, records[0])
    insert_command(connection, queued(9, "pump-0"), max_open=4, max_open_per_device=2)


def test_ended_commands_are_deleted_beyond_the_bounds_and_open_ones_are_not(connection: apsw.Connection) -> None:
    """The oldest of a device, the oldest of all, and those that are too old."""
    for number in range(1, 9):
        record = insert_command(connection, queued(number))
        if number != 2:
            end(connection, record)
    delete_surplus(connection, "pump", per_device=5)
    assert numbers(connection) == [8, 7, 6, 5, 4, 2]
    delete_old(connection, 9, in_all=3, kept_ns=100)
    assert numbers(connection) == [8, 7, 6, 2]
    delete_old(connection, 9, in_all=3, kept_ns=2)
    assert numbers(connection) == [8, 7, 2]


def test_the_end_of_a_command_deletes_what_is_beyond_the_bounds(connection: apsw.Connection) -> None:
    """First the ones of its device, and after so many commands the old ones of all. An answer has a bound, too."""
    with transaction(connection):
        end(connection, insert_command(connection, queued(1, "mill")))
        for number in range(2, KEPT_PER_DEVICE + 3):
            end(connection, insert_command(connection, queued(number)))
        assert numbers(connection) == [*range(KEPT_PER_DEVICE + 2, 2, -1)]
        last = 4 * PRUNING_PERIOD
        records = [insert_command(connection, queued(number)) for number in range(KEPT_PER_DEVICE + 3, last + 1)]
        assert len(select_commands(connection, "pump", limit=1_000)) == MAX_PAGE + 1
        assert numbers(connection, "mill") == [1]
        transition = partial(cancelled, operator="o", now_ns=KEPT_NS + last)
        change_commands(connection, "pump", [records[-1].id], transition, KEPT_NS + last)
    assert numbers(connection) == [record.created_ns for record in reversed(records)]
    assert numbers(connection, "mill") == []


def test_a_damaged_command_is_left_out(connection: apsw.Connection) -> None:
    """It is neither shown nor sent; the next start repairs the file."""
    insert_command(connection, queued(1))
    insert_command(connection, queued(2))
    connection.execute("UPDATE commands SET checksum = checksum + 1 WHERE number = 1")
    with capture_logs() as logged:
        assert [record.created_ns for record in select_open(connection)] == [2]
    assert [entry["number"] for entry in logged] == [1]


async def test_declared_commands_are_kept_in_their_order_within_a_bound(tmp_path: Path) -> None:
    """Over a restart; without news nothing is written. Those beyond the bound are named."""
    long = CommandParameter("text", "string", choices=["x" * 1000] * 17)
    declared = [CommandDeclaration(f"c{n}", parameters=[long]) for n in range(5)]
    assert 3 * 17_000 < MAX_DECLARED_BYTES < 4 * 17_000
    async with Registry(tmp_path / "registry.db") as registry:
        assert await registry.commands.declare("pump", declared, replace=True) == ["c3", "c4"]
        kept = registry.commands.declared("pump")
        assert kept == declared[: len(kept)]
        changed = CommandDeclaration("c0", "changed")
        await registry.commands.declare("pump", [changed, CommandDeclaration("new")], replace=False)
        expected = [changed, *kept[1:], CommandDeclaration("new")]
        assert registry.commands.declared("pump") == expected
    async with Registry(tmp_path / "registry.db") as registry:
        assert registry.commands.declared("pump") == expected
        news: list[str] = []
        registry.commands.watch_declared(news.append)
        await registry.commands.declare("pump", expected, replace=True)
        assert news == []
        for number in range(3):
            for device in ("mill", "fan"):
                await registry.commands.declare(device, [CommandDeclaration(f"stop{number}")], replace=True)
        assert news == ["mill", "fan"] * 3
        table = registry.commands._declarations
        assert len(table._same) == len(table._uses) == 2, "declarations that no device has any more are kept"
        assert table._stored["mill"] is table._stored["fan"]
        await registry.commands.declare("pump", [], replace=True)
        assert registry.commands.declared("pump") == []
    async with Registry(tmp_path / "registry.db") as registry:
        assert registry.commands.declared("pump") == []
