"""Verification of spools that a real agent has written."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from device_agent.spool import SqliteSpool, StoredCommand
from device_agent.spool.verify import verify_spool
from integrity.finding import Finding
from tests.device_agent.batches import NUMBER, batch_of

BATCHES = 20


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Return the file of a closed spool."""
    file = tmp_path / "boiler.spool"
    async with SqliteSpool(file, device="boiler") as spool:
        for number in range(1, BATCHES + 1):
            await spool.append(batch_of(number), [NUMBER])
    return file


def change(path: Path, sql: str) -> None:
    """Change a row as a damaged page would, so that SQLite sees no damage."""
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
    connection.close()


async def test_an_intact_spool_may_be_in_use(path: Path) -> None:
    """The verification changes nothing, and does not disturb the agent."""
    expected = [Finding("boiler.spool", True, f"{BATCHES} batches and all numbers are intact")]
    assert verify_spool(path) == expected
    async with SqliteSpool(path, device="boiler") as spool:
        assert verify_spool(path) == expected
        await spool.append(batch_of(BATCHES + 1))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("UPDATE batch SET value = x'00' WHERE seq = 7", "1 batch is damaged, the first is 7"),
        ("UPDATE batch SET seq = 99 WHERE seq = 3", "1 batch is damaged, the first is 99"),
        ("DELETE FROM batch WHERE seq = 3", "are missing"),
        ("UPDATE life SET next_seq = 4", "numbers"),
        ("UPDATE metric SET type = 'integer'", "definition"),
    ],
)
async def test_each_damage_is_found(path: Path, damage: str, what: str) -> None:
    """The finding has a consequence and a next step."""
    change(path, damage)
    findings = verify_spool(path)
    assert {finding.intact for finding in findings} == {False}
    assert any(what in finding.what for finding in findings)
    assert all(finding.consequence and finding.next_step for finding in findings)


async def test_a_damaged_batch_that_the_hub_has_is_no_loss(path: Path) -> None:
    """The agent kept it as a copy only: its meaning differs from that of a batch that waits."""
    async with SqliteSpool(path, device="boiler") as spool:
        spool.trim(10)
        await spool.append(batch_of(BATCHES + 1))
    change(path, "UPDATE batch SET value = x'00' WHERE seq IN (7, 12, 13)")
    waiting, acknowledged = verify_spool(path)
    assert waiting.what == "2 batches are damaged, the first is 12"
    assert acknowledged.what == "1 acknowledged batch is damaged, the first is 7"
    assert "nothing is lost" in acknowledged.consequence
    assert "start the agent" not in acknowledged.next_step


async def test_a_damaged_record_of_a_command_is_found(path: Path) -> None:
    """The batches are intact, and the consequence is that of a command."""
    async with SqliteSpool(path, device="boiler") as spool:
        await spool.write_commands([StoredCommand("a1", b"content"), StoredCommand("a2", b"content")], [])
    change(path, "UPDATE command SET content = x'00' WHERE id = 'a1'")
    (finding,) = verify_spool(path)
    assert (finding.intact, finding.what) == (False, "1 record of a command is damaged")
    assert "whether they took effect is not known" in finding.consequence


async def test_a_damaged_record_of_the_settings_is_found(path: Path) -> None:
    """The hub has the desired values, too."""
    async with SqliteSpool(path, device="boiler") as spool:
        await spool.write_settings(b"content")
    change(path, "UPDATE setting SET content = x'00'")
    (finding,) = verify_spool(path)
    assert (finding.intact, finding.what) == (False, "the record of the settings is damaged")
    assert "the hub sends the desired values" in finding.consequence


async def test_a_wrong_bit_in_the_header_is_damage(path: Path) -> None:
    """The next start of the agent moves what is intact to a new file."""
    change(path, "PRAGMA user_version = 5")
    (finding,) = verify_spool(path)
    assert finding.intact is False
    assert "in the header" in finding.what


async def test_what_is_no_spool_cannot_be_verified(path: Path, tmp_path: Path) -> None:
    """A missing file and a database of another program are not damaged spools; a file without a header is one."""
    (missing,) = verify_spool(tmp_path / "missing")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    (other,) = verify_spool(tmp_path / "other.db")
    path.write_bytes(b"no database" * 1000)
    (destroyed,) = verify_spool(path)
    assert (missing.intact, other.intact, destroyed.intact) == (None, None, False)
