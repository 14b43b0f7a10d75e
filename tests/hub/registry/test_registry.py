"""The registry as the hub uses it: credentials, devices, events, other processes, crashes, a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hub.model.batch import Series
from hub.model.identity import Identity, Role
from hub.model.metric import MetricChange
from hub.registry import registry as registries
from hub.registry.database import RegistryError, data_version, open_database
from hub.registry.keyring import USED_RESOLUTION_NS
from hub.registry.registry import Registry
from hub.registry.token import MAX_SESSIONS_OF_TOKEN, SESSION_SECONDS, open_token_file
from tests.conditions import until
from wire.errors import Code, WireError
from wire.model import Metric
from wire.timestamp import NS_PER_S

REVOKE = """
import sys
from pathlib import Path
from hub.registry.token import open_token_file
with open_token_file(Path(sys.argv[1])) as file:
    file.revoke(sys.argv[2:])
"""

DECLARE = """
import asyncio, sys
from pathlib import Path
from hub.registry.registry import Registry
from wire.model import Metric

async def main():
    async with Registry(Path(sys.argv[1])) as registry:
        number = 0
        while True:
            group = [registry.declare(f"d{number + n}", [Metric("t")]) for n in range(20)]
            for known in await asyncio.gather(*group):
                print(known["t"].device, known["t"].id, flush=True)
            number += 20

asyncio.run(main())
"""


class SetClock:
    """SetClock that shows the time that a test sets."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * NS_PER_S

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def registry(path: Path, clock: SetClock) -> AsyncIterator[Registry]:
    async with Registry(path, clock=clock) as registry:
        yield registry


@contextlib.asynccontextmanager
async def running(
    registry: Registry, connected: Callable[[], Iterable[str]] = tuple
) -> AsyncIterator[asyncio.Queue[frozenset[str]]]:
    """Run the registry's task; the queue receives the ended tokens. `connected` returns those with a connection."""
    ended: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    task = asyncio.create_task(registry.run(ended.put_nowait, connected))
    try:
        yield ended
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_hub_keeps_its_id(path: Path) -> None:
    """A reopened file has the same hub id."""
    async with Registry(path) as registry:
        id = registry.id
    async with Registry(path) as registry:
        assert registry.id == id
    assert len(bytes.fromhex(id)) == 16


async def test_the_first_admin_is_created_once(registry: Registry, path: Path) -> None:
    """The text of its token is known at creation and never again, in this run or the next."""
    assert registry.tokens() == []
    made = await registry.ensure_admin()
    assert made.text is not None
    identity = registry.verify(made.text)
    assert identity is not None
    assert identity.role is Role.ADMIN
    assert await registry.ensure_admin() == (made.token_id, None)
    async with Registry(path) as again:
        assert await again.ensure_admin() == (made.token_id, None)


async def test_a_browser_logs_in_once_and_out(registry: Registry, clock: SetClock) -> None:
    """Code, cookie, identity: valid for SESSION_SECONDS at most, until logout."""
    admin = await registry.ensure_admin()
    code = await registry.create_login_code(admin.token_id)
    login = await registry.redeem(code)
    assert login is not None
    assert login.max_age_s == SESSION_SECONDS
    first = registry.verify_session(login.value)
    assert first is not None
    assert first == Identity(admin.token_id, Role.ADMIN, session=first.session, label="created at the first start")
    assert registry.verify(login.value) is None
    assert await registry.redeem(code) is None
    other = await registry.redeem(await registry.create_login_code(admin.token_id))
    assert other is not None
    assert len(registry.sessions()) == 2
    assert first.session is not None
    assert await registry.end_session(first.session)
    assert not await registry.end_session(first.session)
    assert registry.verify_session(login.value) is None
    second = registry.verify_session(other.value)
    assert second is not None
    assert second == first._replace(session=registry.sessions()[0].id)
    clock.now_ns += SESSION_SECONDS * NS_PER_S
    assert registry.verify_session(other.value) is None
    assert registry.sessions() == []


async def test_an_ended_session_is_reported(registry: Registry) -> None:
    """At once, so that the connections of the page close; the token itself does not end."""
    admin = await registry.ensure_admin()
    await registry.redeem(await registry.create_login_code(admin.token_id))
    (session,) = registry.sessions()
    async with running(registry) as ended:
        assert await registry.end_session(session.id)
        assert await ended.get() == {session.id}


async def test_sign_ins_occupy_a_bounded_disk(registry: Registry, path: Path) -> None:
    """The sessions of a token are replaced, and the write-ahead log is written back after 4 MB."""
    viewer = await registry.create_token(Role.VIEWER)
    for _ in range(1_300):
        await registry.open_session(viewer.token.id)
    # The log keeps its size after it is written back, so the last size is the largest.
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    assert 2_000_000 < size < 4_500_000
    assert len(registry.sessions()) == MAX_SESSIONS_OF_TOKEN


async def test_sessions_outlive_the_process(path: Path) -> None:
    """A restart of the hub does not sign its pages out."""
    async with Registry(path) as registry:
        admin = await registry.ensure_admin()
        login = await registry.redeem(await registry.create_login_code(admin.token_id))
    assert login is not None
    async with Registry(path) as registry:
        identity = registry.verify_session(login.value)
        assert identity is not None
        assert (identity.token_id, identity.role) == (admin.token_id, Role.ADMIN)


async def test_a_revocation_here_has_effect_at_once(registry: Registry) -> None:
    """When `revoke` returns, the token and its sessions are rejected and its connections are reported."""
    new = await registry.create_token(Role.VIEWER)
    login = await registry.redeem(await registry.create_login_code(new.token.id))
    assert login is not None
    (session,) = registry.sessions()
    async with running(registry) as ended:
        assert await registry.revoke([new.token.id, "unknown"]) == [new.token.id]
        assert registry.verify(new.text) is None
        assert registry.verify_session(login.value) is None
        assert await ended.get() == {new.token.id, session.id}


async def test_a_revocation_by_another_process_has_effect(registry: Registry, path: Path) -> None:
    """After `hub token revoke` beside a running hub the connections are reported and the token is rejected."""
    kept, gone = await registry.create_token(Role.VIEWER), await registry.create_token(Role.VIEWER)
    async with running(registry) as ended:
        command = await asyncio.create_subprocess_exec(sys.executable, "-c", REVOKE, str(path), gone.token.id)
        assert await ended.get() == {gone.token.id}
        assert await command.wait() == 0
        assert registry.verify(gone.text) is None
        assert registry.verify(kept.text) is not None
        assert ended.empty()


async def test_a_token_of_another_process_is_valid_after_a_refresh(registry: Registry, path: Path) -> None:
    """A token can be used as soon as it is printed."""
    with open_token_file(path) as file:
        new = file.create_token(Role.VIEWER)
    assert registry.verify(new.text) is None
    await registry.refresh()
    assert registry.verify(new.text) is not None


async def test_an_expiry_ends_connections(registry: Registry, clock: SetClock) -> None:
    """An expired token is reported like a revoked one."""
    new = await registry.create_token(Role.VIEWER, expires_ns=clock.now_ns + 1)
    async with running(registry) as ended:
        assert registry.verify(new.text) is not None
        clock.now_ns += 1
        assert await ended.get() == {new.token.id}
        assert registry.verify(new.text) is None


async def test_a_cancelled_revocation_holds(registry: Registry) -> None:
    """A revocation on disk applies in memory even if the caller was cancelled."""
    new = await registry.create_token(Role.VIEWER)
    request = asyncio.create_task(registry.revoke([new.token.id]))
    await asyncio.sleep(0)
    request.cancel()
    await registry.refresh()
    assert registry.verify(new.text) is None


async def test_the_last_use_survives(path: Path, clock: SetClock) -> None:
    """It is stored on closing at the latest."""
    async with Registry(path, clock=clock) as registry:
        new = await registry.create_token(Role.VIEWER)
        registry.verify(new.text)
    with open_token_file(path) as file:
        assert file.tokens()[0].last_used_ns == clock.now_ns


async def test_an_open_connection_is_a_use_of_its_token(registry: Registry, clock: SetClock) -> None:
    """Each minute of it, also without a request. A token without a connection stays unused."""
    open, closed = await registry.create_token(Role.GATEWAY, pattern="*"), await registry.create_token(Role.VIEWER)

    def uses() -> dict[str, int | None]:
        return {token.id: token.last_used_ns for token in registry.tokens()}

    async with running(registry, lambda: [open.token.id, "revoked"]):
        for _ in range(2):
            clock.now_ns += USED_RESOLUTION_NS
            await until(lambda: uses() == {open.token.id: clock.now_ns, closed.token.id: None})


async def test_a_declaration_is_durable_when_it_returns(path: Path) -> None:
    """After kill -9 at a random moment every returned series exists with its id."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DECLARE, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(300)]
    process.send_signal(signal.SIGKILL)
    lines += (await process.stdout.read()).splitlines(keepends=True)
    await process.wait()
    declared = [line.split() for line in lines if line.endswith(b"\n")]
    async with Registry(path) as registry:
        for device, id in declared:
            series = registry.devices[device.decode()].series["t"]
            assert series.id == int(id)
            assert registry.series[series.id] is series


async def test_an_unchanged_declaration_costs_no_write(registry: Registry, path: Path) -> None:
    """Nothing is committed if all metrics are stored already."""
    metrics = [Metric("t", unit="°C"), Metric("n", "integer")]
    await registry.declare("a", metrics)
    watcher = open_database(path)
    before = data_version(watcher)
    await registry.declare("a", metrics)
    await registry.declare("a", metrics[:1])
    assert data_version(watcher) == before
    await registry.declare("a", [Metric("t", unit="K")])
    assert data_version(watcher) != before


async def test_concurrent_declarations_share_the_series(registry: Registry) -> None:
    """Two connections of one device get the same objects, also if one of them is cancelled."""
    requests = [asyncio.create_task(registry.declare("a", [Metric("t")])) for _ in range(3)]
    await asyncio.sleep(0)
    requests[1].cancel()
    first, cancelled, third = await asyncio.gather(*requests, return_exceptions=True)
    assert isinstance(first, dict)
    assert isinstance(third, dict)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert first["t"] is third["t"] is registry.series[1]


async def test_a_type_conflict_is_in_the_answer(registry: Registry) -> None:
    """Ingestion quarantines batches with this metric; the first type survives a restart."""
    await registry.declare("a", [Metric("t", "float")])
    conflict = (await registry.declare("a", [Metric("t", "string")]))["t"]
    assert isinstance(conflict, WireError)
    assert conflict.code is Code.TYPE_CONFLICT
    assert registry.series[1].type == "float"


async def test_another_declared_unit_is_an_event(registry: Registry) -> None:
    """History is shown with the new unit, so a person must be able to see when it changed, and that nobody else did."""
    for unit in ("", "°C", "°C", "°F", ""):
        await registry.declare("a", [Metric("t", unit=unit)])
    details = [event.detail for event in await registry.events("a") if event.kind == "unit changed"]
    assert [detail.partition(":")[0] for detail in reversed(details)] == [
        "t was declared with °C and is declared with °F now",
        "t was declared with °F and is declared with no unit now",
    ]
    await registry.declare("a", [Metric("t", unit="°C")])
    assert registry.declared_unit("a", "t") == "°C"
    await registry.change_metric("a", "t", MetricChange(unit="K"))
    assert (
        registry.declared_unit("a", "t") == registry.declared_unit("a", "x") == registry.declared_unit("b", "t") == ""
    )
    assert len(await registry.events("a")) == len(details)


async def test_the_fleet_survives_a_restart(path: Path) -> None:
    """Devices, tags, agents and times are restored."""
    async with Registry(path, clock=lambda: 5) as registry:
        await registry.declare("a", [Metric("t", unit="°C")])
        registry.describe("a", tags={"room": "cellar"}, agent="agent 1")
        registry.record_contact("a", 9)
    async with Registry(path) as registry:
        device = registry.devices["a"]
        assert (device.tags, device.agent) == ({"room": "cellar"}, "agent 1")
        assert (device.first_seen_ns, device.last_seen_ns) == (5, 9)
        assert isinstance(device.series["t"], Series)


async def test_an_event_is_found_at_once_and_after_a_restart(path: Path) -> None:
    """A query returns the latest event, and closing stores the rest."""
    async with Registry(path) as registry:
        registry.record_event("a", 1, "connected", "agent 1")
        assert [event.kind for event in await registry.events("a")] == ["connected"]
        registry.record_event(None, 2, "hub_stopped")
    async with Registry(path) as registry:
        assert [(event.device, event.kind) for event in await registry.events()] == [
            (None, "hub_stopped"),
            ("a", "connected"),
        ]


async def test_events_are_stored_while_the_hub_runs(registry: Registry, path: Path) -> None:
    """A killed hub loses about one second of events."""
    watcher = open_database(path)
    async with running(registry):
        registry.record_event("a", 1, "connected")
        while watcher.execute("SELECT count(*) FROM events").get == 0:  # the deadline of the test ends this
            await registry.refresh()


async def test_a_full_disk_does_not_stop_the_hub(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New devices get STORAGE_FULL; known ones, credentials and reads still work, and it is logged once."""
    # Many attempts to write while it is full, and looks between them: saying it each time would show.
    monkeypatch.setattr(registries, "FLUSH_SECONDS", 0.005)
    monkeypatch.setattr(registries, "POLL_SECONDS", 0.001)
    async with Registry(path, max_bytes=160 * 1024) as registry:
        new = await registry.create_token(Role.VIEWER)
        known = 0
        refused = None
        while refused is None:
            try:
                await registry.declare(f"d{known}", [Metric("m" * 100)])
                known += 1
            except RegistryError as error:
                refused = error
        assert refused.code is Code.STORAGE_FULL
        assert known == len(registry.devices) > 100
        await registry.declare("d0", [Metric("m" * 100)])
        with capture_logs() as logs:
            for number in range(300):
                registry.record_event("d0", number, "gap", "x" * 20)
            assert await registry.events("d0") == []
            async with running(registry) as ended:
                while not logs:  # the deadline of the test ends this
                    await registry.refresh()
                for _ in range(300):
                    await registry.refresh()
                assert registry.verify(new.text) is not None
                # Room again, made by someone else: what waited is written.
                other = open_database(path)
                other.execute("DELETE FROM series")
                other.close()
                while len(events := await registry.events("d0", limit=1_000)) == 0:
                    await registry.refresh()
                assert ended.empty()
        assert [event.time_ns for event in events] == list(range(299, 99, -1))
        assert registry.dropped_events == 0
        assert [entry["log_level"] for entry in logs] == ["error"]
        assert "disk is full" in logs[0]["error"]


async def test_a_file_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    """The hub does not start half."""
    with pytest.raises(RegistryError, match="nowhere"):
        async with Registry(tmp_path / "nowhere" / "registry.db"):
            pass


async def test_a_rotated_token_ends_after_the_overlap(registry: Registry, clock: SetClock) -> None:
    """Both tokens are valid until then. The connections of the old one end at its expiry. It never lasts longer than it
    would have, and the new one has the same lifetime. An expired token cannot be rotated."""
    old = await registry.create_token(Role.DEVICE, pattern="pump", expires_ns=clock.now_ns + 100 * NS_PER_S)
    rotated = await registry.rotate_token(old.token.id, 10 * NS_PER_S)
    assert rotated.new.token.expires_ns == clock.now_ns + 100 * NS_PER_S
    assert [registry.verify(text) is not None for text in (old.text, rotated.new.text)] == [True, True]
    clock.now_ns += 10 * NS_PER_S
    assert [registry.verify(text) is not None for text in (old.text, rotated.new.text)] == [False, True]
    async with running(registry) as ended:
        assert await ended.get() == {old.token.id}
    with pytest.raises(RegistryError, match="has expired"):
        await registry.rotate_token(old.token.id, NS_PER_S)
    again = await registry.rotate_token(rotated.new.token.id, 1_000 * NS_PER_S)
    assert again.old_expires_ns == rotated.new.token.expires_ns
