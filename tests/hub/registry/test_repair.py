"""Damage of the registry: each kind is found before the file is used, and what is intact continues."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
import pytest

from hub.model.command import CommandRecord, new_command
from hub.model.command_job import CommandJob, new_job
from hub.model.desired import Change, changed
from hub.model.event import Event
from hub.model.identity import Role
from hub.registry import command, command_job, command_target, declared, desired, event, fleet, token
from hub.registry.database import RegistryError, hub_id, open_database, transaction
from hub.registry.repair import Repair, verify
from hub.registry.schema import SEALED_TABLES, TABLES, UNSEALED_VERSION, VERSIONS, tables_of
from integrity.database import DatabaseSnapshot, SnapshotError
from integrity.finding import Finding
from integrity.header import WRONG_BIT
from integrity.recovery import beside
from wire.model import Metric

PAGE_BYTES = 4_096
FLIPS = 40

Contents = dict[str, dict[object, tuple[object, ...]]]
"""The rows of each table by their key."""


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with rows in every table, of several pages each where a hub has many."""
    path = tmp_path_factory.mktemp("registry") / "registry.db"
    with closing(open_database(path)) as connection, transaction(connection):
        for number in range(60):
            metrics = [Metric(f"metric-{index}", "float", "°C", f"of {number}") for index in range(5)]
            fleet.declare(connection, f"device-{number}", metrics, number + 1)
        fleet.retire(connection, ["device-7"], 99)
        for number in range(30):
            made = token.insert_token(connection, Role.DEVICE, number, pattern=f"device-{number}", label="a label")
            token.insert_session(connection, made.token.id, number)
            token.insert_login_code(connection, made.token.id, number)
        event.insert_events(
            connection, [Event(0, f"device-{n % 60}", n, "connected", "detail " * 5) for n in range(200)]
        )
        for number in range(150):
            for table in ("declared_commands", "declared_settings"):
                declared.write_declared(connection, table, f"device-{number % 60}", '[{"name":"stop"}]', number)
            change = partial(changed, change=Change({"stop": number}, (), "operator o1"), now_ns=number)
            desired.change_desired(connection, f"device-{number % 60}", change, ["stop"], number)
            command.insert_command(connection, queued(number))
        job = queued_job()
        command_target.insert_targets(connection, job.id, [(n // 10, f"device-{n}") for n in range(job.targets)])
        command_job.insert_job(connection, job, 1)
    return path


def queued_job() -> CommandJob:
    """A job that waits for its first batch."""
    return new_job(
        id="f" * 32,
        to=["device-*"],
        name="stop",
        parameters={"reason": "maintenance"},
        operator="operator o1",
        now_ns=1,
        life_s=60,
        timeout_ms=10_000,
        ttl_s=60,
        is_confirmed=False,
        batch_size=10,
        stop_share=0.2,
        targets=60,
    )


def queued(number: int) -> CommandRecord:
    """A command that waits for its device."""
    return new_command(
        id=f"{number:032x}",
        device=f"device-{number % 60}",
        name="stop",
        parameters={"reason": "maintenance"},
        operator="operator o1",
        now_ns=number,
        timeout_ms=10_000,
        ttl_s=60,
    )


@pytest.fixture
def path(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(intact, tmp_path / "registry.db"))


def contents(connection: apsw.Connection) -> Contents:
    """Return every row, without the event that a repair adds."""
    return {
        table.name: {
            row[0]: row
            for row in connection.execute(f"SELECT {', '.join(table.columns)} FROM {table.name}")
            if "registry repaired" not in row
        }
        for table in TABLES
    }


def contents_of(path: Path) -> Contents:
    with closing(open_database(path)) as connection:
        return contents(connection)


def verified(path: Path) -> list[Finding]:
    """Return what the verification of this file finds, before it is opened."""
    try:
        with DatabaseSnapshot(path) as snapshot:
            return verify(path, snapshot.connection)
    except SnapshotError as error:
        return [Finding(path.name, False, str(error))]


def open_damaged(path: Path, expected: Contents) -> Repair | None:
    """Open a damaged file: it is rejected, or nothing in it is wrong and what is missing is reported."""
    repairs: list[Repair] = []
    findings = verified(path)
    try:
        connection = open_database(path, report=repairs.append)
    except RegistryError:
        assert not findings[0].intact
        return None
    with closing(connection):
        found = contents(connection)
    missing = {
        table: rows.keys() - found[table].keys()
        for table, rows in expected.items()
        if rows.keys() - found[table].keys()
    }
    for table, rows in found.items():
        assert rows.items() <= expected[table].items(), table
    if missing:
        assert repairs, missing
        assert repairs[0].lost_anything
        assert repairs[0].unreadable or missing.keys() <= repairs[0].lost.keys()
    assert findings[0].intact is not bool(repairs)
    if repairs and repairs[0].kept:
        assert (path.parent / repairs[0].kept).exists()
    return repairs[0] if repairs else None


def damaged_copies(intact: Path, folder: Path, damages: list[Callable[[bytearray], None]]) -> Iterator[Path]:
    for number, damage in enumerate(damages):
        content = bytearray(intact.read_bytes())
        damage(content)
        path = folder / f"{number}" / "registry.db"
        path.parent.mkdir()
        path.write_bytes(content)
        yield path


def flip(at: int, bit: int) -> Callable[[bytearray], None]:
    def damage(content: bytearray) -> None:
        content[at] ^= 1 << bit

    return damage


def zero(page: int) -> Callable[[bytearray], None]:
    def damage(content: bytearray) -> None:
        content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)

    return damage


def test_one_flipped_bit_is_never_read_as_another_value(intact: Path, tmp_path: Path) -> None:
    """At seeded places: each row is as it was written, or is missing and reported. Most bits are corrected."""
    dice = random.Random(13)
    size = intact.stat().st_size
    flips = [flip(dice.randrange(size), dice.randrange(8)) for _ in range(FLIPS)]
    expected = contents_of(intact)
    results = [open_damaged(path, expected) for path in damaged_copies(intact, tmp_path, flips)]
    repairs = [repair for repair in results if repair is not None]
    corrected = sum(repair.corrected for repair in repairs)
    lost = sum(sum(repair.lost.values()) for repair in repairs)
    # The others hit free space and indexes. How many is a matter of the identifiers, which are random.
    assert corrected > max(lost, FLIPS // 8)
    assert sum(not repair.lost_anything for repair in repairs) > len(repairs) / 2


def test_a_page_of_zeros_is_found(intact: Path, tmp_path: Path) -> None:
    """Whichever page it is."""
    expected = contents_of(intact)
    pages = [zero(page) for page in range(intact.stat().st_size // PAGE_BYTES)]
    for path in damaged_copies(intact, tmp_path, pages):
        open_damaged(path, expected)


def test_a_truncated_file_is_found(intact: Path, tmp_path: Path) -> None:
    """Also in the middle of a page."""
    expected = contents_of(intact)

    def cut(size: int) -> Callable[[bytearray], None]:
        return lambda content: content.__delitem__(slice(size, None))

    size = intact.stat().st_size
    for path in damaged_copies(intact, tmp_path, [cut(size * part // 7 + 1) for part in range(7)]):
        open_damaged(path, expected)


def change(path: Path, statement: str) -> None:
    """Change a row as damage does: no trigger verifies it or writes its checksum."""
    with closing(apsw.Connection(os.fspath(path))) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)
        for _, sql in triggers:
            connection.execute(str(sql))


def test_a_series_moved_to_another_device_is_found(path: Path) -> None:
    """The change of one value, as a damaged byte makes it: the device of a series. Its row is correct again."""
    with closing(open_database(path)) as connection, transaction(connection):
        series = fleet.declare(connection, "device-1", [Metric("alone", "float")], 1).series[0].id
    expected = contents_of(path)
    change(path, f"UPDATE series SET device = (device | 4) - (device & 4) WHERE id = {series}")
    repair = open_damaged(path, expected)
    assert repair is not None
    assert (repair.corrected, repair.lost) == (1, {})
    assert contents_of(path) == expected


def test_a_row_that_cannot_be_corrected_is_lost_alone(path: Path) -> None:
    """The other rows continue, the damaged file is kept, and the repair is an event."""
    expected = contents_of(path)
    change(path, "UPDATE events SET kind = 'something else' WHERE id = 33")
    repair = open_damaged(path, expected)
    assert repair is not None
    assert (repair.corrected, repair.lost) == (0, {"events": 1})
    with closing(open_database(path)) as connection:
        (newest, *_) = event.select_events(connection, of_hub=True)
    assert newest.kind == "registry repaired"
    assert "lost rows: 1 of events" in newest.detail
    assert repair.kept in newest.detail


def test_the_series_of_a_lost_device_are_given_to_no_other(path: Path) -> None:
    """A lost device takes its series with it, because a new device may get its number."""
    change(path, "UPDATE devices SET name = 'something else' WHERE id = 60")
    repairs: list[Repair] = []
    with closing(open_database(path, report=repairs.append)) as connection, transaction(connection):
        rows = fleet.declare(connection, "another", [Metric("metric-0", "float")], 1)
        owners = connection.execute("SELECT count(*) FROM series WHERE device = ?", (rows.device[0],)).get
    assert repairs[0].lost == {"devices": 1, "series": 5}
    assert owners == 1


def test_an_interrupted_replacement_is_completed(path: Path, tmp_path: Path) -> None:
    """A crash after the repair and before the last rename loses nothing: the repaired file counts."""
    expected = contents_of(path)
    path.rename(beside(path, ".repaired"))
    assert contents_of(path) == expected
    beside(path, "-wal").write_bytes(b"of the damaged file")
    path.rename(beside(path, ".repaired"))
    assert contents_of(path) == expected


def test_a_damaged_log_loses_no_commit(path: Path, tmp_path: Path) -> None:
    """A bit in the middle of the write-ahead log: SQLite alone would end there. What is behind it is kept."""
    live = open_database(path)
    for number in range(20):
        with transaction(live):
            fleet.declare(live, f"late-{number}", [Metric("a", "integer")], number)
    expected = contents(live)
    copy = tmp_path / "copy" / "registry.db"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    log = bytearray(beside(path, "-wal").read_bytes())
    live.close()
    log[len(log) // 3] ^= 8
    beside(copy, "-wal").write_bytes(log)
    repairs: list[Repair] = []
    with closing(open_database(copy, report=repairs.append)) as connection:
        found = contents(connection)
    assert repairs[0].log is not None
    assert found["devices"].keys() == expected["devices"].keys()
    for table, rows in found.items():
        assert rows.items() <= expected[table].items()


def test_a_file_in_use_is_not_examined(path: Path) -> None:
    """The process that has it open has verified it, and replacing it would take its changes away."""
    with closing(open_database(path)) as user:
        user.execute("SELECT count(*) FROM facts").fetchall()
        before = path.stat().st_ino
        at = path.read_bytes().index(b"connecteddetail")
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"C")
        open_database(path).close()
        assert path.stat().st_ino == before


def test_a_damaged_row_is_neither_read_nor_changed_at_runtime(path: Path) -> None:
    """Rows that became damaged after the opening: events are left out, and everything else is an error."""
    with closing(open_database(path)) as connection:
        with transaction(connection):
            for table in ("tokens", "devices", "events"):
                connection.execute(f"UPDATE {table} SET checksum = checksum + 1")
        with pytest.raises(RegistryError, match="the registry is damaged"):
            token.select_tokens(connection)
        with pytest.raises(RegistryError, match="the registry is damaged"), transaction(connection):
            fleet.declare(connection, "device-4", [Metric("new", "float")], 1)
        with pytest.raises(RegistryError, match="a row of devices is damaged"), transaction(connection):
            fleet.retire(connection, ["device-4"], 1)
        assert event.select_events(connection, limit=1_000) == []


def test_both_copies_of_the_hub_id_have_to_be_lost(path: Path) -> None:
    """One copy is enough. Without both, the hub does not guess under which names history appears."""
    with closing(open_database(path)) as connection:
        id = hub_id(connection).encode()
    content = path.read_bytes()
    first, second = content.index(id), content.rindex(id)
    assert first != second
    path.write_bytes(content[:first] + b"0" * len(id) + content[first + len(id) :])
    with closing(open_database(path)) as connection:
        assert hub_id(connection).encode() == id
    path.write_bytes(content.replace(id, b"0" * len(id)))
    with pytest.raises(RegistryError, match="the id of the hub in"):
        open_database(path)


@pytest.mark.parametrize("name", ["application_id", "user_version"])
@pytest.mark.parametrize("bit", [0, 7, 30])
def test_a_wrong_bit_in_the_header_is_repaired(path: Path, name: str, bit: int) -> None:
    """A file with all tables of a registry is not that of another program or version. Nothing is lost."""
    expected = contents_of(path)
    with closing(apsw.Connection(os.fspath(path))) as connection:
        connection.pragma(name, connection.pragma(name) ^ 1 << bit)
    assert WRONG_BIT in verified(path)[0].what
    repair = open_damaged(path, expected)
    assert repair is not None
    assert not repair.lost_anything
    assert contents_of(path) == expected


def earlier_file(path: Path, earlier: Path, version: int) -> Contents:
    """Write the registry as a file of this version, and return what it contains then."""
    kept = {table.name for table in tables_of(version)}
    expected = {name: rows if name in kept else {} for name, rows in contents_of(path).items()}
    with closing(open_database(path)) as connection:
        connection.execute("VACUUM INTO ?", (os.fspath(earlier),))
    with closing(apsw.Connection(os.fspath(earlier))) as connection:
        for table in expected.keys() - kept:
            connection.execute(f"DROP TABLE {table}")
        if version == UNSEALED_VERSION:
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            for sealed in SEALED_TABLES:
                connection.execute(f"ALTER TABLE {sealed.name} DROP COLUMN checksum")
            connection.execute("DROP TABLE identity")
        connection.pragma("user_version", version)
    return expected


@pytest.mark.parametrize("version", [UNSEALED_VERSION, *VERSIONS[:-1]])
def test_a_file_of_an_earlier_version_gets_what_it_lacks(path: Path, tmp_path: Path, version: int) -> None:
    """Everything in it is kept, and damage is found from then on."""
    earlier = tmp_path / "earlier.db"
    expected = earlier_file(path, earlier, version)
    assert verified(earlier)[0].intact
    assert contents_of(earlier) == expected
    assert verified(earlier)[0].intact
    with closing(open_database(earlier)) as connection, transaction(connection):
        command.insert_command(connection, queued(999))
        connection.execute("UPDATE series SET checksum = checksum + 1 WHERE id = 7")
    assert not verified(earlier)[0].intact


@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_a_damaged_file_of_an_earlier_version_is_repaired(path: Path, tmp_path: Path, version: int) -> None:
    """The rows that are intact continue in a file of the current version; nothing else is reported as lost."""
    earlier = tmp_path / "earlier.db"
    expected = earlier_file(path, earlier, version)
    with closing(apsw.Connection(os.fspath(earlier))) as connection:
        connection.execute("UPDATE series SET checksum = checksum + 1 WHERE id = 7")
    repair = open_damaged(earlier, expected)
    assert repair is not None
    assert (repair.lost, repair.unreadable) == ({"series": 1}, set())
    with closing(open_database(earlier)) as connection, transaction(connection):
        command.insert_command(connection, queued(999))
