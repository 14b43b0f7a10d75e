"""Backups of a hub that receives readings, and what a restore refuses."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import pytest

from hub.app.backup import back_up, stopped_hub
from hub.app.data_directory import REPLACED
from hub.app.errors import HubError
from hub.app.manifest import FILE_NAME, read_manifest
from hub.app.restore import restore
from hub.app.verify import Observer, compare, verify_directory
from hub.cli.backup import store_hold
from hub.cli.client import HubClient
from hub.model.identity import Role
from integrity.finding import Finding
from tests.conditions import until
from tests.hub.cli.hub_command import METRICS, batch
from tests.hub.http.opened_hub import listening, new_token, opened_hub, send_batches
from tests.tasks import running_task
from wire import device as messages

BACKUPS = 4

STORED = {"registry.db", "journal.db", "history.duckdb"}

IGNORE = Observer(lambda name, size_bytes: None, lambda size_bytes: None, lambda finding: None)


@asynccontextmanager
async def busy_hub(data: Path) -> AsyncIterator[HubClient]:
    """Run a hub to which a new device after the other sends; it keeps nothing in the journal that is stored."""
    async with (
        opened_hub(data, journal={"keep_bytes": 0, "keep_seconds": 0, "resend_seconds": 0}) as services,
        listening(services) as url,
        running_task(services.store_consumer.run()),
    ):
        admin, gateway = await new_token(services, Role.ADMIN), await new_token(services, Role.GATEWAY)

        async def send() -> None:
            number = 0
            while True:
                number += 1
                hello = messages.Hello(f"device-{number}", "0" * 16, 4, True, 0, metrics=METRICS, agent="test/1")
                await send_batches(url, gateway, hello, *(batch(seq, float(seq)) for seq in (1, 2, 3)))

        async with running_task(send()):
            await until(lambda: services.journal.first_offset > 1)
            with HubClient(url.replace("ws://", "http://"), admin) as client:
                yield client


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
            assert {finding.file: finding.intact for finding in findings} == {"registry.db": True, "journal.db": True}


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
