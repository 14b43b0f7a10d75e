"""Backups of a hub that receives readings."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub.app.backup import back_up
from hub.app.errors import HubError
from hub.app.manifest import FILE_NAME, read_manifest
from hub.app.verify import compare, verify_directory
from hub.cli.backup import store_hold
from integrity.finding import Finding
from tests.hub.app.busy_hub import IGNORE, STORED, busy_hub

BACKUPS = 4


async def test_the_files_of_each_backup_of_a_busy_hub_fit_together(tmp_path: Path) -> None:
    """The registry knows every series, the store is not ahead of the journal, and no entry between them is missing,
    although the journal deletes what is stored as soon as it can."""
    data = tmp_path / "data"
    last_offsets = []
    async with busy_hub(data) as client:
        for number in range(BACKUPS):
            folder = tmp_path / f"backup-{number}"
            result = await asyncio.to_thread(back_up, data, folder, store_hold(client), IGNORE, is_running=True)
            assert [finding for finding in result.findings if not finding.intact] == []
            facts = verify_directory(folder, IGNORE)
            assert list(compare(facts)) == []
            _, journal, store = facts
            assert journal is not None
            assert store is not None
            assert journal.first_offset - 1 <= store.cursor.offset <= journal.last_offset
            assert {path.name for path in folder.iterdir()} == {FILE_NAME, *STORED}
            assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
            assert journal.first_offset > 1
            assert result.manifest == read_manifest(folder)
            last_offsets.append(journal.last_offset)
    assert last_offsets == sorted(set(last_offsets))


async def test_the_files_of_a_busy_hub_are_intact(tmp_path: Path) -> None:
    """The snapshots are of different moments, which is no damage."""
    data = tmp_path / "data"
    async with busy_hub(data):
        for _ in range(BACKUPS):
            findings: list[Finding] = []
            observer = IGNORE._replace(found=findings.append)
            await asyncio.to_thread(verify_directory, data, observer, lambda report: [])
            found = {finding.file: finding.intact for finding in findings}
            assert found.keys() >= {"registry.db", "journal.db"}
            assert all(found.values())


async def test_a_backup_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The hold ends while a file is copied: the copy would not be consistent."""
    data, folder = tmp_path / "data", tmp_path / "backup"
    async with busy_hub(data) as client:
        hold = store_hold(client)

        def end_all_holds(size_bytes: int) -> None:
            raise HubError("the hold has ended")

        with pytest.raises(HubError, match="hold has ended"):
            await asyncio.to_thread(
                back_up, data, folder, hold, IGNORE._replace(advance=end_all_holds), is_running=True
            )
        assert [path.name for path in tmp_path.iterdir()] == ["data"]
        # The hub has ended the hold.
        await asyncio.to_thread(back_up, data, folder, store_hold(client), IGNORE, is_running=True)
