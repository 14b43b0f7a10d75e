"""The uplink: the spool as the outbox of the client, over one connection after another."""

from __future__ import annotations

import asyncio
import logging
import shutil
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from agent_client.session import DECLARE_BYTES
from device_agent import Agent, ConnectionState, Count, MemorySpool, Metric, SqliteSpool, Surroundings, Value
from device_agent.batch import ReadingColumns, encode_batch
from device_agent.spool.contract import NOT_KEPT_REASON
from device_agent.spool.status import read_status
from device_agent.uplink import Tally
from tests.conditions import until
from tests.device_agent.peer import QUICK, Peer, agent_of
from tests.device_agent.records import agent_records
from wire import device
from wire.codec import Format
from wire.errors import Code
from wire.limits import MAX_DESCRIPTION, MAX_METRICS


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in agent_records(caplog, logging.WARNING)]


async def test_a_window_of_batches_is_under_way(tmp_path: Path) -> None:
    """The agent sends as many batches as the welcome allows without waiting, and no more."""
    async with Peer(window=4) as peer, agent_of(peer) as agent:
        peer.hold()
        for number in range(10):
            await agent.send({"n": number})
        await peer.until(lambda: peer.received == 4)
        assert agent.counts.transmissions == 4
        await peer.release()
        await agent.drain(10)
        assert peer.values("n") == list(range(10))


async def test_an_agent_without_a_token_says_so(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """A hub's refusal alone reads as if the token were wrong."""
    peer.refusal = HTTPStatus.UNAUTHORIZED, {}
    async with agent_of(peer):
        await until(lambda: warnings_in(caplog))
    assert "(this agent has no token: pass token= to Agent); readings stay in the spool" in warnings_in(caplog)[0]


async def test_a_broken_connection_costs_nothing(peer: Peer) -> None:
    """After a break the agent resumes behind what the hub has; what was under way is not stored twice."""
    async with agent_of(peer) as agent:
        await agent.send({"n": 0})
        await agent.drain(10)
        peer.hold()
        for number in range(1, 6):
            await agent.send({"n": number})
        await peer.until(lambda: peer.received == 6)
        await peer.drop()
        await peer.until(lambda: len(peer.hellos) == 2 and peer.duplicates == 5)
        await peer.release()
        await agent.drain(10)
        assert agent.counts.acknowledged == Count(6, 6)
        assert agent.counts.connections == 2
    assert peer.values("n") == list(range(6))
    peer.check_order()


async def test_batches_that_were_not_durable_are_sent_again(peer: Peer) -> None:
    """A hub that crashes keeps only acknowledged batches; the spool sends the rest again."""
    async with agent_of(peer) as agent:
        peer.hold()
        for number in range(5):
            await agent.send({"n": number})
        await peer.until(lambda: peer.received == 5)
        await peer.crash()
        await peer.release()
        await agent.drain(10)
    assert peer.values("n") == list(range(5))
    peer.check_order()


async def test_a_batch_that_the_hub_cannot_read_is_declared_lost(peer: Peer, tmp_path: Path) -> None:
    """A batch that ends every connection becomes a gap, its bytes are kept, and all others arrive."""
    peer.is_unreadable = lambda data: data.values == {"n": [3]}
    path = tmp_path / "boiler.spool"
    async with agent_of(peer, spool=path) as agent:
        for number in range(8):
            await agent.send({"n": number})
        await agent.drain(30)
    assert peer.values("n") == [0, 1, 2, 4, 5, 6, 7]
    gaps = [entry.message for entry in peer.journal if isinstance(entry.message, device.Gap)]
    assert [(gap.from_seq, gap.to) for gap in gaps] == [(4, 4)]
    assert "bad_message" in gaps[0].reason
    assert read_status(path).set_aside == 1
    assert peer.upgrades < 12


@pytest.mark.parametrize("kept", [True, False])
async def test_a_hub_that_lost_acknowledged_batches_gets_them_again(peer: Peer, tmp_path: Path, kept: bool) -> None:
    """A durable spool sends what a hub acknowledged and lost; a spool in memory declares it lost."""
    spool = SqliteSpool(tmp_path / "boiler.spool", device="boiler-1") if kept else MemorySpool()
    async with agent_of(peer, spool=spool) as agent:
        for number in range(6):
            await agent.send({"n": number})
        await agent.drain(10)
        mark = peer.marks["boiler-1", spool.epoch]
        mark.acked = mark.received = 2
        peer.journal = peer.journal[:2]
        await peer.drop()
        await agent.send({"n": 6})
        await agent.drain(10)
    expected = [0, 1, 2, 3, 4, 5, 6] if kept else [0, 1, 6]
    assert peer.values("n") == expected
    gaps = [entry.message for entry in peer.journal if isinstance(entry.message, device.Gap)]
    assert gaps == ([] if kept else [device.Gap(3, 6, NOT_KEPT_REASON)])


async def test_a_restart_of_the_hub_is_waited_for(peer: Peer) -> None:
    """While the hub is away readings are taken, and when it is back they arrive."""
    async with agent_of(peer) as agent:
        await agent.send({"n": 0})
        await agent.drain(10)
        await peer.stop()
        await agent.send({"n": 1})
        while agent.state is not ConnectionState.WAITING:
            await agent._uplink.wait_change()
        await peer.start()
        await agent.drain(10)
    assert peer.values("n") == [0, 1]


@pytest.mark.parametrize("knows_last", [False, True])
@pytest.mark.parametrize("runs_offline", [0, 1, 2])
async def test_a_restored_spool_repeats_no_number(
    peer: Peer, tmp_path: Path, runs_offline: int, knows_last: bool
) -> None:
    """The file beside the spool knows its last number, and new batches continue after it.

    Without that file, a hub that holds more than the spool had written says so, whatever was appended since: the agent
    begins a new epoch, and sends what the hub may have once more.
    """
    spool, copy = tmp_path / "boiler.spool", tmp_path / "copy"
    async with Peer() as away:
        pass
    async with agent_of(away, spool=spool) as agent:
        await agent.send({"n": 0})
    shutil.copy(spool, copy)
    async with agent_of(peer, spool=spool) as agent:
        await agent.send({"n": 1})
        await agent.drain(10)
    shutil.copy(copy, spool)
    if not knows_last:
        spool.with_name(f"{spool.name}.state").unlink()
    for _ in range(runs_offline):
        async with agent_of(away, spool=spool) as agent:
            await agent.send({"n": 2})
            await agent.send({"n": 2})
    async with agent_of(peer, spool=spool) as agent:
        await agent.send({"n": 3})
        await agent.drain(10)
        await agent.send({"n": 4})
        await agent.drain(10)
        assert agent.counts.acknowledged.batches == (2 if knows_last else 3) + 2 * runs_offline
    assert len({hello.epoch for hello in peer.hellos}) == (1 if knows_last else 2)
    again = [] if knows_last else [0]
    assert peer.values("n") == [0, 1, *again, *([2] * 2 * runs_offline), 3, 4]


async def test_a_welcome_beyond_the_spool_begins_a_new_epoch(peer: Peer) -> None:
    """The agent's own machine notices the same when a hub does not."""
    spool = MemorySpool()
    peer.greeting = device.Welcome("peer", 7, 64, 1 << 18, 0, 1)
    async with agent_of(peer, spool=spool) as agent:
        await agent.send({"n": 1})
        await peer.until(lambda: len(peer.hellos) >= 2)
        peer.greeting = None
        await agent.drain(10)
    assert len({hello.epoch for hello in peer.hellos}) >= 2
    assert peer.values("n") == [1]


async def test_a_hub_that_forgot_is_reported_of_the_gap(peer: Peer) -> None:
    """Acknowledged batches that the spool has deleted are declared as a gap to a hub that does not have them."""
    async with agent_of(peer) as agent:
        for number in range(3):
            await agent.send({"n": number})
        await agent.drain(10)
        peer.journal.clear()
        peer.marks.clear()
        await peer.drop()
        await agent.send({"n": 3})
        await agent.drain(10)
    assert next(entry.message for entry in peer.journal) == device.Gap(1, 3, NOT_KEPT_REASON)
    assert peer.values("n") == [3]
    peer.check_order()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            HTTPStatus.UNAUTHORIZED,
            "the hub does not know this token, or a proxy",
        ),
        (
            HTTPStatus.FORBIDDEN,
            "a server forbids the connection: this token may not write as this device",
        ),
        (HTTPStatus.NOT_FOUND, "there is no hub at this address: check the host, the port and the path of the URL"),
        (HTTPStatus.SERVICE_UNAVAILABLE, "the hub is busy or starts, or the proxy does not reach it"),
        (HTTPStatus.IM_A_TEAPOT, "the hub refused the connection, or this is not a hub"),
    ],
)
async def test_a_refusal_is_logged_once_and_outlived(
    peer: Peer, caplog: pytest.LogCaptureFixture, status: HTTPStatus, said: str
) -> None:
    """However often an upgrade is refused, one line says why; when it is granted, what waits is sent."""
    peer.refusal = status, {}
    async with agent_of(peer) as agent:
        await agent.send({"n": 1})
        await peer.until(lambda: peer.upgrades >= 4)
        peer.refusal = None
        await agent.drain(10)
    (line,) = warnings_in(caplog)
    assert line.startswith(said)
    assert f"(HTTP {status.value} from Python" in line
    assert peer.values("n") == [1]


async def test_a_new_trouble_is_reported(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """A different reason within an episode is another line."""
    async with agent_of(peer) as agent:
        for status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            peer.refusal = status, {}
            upgrades = peer.upgrades
            await peer.until(lambda upgrades=upgrades: peer.upgrades >= upgrades + 3)  # type: ignore[misc]
        assert agent.state in (ConnectionState.WAITING, ConnectionState.CONNECTING)
    assert ["401" in line for line in warnings_in(caplog)] == [True, False]


async def test_the_retry_time_of_the_hub_is_respected(peer: Peer) -> None:
    """Retry-After of a refusal and retry_ms of an error are waited for, whatever the backoff says."""
    peer.refusal = HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "3600"}
    async with agent_of(peer):
        await peer.until(lambda: peer.upgrades == 1)
    peer.refusal = None
    peer.greeting = device.Error(Code.BUSY, "too many at once", retry_ms=3_600_000)
    async with agent_of(peer) as agent:
        while agent.state is not ConnectionState.WAITING:
            await agent._uplink.wait_change()
        assert (len(peer.hellos), peer.upgrades) == (1, 2)
        peer.greeting = None
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.until(lambda: len(peer.hellos) > 1), 0.3)


@pytest.mark.parametrize("code", [Code.BUSY, Code.STORAGE_FULL, Code.REVOKED, Code.NOT_ALLOWED, Code.BAD_MESSAGE])
async def test_an_error_is_outlived(peer: Peer, caplog: pytest.LogCaptureFixture, code: Code) -> None:
    """An error that ends the session is logged with its message, and the agent reconnects."""
    peer.greeting = device.Error(code, "not now")
    async with agent_of(peer) as agent:
        await agent.send({"n": 1})
        await peer.until(lambda: len(peer.hellos) >= 3)
        peer.greeting = None
        await agent.drain(10)
    assert [line.partition(";")[0] for line in warnings_in(caplog)] == [f"not now ({code})"]


async def test_a_probe_is_answered_at_once(peer: Peer) -> None:
    """The answer to a time probe has the hub's time as it came and the device's as it is."""
    async with agent_of(peer, surroundings=Surroundings(time_ns=lambda: 42)):
        await peer.until(lambda: "boiler-1" in peer.links)
        await peer.send("boiler-1", device.TimeProbe(7))
        await peer.until(lambda: bool(peer.time_replies))
    assert peer.time_replies == [device.TimeReply(7, 42)]


@pytest.mark.parametrize(
    "nonsense", [device.Ack(99), device.Welcome("again", 0, 1, 1, 0, 1), device.Reject(5, Code.EMPTY, "")]
)
async def test_a_hub_that_breaks_the_rules_is_left(peer: Peer, nonsense: device.HubMessage) -> None:
    """A message that a correct hub never sends ends the connection, and the next connection works."""
    async with agent_of(peer) as agent:
        await peer.until(lambda: "boiler-1" in peer.links)
        await peer.send("boiler-1", nonsense)
        await peer.until(lambda: len(peer.hellos) == 2)
        await agent.send({"n": 1})
        await agent.drain(10)


async def test_a_server_that_is_no_hub_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """A server without the subprotocol, or with any other answer, is logged and tried again."""
    connections = 0

    async def echo(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Agent(f"ws://127.0.0.1:{port}", device="boiler-1", surroundings=QUICK) as agent:
            while connections < 3:
                await agent._uplink.wait_change()
    (line,) = warnings_in(caplog)
    assert "does not speak the device protocol; readings stay" in line


@pytest.mark.parametrize(("written", "sent"), [("json", "msgpack"), ("msgpack", "json"), ("json", "json")])
async def test_the_format_can_change_between_runs(tmp_path: Path, written: Format, sent: Format) -> None:
    """Batches that wait in one format are sent in the other when the option was changed."""
    spool = tmp_path / "boiler.spool"
    async with Peer() as peer:
        pass
    rows: list[tuple[int, dict[str, Value]]] = [
        (number, {"n": number, "on": True, "text": "µ"}) for number in range(20)
    ]
    async with agent_of(peer, spool=spool, format=written) as agent:
        await agent.send_rows(rows)
        await agent.send({"n": 20}, 20)
    async with peer, agent_of(peer, spool=spool, format=sent) as agent:
        await agent.drain(10)
        assert peer.links["boiler-1"].format == sent
    assert peer.values("n") == list(range(21))
    assert peer.values("text") == ["µ"] * 20


async def test_a_batch_that_is_too_large_for_a_hub_is_split(tmp_path: Path) -> None:
    """A batch that waits is split when the hub takes less than it was made for; later ones are made smaller."""
    spool = tmp_path / "boiler.spool"
    async with Peer() as peer:
        pass
    async with agent_of(peer, spool=spool) as agent:
        await agent.send({"n": -1})
        await agent.send_columns(range(2000), {"n": range(2000)})
        await agent.send({"n": 2000})
    async with Peer(max_batch_bytes=4096) as peer, agent_of(peer, spool=spool) as agent:
        await agent.drain(10)
        assert peer.values("n") == list(range(-1, 2001))
        await agent.send_columns(range(1000), {"m": range(1000)})
        await agent.send({"a": "x" * 3000, "b": "y" * 3000})
        await agent.drain(10)
        assert (peer.values("m"), peer.values("b")) == (list(range(1000)), ["y" * 3000])
    peer.check_order()


async def test_a_value_that_no_frame_can_hold_is_declared_lost(caplog: pytest.LogCaptureFixture) -> None:
    """A single value larger than the hub's frames cannot block what comes after it, and is not lost silently."""
    spool = MemorySpool()
    async with Peer() as peer:
        pass
    async with agent_of(peer, spool=spool, drain_seconds=0) as agent:
        await agent.send({"text": "x" * 2000})
    async with Peer(max_batch_bytes=1024) as peer, agent_of(peer, spool=spool) as agent:
        await agent.send({"n": 1})
        await agent.drain(10)
    assert peer.journal[0].message == device.Gap(1, 1, "larger than the 1024 bytes that the hub accepts")
    assert peer.values("n") == [1]
    assert any("1 reading is lost: larger" in line for line in warnings_in(caplog))


async def test_very_many_definitions_take_several_messages(peer: Peer) -> None:
    """Definitions that no single message could hold are all declared before the first batch that needs them."""
    metrics = [Metric(f"metric {number}", description="µ" * MAX_DESCRIPTION) for number in range(MAX_METRICS)]
    spool = MemorySpool()
    async with spool:
        row = ReadingColumns([1], {metric.name: [1.0] for metric in metrics})
        await spool.append(encode_batch(row, {metric.name: metric for metric in metrics}, "msgpack"), metrics)
    async with agent_of(peer, spool=spool) as agent:
        await agent.drain(10)
    assert list(peer.metrics.values()) == metrics
    assert 0 < len(peer.hellos[0].metrics) < MAX_METRICS
    assert sum(len(metric.description.encode()) for metric in peer.hellos[0].metrics) < DECLARE_BYTES


async def test_the_backoff_begins_anew_after_progress(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """An acknowledgement makes the next reconnect a first attempt; a connection without one makes it a later one."""
    caplog.set_level(logging.DEBUG, logger="device_agent.uplink")
    async with agent_of(peer, surroundings=Surroundings(random=lambda: 0.999, max_delay_ms=300)) as agent:
        await peer.until(lambda: len(peer.hellos) == 1)
        for progress in (True, True, False, False, True):
            if progress:
                await agent.send({"n": 1})
                await agent.drain(10)
            hellos = len(peer.hellos)
            await peer.drop()
            await peer.until(lambda hellos=hellos: len(peer.hellos) > hellos)  # type: ignore[misc]
    delays = [
        record.getMessage().rpartition(" in ")[2] for record in agent_records(caplog) if "next" in record.getMessage()
    ]
    assert delays == ["0.1 s", "0.1 s", "0.2 s", "0.3 s", "0.1 s"]


async def test_the_spool_is_trimmed_by_acknowledgements(peer: Peer, tmp_path: Path) -> None:
    """Acknowledged batches leave the spool, and a later run has nothing to send."""
    spool = tmp_path / "boiler.spool"
    async with agent_of(peer, spool=spool) as agent:
        for number in range(20):
            await agent.send({"n": number})
        await agent.drain(10)
    async with SqliteSpool(spool, device="boiler-1") as reopened:
        assert (reopened.acked, reopened.waiting, reopened.size_bytes) == (20, 0, 0)


def test_a_batch_counts_once_however_often_it_is_sent() -> None:
    """A repeated batch is a second transmission and the same acknowledgement."""
    tally = Tally()
    for seq in (1, 2, 3, 2, 3):
        tally.transmit(seq, 10 * seq)
    tally.acknowledge(2)
    assert (tally.acknowledged, tally.transmissions) == (Count(2, 30), 5)
    tally.acknowledge(2)
    tally.acknowledge(3)
    assert tally.acknowledged == Count(3, 60)


def test_a_rejected_batch_is_counted_with_its_readings() -> None:
    """The readings in quarantine are known as long as the batch is under way."""
    tally = Tally()
    tally.transmit(1, 7)
    tally.transmit(2, 8)
    reject = device.Reject(2, Code.EMPTY, "")
    tally.reject(reject)
    tally.acknowledge(2)
    tally.reject(reject)
    assert (tally.rejected, tally.acknowledged) == (Count(2, 8), Count(2, 15))


def test_the_rejected_readings_of_a_batch_are_counted_without_the_batch() -> None:
    """Its other readings are accepted, and it is acknowledged as a whole."""
    tally = Tally()
    tally.transmit(1, 7)
    tally.reject(device.Reject(1, Code.WRONG_TYPE, "", partial=True, readings=3))
    tally.acknowledge(1)
    assert (tally.rejected, tally.acknowledged) == (Count(0, 3), Count(1, 7))


def test_a_new_epoch_begins_without_anything_under_way() -> None:
    """Batches sent in the old epoch are sent again and counted then."""
    tally = Tally()
    tally.transmit(1, 5)
    tally.begin_epoch()
    tally.transmit(1, 5)
    tally.acknowledge(1)
    assert tally.acknowledged == Count(1, 5)
