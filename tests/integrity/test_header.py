"""A wrong bit in the numbers of a file's header, and what only looks like one."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import pytest

from integrity.header import has_wrong_bit

APPLICATION_ID, VERSION = 0x54485350, 2
SCHEMA = "CREATE TABLE batch (seq INTEGER PRIMARY KEY, value BLOB); CREATE TABLE gap (first INTEGER, last INTEGER);"


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", VERSION)
    yield connection
    connection.close()


def is_wrong(connection: apsw.Connection) -> bool:
    return has_wrong_bit(connection, application_id=APPLICATION_ID, version=VERSION, schema=SCHEMA)


@pytest.mark.parametrize("name", ["application_id", "user_version"])
@pytest.mark.parametrize("bit", range(31))
def test_one_wrong_bit_is_damage(connection: apsw.Connection, name: str, bit: int) -> None:
    """Whichever it is."""
    assert not is_wrong(connection)
    connection.pragma(name, connection.pragma(name) ^ 1 << bit)
    assert is_wrong(connection)


def test_other_numbers_are_those_of_another_program_or_version(connection: apsw.Connection) -> None:
    """Two bits do not change by themselves."""
    connection.pragma("user_version", VERSION ^ 3)
    assert not is_wrong(connection)
    connection.pragma("user_version", VERSION ^ 1)
    connection.pragma("application_id", APPLICATION_ID ^ 1)
    assert not is_wrong(connection)


def test_a_file_with_other_tables_is_not_ours(connection: apsw.Connection) -> None:
    """A newer version has other columns. A converted file has other statements with the same ones."""
    connection.pragma("user_version", VERSION ^ 1)
    connection.execute("ALTER TABLE gap ADD COLUMN reason TEXT")
    assert not is_wrong(connection)
    connection.execute("ALTER TABLE gap DROP COLUMN reason")
    assert is_wrong(connection)
    connection.execute("DROP TABLE gap; CREATE TABLE gap (last INTEGER NOT NULL, first INTEGER)")
    assert is_wrong(connection)
    connection.execute("DROP TABLE gap")
    assert not is_wrong(connection)
