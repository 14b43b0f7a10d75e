"""The agent as a library, against a peer with real sockets."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from device_agent import (
    Agent,
    AgentError,
    ConnectionState,
    Count,
    MemorySpool,
    Metric,
    ReadingError,
    SqliteSpool,
    Surroundings,
    UplinkStopped,
)
from device_agent.agent import MAX_BATCHINGS
from device_agent.spool.contract import ROW_BYTES
from device_agent.spool_writer import Batching
from tests.device_agent.batches import batch_of
from tests.device_agent.peer import Peer, agent_of
from tests.device_agent.records import agent_records
from wire.device import Data, Gap, RefusedColumn, Reject
from wire.errors import Code


async def test_a_reading_arrives_with_its_definition(peer: Peer, tmp_path: Path) -> None:
    """A metric is declared before its first reading, and the readings are in the hub's journal when drain() returns."""
    clock = Surroundings(time_ns=lambda: 1_700_000_000_000_000_007)
    async with agent_of(
        peer,
        token="secret",
        spool=tmp_path / "boiler.spool",
        metrics=[Metric("temperature", unit="°C")],
        tags={"site": "cellar"},
        surroundings=clock,
    ) as agent:
        assert await agent.send({"temperature": 21}) == 1
        assert await agent.send({"on": True, "temperature": None}, 5, historical=True) == 2
        await agent.drain(10)
        assert agent.counts == (Count(2, 2), Count(2, 2), Count(), Count(), 0, 2, 1)
        assert agent.state is ConnectionState.ONLINE
    assert peer.headers[0]["Authorization"] == "Bearer secret"
    hello = peer.hellos[0]
    assert (hello.device, hello.durable, hello.tags, hello.time) == (
        "boiler-1", True, {"site": "cellar"}, 1_700_000_000_000_000_007,
    )  # fmt: skip
    assert peer.metrics == {"temperature": Metric("temperature", unit="°C"), "on": Metric("on", "boolean")}
    assert [entry.message for entry in peer.journal] == [
        Data(1, [1_700_000_000_000_000_007], {"temperature": [21.0]}),
        Data(2, [5], {"on": [True]}, historical=True),
    ]


async def test_without_a_hub_readings_wait_in_the_spool(tmp_path: Path) -> None:
    """Readings sent without a hub arrive in the next run, and closing the agent does not wait for a hub."""
    async with Peer() as peer:
        pass
    async with agent_of(peer, spool=tmp_path / "boiler.spool", drain_seconds=3600) as agent:
        for number in range(5):
            await agent.send({"n": number})
        assert agent.counts.waiting == 5
    async with peer, agent_of(peer, spool=tmp_path / "boiler.spool") as agent:
        await agent.send({"n": 5})
        await agent.drain()
        assert agent.counts.acknowledged == Count(6, 6)
        assert agent.counts.sent == Count(1, 1)
    assert peer.values("n") == [0, 1, 2, 3, 4, 5]
    peer.check_order()


async def test_many_rows_are_one_batch(peer: Peer) -> None:
    """Rows and columns travel as one batch each, None where there is no value."""
    async with agent_of(peer) as agent:
        await agent.send_rows([(1, {"a": 1}), (2, {"b": "x"}), (3, {"a": 3, "b": None})])
        await agent.send_columns([4, 5], {"a": [None, 5], "c": [None, None]})
        await agent.drain(10)
        assert agent.counts.sent == Count(2, 4)
    assert [entry.message for entry in peer.journal] == [
        Data(1, [1, 2, 3], {"a": [1.0, None, 3.0], "b": [None, "x", None]}),
        Data(2, [4, 5], {"a": [None, 5.0]}),
    ]


async def test_very_many_rows_are_several_batches(peer: Peer) -> None:
    """Rows that exceed a batch are split and arrive completely and in order."""
    async with agent_of(peer) as agent:
        assert await agent.send_columns(range(25_000), {"n": range(25_000)}) == 4
        await agent.drain(30)
    assert peer.values("n") == list(range(25_000))
    peer.check_order()


async def test_collected_rows_share_a_batch(peer: Peer) -> None:
    """collect() gathers rows; flush() puts them into the spool; history stays apart; send() keeps the order."""
    async with agent_of(peer, flush_ms=3_600_000) as agent:
        for number in range(3):
            await agent.collect({"n": number}, number)
        await agent.collect({"n": 3}, 3, historical=True)
        assert agent.counts.sent.batches == 0
        await agent.flush()
        assert agent.counts.sent == Count(2, 4)
        await agent.collect({"n": 4}, 4)
        await agent.send({"n": 5}, 5)
        await agent.collect({"n": 6}, 6)
        await agent.drain(10)
    assert [entry.message for entry in peer.journal] == [
        Data(1, [0, 1, 2], {"n": [0.0, 1.0, 2.0]}),
        Data(2, [3], {"n": [3.0]}, historical=True),
        Data(3, [4], {"n": [4.0]}),
        Data(4, [5], {"n": [5.0]}),
        Data(5, [6], {"n": [6.0]}),
    ]


async def test_collected_rows_leave_by_themselves(peer: Peer) -> None:
    """After flush_ms, or with as many rows as fit, what was collected is sent; leaving sends the rest."""
    async with agent_of(peer, flush_ms=1) as agent:
        await agent.collect({"n": 0}, 0)
        await peer.until(lambda: peer.values("n") == [0])
    async with agent_of(peer, flush_ms=3_600_000) as agent:
        for number in range(1, 2500):
            await agent.collect({"n": number}, number)
        assert agent.counts.sent.batches == 2
    assert peer.values("n") == list(range(2500))


async def test_a_bad_reading_changes_nothing(peer: Peer) -> None:
    """A ReadingError comes before the spool, from every way in."""
    async with agent_of(peer) as agent:
        for call in (
            agent.send({"n": float("nan")}),
            agent.send({"n": 1}, -1),
            agent.send({}),
            agent.send_rows([(1, {"n": 1}), (2, {"n": "one"})]),
            agent.send_rows([]),
            agent.send_columns([1], {"n": [1, 2]}),
            agent.collect({"n": "\ud800"}),
        ):
            with pytest.raises(ReadingError):
                await call
        assert (agent.spool.next_seq, agent.counts.sent) == (1, Count())


@pytest.mark.parametrize(
    "options",
    [{"device": "böiler"}, {"device": ""}, {"device": "x" * 65}, {"tags": {"": "x"}}, {"url": "boiler"}],
)
def test_bad_arguments_are_reported_at_once(options: dict[str, Any]) -> None:
    """Arguments that can never work raise an AgentError in the constructor."""
    with pytest.raises(AgentError):
        Agent(**{"url": "ws://127.0.0.1:1", "device": "boiler-1", **options})


async def test_a_type_from_an_earlier_run_holds_until_a_run_declares_another(tmp_path: Path) -> None:
    """A value of another type is refused, and the error says what to do. Batches that wait stay as they are."""
    spool = tmp_path / "boiler.spool"
    async with Peer() as peer:
        pass
    async with agent_of(peer, spool=spool, format="json") as agent:
        await agent.send_columns(range(10), {"n": ["n/a"] * 10})
        with pytest.raises(ReadingError, match="was string before"):
            agent.declare([Metric("n", "float")])
    async with agent_of(peer, spool=spool) as agent:
        with pytest.raises(
            ReadingError, match=r'open the agent with metrics=\[Metric\("n", "float"\)\]; .*hub metric ret'
        ):
            await agent.send({"n": 20.5})
    async with Peer() as peer, agent_of(peer, spool=spool, metrics=[Metric("n")], format="msgpack") as agent:
        assert agent.metric_type("n") == "float"
        await agent.send({"n": 20.5})
        await agent.drain(10)
        assert peer.values("n") == ["n/a"] * 10 + [20.5]
    async with SqliteSpool(spool, device="boiler-1") as kept:
        assert (kept.waiting, kept.metrics["n"].type) == (0, "float")
    async with agent_of(peer, spool=spool, metrics=[Metric("n", "integer")]) as agent:
        assert agent.metric_type("n") == "float"


async def test_an_agent_is_used_inside_its_context(peer: Peer) -> None:
    """Before it is entered and after it is left nothing is taken."""
    agent = agent_of(peer)
    for _ in range(2):
        with pytest.raises(AgentError, match="not open"):
            await agent.send({"n": 1})
        if agent.state is not ConnectionState.STOPPED:
            async with agent:
                pass


async def test_a_batch_that_the_hub_rejects_is_reported(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """A rejected batch is counted, passed to the callback, logged once for its reason, and not sent again."""
    caplog.set_level(logging.WARNING, logger="device_agent")
    rejected: list[Reject] = []
    peer.rejects = lambda data: Code.TYPE_CONFLICT if data.values["n"] == [13.0] else None
    async with agent_of(peer, on_reject=rejected.append) as agent:
        for number in (12, 13, 13, 14):
            await agent.send({"n": number})
        await agent.drain(10)
        assert agent.counts.rejected == Count(2, 2)
        assert agent.counts.acknowledged == Count(4, 4)
    assert [(reject.seq, reject.code) for reject in rejected] == [(2, Code.TYPE_CONFLICT), (3, Code.TYPE_CONFLICT)]
    assert [record.getMessage() for record in agent_records(caplog)] == [
        "the hub put batch 2 in quarantine: not wanted (type_conflict)"
    ]


async def test_the_values_that_the_hub_refuses_are_reported(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """With the metric, the rows and the reason; the batch is acknowledged, and its other readings are no loss."""
    caplog.set_level(logging.WARNING, logger="device_agent")
    columns = [
        RefusedColumn("n", Code.WRONG_TYPE, 1, [[0, 0]]),
        RefusedColumn("m\x1b", Code.UNKNOWN_METRIC, 1, [[0, 0]]),
    ]
    reject = Reject(1, Code.WRONG_TYPE, "n is declared integer but has str (row 0: x)", True, 2, columns)
    peer.rejects = lambda data: reject
    rejected: list[Reject] = []
    async with agent_of(peer, on_reject=rejected.append) as agent:
        await agent.send({"n": 1.0, "m": 2.0, "o": 3.0})
        await agent.drain(10)
        assert (agent.counts.rejected, agent.counts.acknowledged) == (Count(0, 2), Count(1, 3))
    assert rejected == [reject]
    (record,) = agent_records(caplog)
    assert record.getMessage() == (
        "the hub put 2 readings of batch 1 in quarantine: n is declared integer but has str (row 0: x) (wrong_type); "
        "also m\\x1b (unknown_metric)"
    )


async def test_acknowledgements_are_reported(peer: Peer) -> None:
    """on_ack is called with what the welcome and each acknowledgement say, never going back."""
    acked: list[int] = []
    async with agent_of(peer, on_ack=acked.append) as agent:
        for number in range(5):
            await agent.send({"n": number})
        await agent.drain(10)
    assert acked == sorted(acked)
    assert (acked[0], acked[-1]) == (0, 5)


async def test_drain_says_when_time_ran_out(peer: Peer) -> None:
    """A drain in vain is a TimeoutError that says how much waits; a later one succeeds."""
    async with agent_of(peer) as agent:
        peer.hold()
        await agent.send({"n": 1})
        with pytest.raises(TimeoutError, match="1 batch is not acknowledged"):
            await agent.drain(0.05)
        await peer.until(lambda: peer.received == 1)
        await peer.release()
        await agent.drain()
        assert agent.counts.waiting == 0


async def test_leaving_tells_what_is_left(peer: Peer, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Unacknowledged batches stay in a durable spool and are lost with one in memory; the log reports both."""
    caplog.set_level(logging.INFO, logger="device_agent.agent")
    peer.hold()
    for spool in (tmp_path / "boiler.spool", None):
        async with agent_of(peer, spool=spool, drain_seconds=0.05) as agent:
            await agent.send({"n": 1})
        assert agent.counts.waiting == 1
    assert [(record.levelname, record.getMessage()) for record in agent_records(caplog)] == [
        ("INFO", "1 batch stays in the spool until the next run"),
        ("WARNING", "1 batch was not acknowledged and lost: the spool was in memory"),
    ]


async def test_a_superseded_agent_stops(peer: Peer, tmp_path: Path) -> None:
    """The older of two agents of one device does not reconnect, raises the reason and keeps its readings."""
    spool = tmp_path / "boiler.spool"
    async with agent_of(peer, spool=spool) as older:
        await peer.until(lambda: len(peer.links) == 1)
        async with agent_of(peer) as newer:
            with pytest.raises(UplinkStopped, match="superseded") as stopped:
                await older.wait_stopped()
            assert stopped.value.code is Code.SUPERSEDED
            for call in (older.send({"n": 1}), older.collect({"n": 1}), older.drain()):
                with pytest.raises(UplinkStopped):
                    await call
            await newer.send({"n": 2})
            await newer.drain(10)
        assert older.state is ConnectionState.STOPPED
    assert peer.values("n") == [2]


async def test_the_error_that_stopped_the_uplink_is_raised_at_the_end(peer: Peer) -> None:
    """Leaving the context raises the error of an uplink that stopped earlier."""
    older = agent_of(peer)
    await older.__aenter__()
    await peer.until(lambda: len(peer.links) == 1)
    async with agent_of(peer):
        while older.state is not ConnectionState.STOPPED:
            await older._uplink.wait_change()
    with pytest.raises(UplinkStopped):
        await older.__aexit__(None)


async def test_a_full_spool_drops_batches_and_reports_them(tmp_path: Path) -> None:
    """Batches that did not fit while the hub was unavailable become a gap at the hub, before the next batches."""
    row = batch_of(1.0).size + ROW_BYTES
    async with Peer() as peer:
        pass
    spool = SqliteSpool(tmp_path / "boiler.spool", device="boiler-1", max_bytes=3 * row)
    async with agent_of(peer, spool=spool, metrics=[Metric("n")]) as agent:
        for number in range(10):
            await agent.send({"n": number}, 1)
        assert agent.counts.lost == Count(7, 7)
    async with peer, agent_of(peer, spool=SqliteSpool(tmp_path / "boiler.spool", device="boiler-1")) as agent:
        await agent.drain(10)
    assert [entry.message for entry in peer.journal] == [
        Gap(1, 7, "the spool was full"),
        *(Data(seq, [1], {"n": [seq - 1.0]}) for seq in (8, 9, 10)),
    ]


async def test_a_full_spool_can_be_waited_for(peer: Peer) -> None:
    """With when_full="wait" nothing is dropped: a send waits for an acknowledgement to make room."""
    row = batch_of(1.0).size + ROW_BYTES
    peer.hold()
    async with agent_of(peer, spool=MemorySpool(max_bytes=3 * row), when_full="wait") as agent:
        for number in range(3):
            await agent.send({"n": number}, 1)
        waiting = asyncio.create_task(agent.send({"n": 3}, 1))
        await peer.until(lambda: peer.received == 3)
        assert not waiting.done()
        await peer.release()
        assert await waiting == 4
        await agent.drain(10)
        assert agent.counts.lost == Count()
    assert peer.values("n") == [0, 1, 2, 3]


async def test_waiting_for_room_ends_when_the_agent_does(peer: Peer) -> None:
    """A send that waits for room does not keep the agent from being closed; its reading was not taken."""
    row = batch_of(1.0).size + ROW_BYTES
    peer.hold()
    async with agent_of(peer, spool=MemorySpool(max_bytes=row), when_full="wait", drain_seconds=0) as agent:
        await agent.send({"n": 0}, 1)
        waiting = asyncio.create_task(agent.send({"n": 1}, 1))
        await peer.until(lambda: peer.received == 1)
    with pytest.raises(AgentError, match="the spool is full"):
        await waiting


async def test_a_declaration_can_come_later_and_change(peer: Peer) -> None:
    """declare() takes effect with the next batch, a changed unit as well."""
    async with agent_of(peer) as agent:
        await peer.until(lambda: len(peer.links) == 1)
        await agent.send({"n": 1})
        await agent.drain(10)
        agent.declare([Metric("n", unit="kg"), Metric("on", "boolean", description="a switch")])
        await agent.send({"n": 2})
        await agent.drain(10)
    assert peer.metrics == {"n": Metric("n", unit="kg"), "on": Metric("on", "boolean", description="a switch")}


async def test_batches_have_few_different_bounds(peer: Peer) -> None:
    """Each has a task and rows in memory; leaving stores the rows of all of them."""
    async with Agent(peer.url, device="boiler") as agent:
        for number in range(MAX_BATCHINGS):
            await agent.collect({"n": number}, batching=Batching(3_600_000, number + 2))
        with pytest.raises(AgentError, match="different bounds"):
            await agent.collect({"n": 1}, batching=Batching(1, 1))
    assert sorted(map(str, peer.values("n"))) == sorted(str(float(number)) for number in range(MAX_BATCHINGS))
