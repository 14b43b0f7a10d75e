"""Restores of a backup: into a new directory, over present files, and what is refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from hub.app.backup import back_up, stopped_hub
from hub.app.data_directory import REPLACED
from hub.app.errors import HubError
from hub.app.manifest import FILE_NAME, read_manifest
from hub.app.restore import restore
from hub.app.verify import verify_directory
from hub.model.identity import Role
from integrity.finding import Finding
from tests.hub.app.busy_hub import IGNORE, STORED, busy_hub
from tests.hub.cli.hub_command import METRICS, batch
from tests.hub.http.opened_hub import listening, new_token, opened_hub, send_batches
from wire import device as messages


@pytest.fixture(scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a backup of a stopped hub."""
    path = tmp_path_factory.mktemp("stopped")
    async with busy_hub(path / "data"):
        pass
    with stopped_hub(path / "data"):
        back_up(path / "data", path / "backup", nullcontext(lambda: None), IGNORE, is_running=False)
    return path / "backup"


def names(data: Path) -> set[str]:
    """Return the names in a data directory without locks and indexes."""
    return {path.name for path in data.iterdir() if path.suffix != ".lock"}


def verified(data: Path) -> list[Finding]:
    """Return what is not intact."""
    findings: list[Finding] = []
    verify_directory(data, IGNORE._replace(found=findings.append))
    return [finding for finding in findings if not finding.intact]


async def test_a_backup_is_restored_into_a_new_directory(folder: Path, tmp_path: Path) -> None:
    """All files have their names, and a hub can run on them."""
    data = tmp_path / "data"
    assert restore(folder, data, IGNORE, replace=False).replaced is None
    assert names(data) == STORED
    assert verified(data) == []
    async with opened_hub(data) as services:
        assert services.journal.losses.incidents == []
        events = await services.registry.events(of_hub=True)
        assert [event.kind for event in events if event.kind == "hub restored"]


async def test_a_restore_over_a_newer_journal_is_no_loss_of_its_end(folder: Path, tmp_path: Path) -> None:
    """The file of the lock stays and knows newer entries; those are in the folder of the replaced files."""
    data = tmp_path / "data"
    restore(folder, data, IGNORE, replace=False)
    async with opened_hub(data) as services, listening(services) as url:
        hello = messages.Hello("newer", "0" * 16, 4, True, 0, metrics=METRICS, agent="test/1")
        await send_batches(url, await new_token(services, Role.GATEWAY), hello, batch(1, 1.0), batch(2, 2.0))
    assert restore(folder, data, IGNORE, replace=True).replaced is not None
    assert verified(data) == []
    async with opened_hub(data) as services:
        assert services.journal.losses.incidents == []
        assert services.journal.last_offset == read_manifest(folder).last_offset


async def test_present_files_are_set_aside_only_if_that_is_wanted(folder: Path, tmp_path: Path) -> None:
    """Without `replace` nothing changes; with it the old files are in a folder, and earlier folders stay."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "registry.db").write_text("old")
    with pytest.raises(HubError, match="--replace"):
        restore(folder, data, IGNORE, replace=False)
    assert (data / "registry.db").read_text() == "old"
    replaced = restore(folder, data, IGNORE, replace=True).replaced
    assert replaced is not None
    assert replaced.name.startswith(REPLACED)
    assert (replaced / "registry.db").read_text() == "old"
    assert verified(data) == []


async def test_a_damaged_backup_changes_nothing(folder: Path, tmp_path: Path) -> None:
    """A flipped bit, a missing file and a missing manifest are found before anything is written."""
    copy, data = tmp_path / "copy", tmp_path / "data"
    for damage in ("flip", "file", "manifest"):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        if damage == "flip":
            content = bytearray((copy / "history.duckdb").read_bytes())
            content[len(content) // 2] ^= 1
            (copy / "history.duckdb").write_bytes(content)
        else:
            (copy / ("journal.db" if damage == "file" else FILE_NAME)).unlink()
        with pytest.raises(HubError):
            restore(copy, data, IGNORE, replace=True)
        assert names(data) == set()
        assert verified(copy) or damage == "manifest"


async def test_a_running_hub_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    """Its lock is held, whatever the options are; a backup of a stopped hub is refused as well."""
    async with opened_hub(tmp_path / "data"):
        with pytest.raises(HubError, match="in use"):
            restore(folder, tmp_path / "data", IGNORE, replace=True)
        with pytest.raises(HubError, match="in use"), stopped_hub(tmp_path / "data"):
            pass


async def test_a_restore_by_root_gives_every_file_to_the_owner_of_the_directory(folder: Path, tmp_path: Path) -> None:
    """The hub runs as that user, and must be able to open its lock as well."""
    data = tmp_path / "data"
    data.mkdir()
    owner = (65534, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(data, *owner)
    restore(folder, data, IGNORE, replace=False)
    restore(folder, data, IGNORE, replace=True)
    assert "journal.db.lock" in {path.name for path in data.iterdir()}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in data.rglob("*")} == {owner}


KILLED_RESTORE = """
import os, sys
from pathlib import Path
from tests.hub.app.busy_hub import IGNORE
from hub.app.restore import restore

renames = int(sys.argv[1])

def stop(*arguments):
    global renames
    if renames == 0:
        os._exit(9)
    renames -= 1
    rename(*arguments)

rename, os.rename = os.rename, stop
restore(Path(sys.argv[2]), Path(sys.argv[3]), IGNORE, replace=True)
"""


@pytest.mark.parametrize("renames", [0, 2, 5])
async def test_an_interrupted_restore_is_repeated(folder: Path, tmp_path: Path, renames: int) -> None:
    """Before, within and after the present files are set aside: no hub starts, and the verification says what to do."""
    data = tmp_path / "data"
    restore(folder, data, IGNORE, replace=False)
    command = [sys.executable, "-c", KILLED_RESTORE, str(renames), str(folder), str(data)]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 9
    assert verified(data)[0].file == "restoring/"
    assert "Run `hub restore` again, with --replace" in verified(data)[0].next_step
    with pytest.raises(HubError, match="was interrupted"):
        async with opened_hub(data):
            pass
    restore(folder, data, IGNORE, replace=True)
    assert verified(data) == []
    async with opened_hub(data) as services:
        assert services.journal.losses.incidents == []


async def test_a_restore_that_fails_leaves_nothing_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may be full in the middle of the copy: the present files are as they were, and a hub starts on them."""
    data = tmp_path / "data"
    restore(folder, data, IGNORE, replace=False)

    def fail(size_bytes: int) -> None:
        if (data / "restoring" / "history.duckdb").exists():
            raise OSError(28, "No space left on device")

    with pytest.raises(HubError, match="No space left"):
        restore(folder, data, IGNORE._replace(advance=fail), replace=True)
    assert names(data) == STORED
    assert verified(data) == []
