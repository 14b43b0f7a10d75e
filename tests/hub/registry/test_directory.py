"""The registry for sources of batches, on a real registry and a real journal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub.journal.journal import Journal
from hub.live.hub import LiveHub
from hub.model.batch import Series
from hub.model.identity import Identity, Role
from hub.registry.directory import ConnectionDirectory, DeviceDirectory
from hub.registry.registry import Registry
from tests.hub.journal.disks import Disk
from wire import device as messages
from wire.errors import Code, WireError
from wire.model import Metric


@asynccontextmanager
async def opened(path: Path, *, vfs: str | None = None) -> AsyncIterator[DeviceDirectory]:
    async with (
        Registry(path / "registry.db", clock=lambda: 5) as registry,
        Journal(path / "journal.db", keep_bytes=1 << 28, keep_seconds=60, max_bytes=1 << 30, vfs=vfs) as journal,
    ):
        yield DeviceDirectory(registry, journal, LiveHub(offset=0), clock=lambda: 7)


def connection(directory: DeviceDirectory, identity: Identity | None) -> tuple[ConnectionDirectory, list[Identity]]:
    """Return the directory of a connection whose headers have this identity, and the identities that it reports."""
    reported: list[Identity] = []

    async def identify(token: str | None) -> Identity | None:
        assert token == "secret"
        return identity

    shared = (directory.registry, directory.journal, directory.live, directory.clock)
    return ConnectionDirectory(*shared, identify, reported.append), reported


def hello(device: str) -> messages.Hello:
    return messages.Hello(device=device, epoch="0" * 16, next_seq=1, durable=True, time=0, token="secret")


async def test_declared_series_are_known_to_the_journal_and_to_live(tmp_path: Path) -> None:
    """The journal has the highest id before the first reading, so that a restored registry assigns no id twice."""
    async with opened(tmp_path) as directory:
        known = await directory.declare("pump", [Metric("flow"), Metric("state", "string")])
        series = [known[name] for name in ("flow", "state")]
        assert all(isinstance(one, Series) for one in series)
        assert directory.journal.series_ids.highest == max(one.id for one in series if isinstance(one, Series))
        again = await directory.declare("pump", [Metric("flow")])
        assert [again[name] for name in ("flow", "state")] == series


async def test_a_conflicting_type_is_an_error_beside_the_other_metrics(tmp_path: Path) -> None:
    """The first type stays, and the other metrics of the message are declared."""
    async with opened(tmp_path) as directory:
        await directory.declare("pump", [Metric("flow")])
        known = await directory.declare("pump", [Metric("flow", "string"), Metric("level")])
        assert isinstance(known["level"], Series)
        assert isinstance(known["flow"], WireError)
        assert known["flow"].code is Code.TYPE_CONFLICT


@pytest.mark.parametrize(("is_full", "code"), [(True, Code.STORAGE_FULL), (False, Code.STORAGE_FAILED)])
async def test_a_disk_without_the_highest_id_fails_the_declaration(tmp_path: Path, is_full: bool, code: Code) -> None:
    """The agent sends no reading of a series whose id is not durable; with room again the declaration succeeds."""
    disk = Disk()
    async with opened(tmp_path, vfs=disk.name) as directory:
        disk.is_full, disk.fails = is_full, not is_full
        with pytest.raises(WireError) as error:
            await directory.declare("pump", [Metric("flow")])
        assert error.value.code is code
        assert directory.journal.series_ids.highest == 0
        disk.is_full = disk.fails = False
        if is_full:
            await directory.declare("pump", [Metric("flow")])
            assert directory.journal.series_ids.highest > 0


async def test_events_and_descriptions_belong_to_the_device(tmp_path: Path) -> None:
    """An event has the time of the hub's clock."""
    async with opened(tmp_path) as directory:
        await directory.declare("pump", [Metric("flow")])
        directory.record("pump", "gap", "the spool was full")
        directory.describe("pump", tags={"site": "plant"}, agent="agent/1")
        (event,) = await directory.registry.events("pump")
        assert (event.device, event.time_ns, event.kind, event.detail) == ("pump", 7, "gap", "the spool was full")
        known = directory.registry.devices["pump"]
        assert (known.tags, known.agent) == ({"site": "plant"}, "agent/1")


@pytest.mark.parametrize(
    ("identity", "code", "message"),
    [
        (None, Code.NOT_AUTHENTICATED, "hub token create"),
        (Identity("t", Role.VIEWER), Code.NOT_ALLOWED, "role viewer"),
        (Identity("t", Role.DEVICE, "boiler"), Code.NOT_ALLOWED, "is for 'boiler'"),
        (Identity("t", Role.GATEWAY, "boiler-*"), Code.NOT_ALLOWED, "is for 'boiler-*'"),
    ],
)
async def test_a_credential_without_the_right_is_rejected(
    tmp_path: Path, identity: Identity | None, code: Code, message: str
) -> None:
    """The error says whether the token is unknown or what it is for; the credential is not reported."""
    async with opened(tmp_path) as directory:
        of_connection, reported = connection(directory, identity)
        with pytest.raises(WireError, match=message.replace("*", r"\*")) as error:
            await of_connection.allow(hello("pump"))
        assert (error.value.code, reported) == (code, [])


async def test_an_allowed_credential_is_reported(tmp_path: Path) -> None:
    """The connection can then be closed when the credential is revoked."""
    async with opened(tmp_path) as directory:
        for identity in (Identity("t", Role.DEVICE, "pump"), Identity("u", Role.GATEWAY, "p*")):
            of_connection, reported = connection(directory, identity)
            await of_connection.allow(hello("pump"))
            assert reported == [identity]
