"""A journal that is not the one of this hub: it is refused, and a journal of this hub is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hub.app.copy import DUCKDB, copy_history
from hub.app.services import HubServices, open_journal
from hub.app.verify import Observer, verify_directory
from hub.config.settings import load_settings
from hub.model.identity import Role
from hub.model.journal import JournalError
from integrity.finding import Finding
from tests.hub.http.opened_hub import http_client, listening, new_token, opened_hub, send_batches
from tests.tasks import running_task
from wire import device as messages
from wire.model import Metric

JOURNAL = ("journal.db",)
WITH_LOCK = ("journal.db", "journal.db.lock")


async def send(services: HubServices, first: int, *values: float) -> None:
    """Send a batch for each value as an new agent, from the time `first` on, and wait until all are stored."""
    hello = messages.Hello("pump", f"{first:016x}", 1 + len(values), True, 0, metrics=[Metric("flow")])
    batches = [messages.Data(1 + seq, [first + seq], {"flow": [value]}) for seq, value in enumerate(values)]
    async with listening(services) as url, running_task(services.store_consumer.run()):
        await send_batches(url, await new_token(services, Role.GATEWAY), hello, *batches)
        await services.store_consumer.reached(services.journal.last_offset)


async def stored(services: HubServices) -> list[float]:
    """Return what is stored when everything in the journal is."""
    async with running_task(services.store_consumer.run()), http_client(services) as client:
        await services.store_consumer.reached(services.journal.last_offset)
        answer = await client.get("/api/v1/history", params={"device": "pump", "points": "0", "from": "0"})
    return [value for series in answer.json()["series"] for value in series["values"]]


def damages(data: Path) -> list[Finding]:
    """Return what a verification of this directory finds."""
    findings: list[Finding] = []
    verify_directory(data, Observer(lambda name, size: None, lambda size: None, findings.append))
    return [finding for finding in findings if finding.intact is False]


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """Return the data directory of a hub. Beside it, `other` is that of a hub with a device of the same name."""
    for name, values in (("data", (1.0, 2.0)), ("other", (1001.0, 1002.0, 1003.0))):
        async with opened_hub(tmp_path / name) as services:
            await send(services, 1, *values)
    return tmp_path / "data"


@pytest.mark.parametrize("files", [JOURNAL, WITH_LOCK])
async def test_the_journal_of_another_hub_is_refused(data: Path, files: tuple[str, ...]) -> None:
    """Nothing of it is stored, and the error and the verification say what to do. That works: the loss is reported."""
    for name in files:
        shutil.copy(data.parent / "other" / name, data / name)
    (finding,) = damages(data)
    assert (finding.file, "journal of hub" in finding.what) == ("journal.db", True)
    for _ in range(2):
        with pytest.raises(JournalError, match=r"move journal\.db and journal.db-wal to another folder"):
            async with opened_hub(data):
                pass
    for name in ("journal.db", "journal.db-wal"):
        (data / name).unlink(missing_ok=True)
    async with opened_hub(data) as services:
        assert await stored(services) == [1.0, 2.0]
        (incident,) = services.journal.losses.incidents
        assert "was removed, emptied or replaced" in incident.text
        await send(services, 3, 3.0)
    async with opened_hub(data) as services:
        assert await stored(services) == [1.0, 2.0, 3.0]
        assert services.journal.losses.incidents == []
    assert damages(data) == []


async def test_a_refused_journal_keeps_its_write_ahead_log(data: Path) -> None:
    """The log may be that of another hub alone: nothing of it is written into journal.db."""
    other = data.parent / "other"
    async with opened_hub(other) as services:
        await send(services, 4, 1004.0)
        for name in ("journal.db", "journal.db-wal"):
            shutil.copy(other / name, data / name)
    before = {name: (data / name).read_bytes() for name in ("journal.db", "journal.db-wal")}
    with pytest.raises(JournalError, match="journal of hub"):
        async with opened_hub(data):
            pass
    assert {name: (data / name).read_bytes() for name in before} == before


async def test_an_earlier_journal_of_this_hub_is_stored_once(data: Path) -> None:
    """It was moved away and came back: the store has its readings already, and the accounting balances."""
    (data / "journal.db").rename(data / "earlier.db")
    async with opened_hub(data) as services:
        await send(services, 3, 3.0)
    (data / "earlier.db").rename(data / "journal.db")
    async with opened_hub(data) as services, running_task(services.accounting.run()):
        assert await stored(services) == [1.0, 2.0, 3.0]
        assert services.journal.losses.incidents
        await services.accounting.counted()
        async with http_client(services) as client:
            totals = (await client.get("/api/v1/flow")).json()["totals"]
            assert (totals["stored"], totals["difference"]) == (3, 0)


async def test_a_new_journal_counts_also_after_a_crash_before_it_was_recorded(data: Path) -> None:
    """The file itself says that this hub has created it."""
    (data / "journal.db").unlink()
    async with opened_hub(data) as services:
        hub = services.registry.id
    recorded = (data / "registry.db").read_bytes()
    (data / "journal.db").unlink()
    async with open_journal(load_settings(None, {"data": data}), hub=hub):
        pass
    assert (data / "registry.db").read_bytes() == recorded
    async with opened_hub(data) as services:
        assert await stored(services) == [1.0, 2.0]
        assert services.journal.losses.incidents


async def test_a_copy_of_the_history_begins_a_journal_of_this_hub(data: Path) -> None:
    """The hub starts with a journal that was missing when the command opened it, and reports what is lost."""
    (data / "journal.db").unlink()
    await copy_history(
        load_settings(None, {"data": data}),
        source=DUCKDB,
        target=str(data.parent / "copy.duckdb"),
        on_total=lambda readings: None,
        on_progress=lambda readings: None,
    )
    async with opened_hub(data) as services:
        assert await stored(services) == [1.0, 2.0]
        assert services.journal.losses.incidents


async def test_a_journal_of_a_version_that_recorded_no_hub_is_claimed(data: Path) -> None:
    """It is the one that the registry and the store know. From then on it is not taken for that of another hub."""
    async with opened_hub(data) as services:
        hub = services.registry.id
        await services.journal.ownership.claim("", services.journal.last_offset)
    async with opened_hub(data) as services:
        assert services.journal.losses.incidents == []
    async with open_journal(load_settings(None, {"data": data})) as journal:
        assert journal.ownership.hub == hub


@pytest.mark.parametrize("name", ["registry.db", "journal.db.lock"])
async def test_a_record_of_another_journal_is_reported_once(data: Path, name: str) -> None:
    """The hub runs, with its own journal, and says which of its files was replaced."""
    shutil.copy(data.parent / "other" / name, data / name)
    assert any(name in finding.what for finding in damages(data))
    async with opened_hub(data) as services:
        assert any(name in incident.text for incident in services.journal.losses.incidents)
    async with opened_hub(data) as services:
        assert services.journal.losses.incidents == []
