"""One connection of a device, against the rules of the hub's end on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from agent_client.client import connect
from agent_client.endpoint import Endpoint, device_url
from agent_client.session import DECLARE_BYTES, STATUS_SECONDS, ClientSession, OutboxUnavailable, must_report
from tests.agent_client.outbox import ListOutbox
from tests.device_agent.peer import Peer
from tests.tasks import running_task
from wire import device
from wire.codec import AGENT_MESSAGES, Format
from wire.errors import Code
from wire.limits import MAX_DESCRIPTION
from wire.model import Metric


@asynccontextmanager
async def session_of(peer: Peer, outbox: ListOutbox, format: Format = "msgpack") -> AsyncIterator[ClientSession]:
    connection = await connect(Endpoint(device_url(peer.url), "token", format=format), name="test")
    try:
        yield ClientSession(connection, outbox, format=format, time_ns=lambda: 5)
    finally:
        await connection.close()


async def run(session: ClientSession) -> None:
    await session.run()


@pytest.mark.parametrize("format", ["json", "msgpack"])
async def test_batches_are_sent_once_within_the_window(format: Format) -> None:
    """With nothing acknowledged the session sends a window of batches, and the rest after the acknowledgement."""
    async with Peer(window=3) as peer:
        outbox = ListOutbox(format=format)
        await outbox.add(*range(1, 8))
        async with session_of(peer, outbox, format) as session:
            assert await session.open() is None
            assert (session.state.window, outbox.welcomes) == (3, [0])
            peer.hold()
            async with running_task(run(session)):
                await peer.until(lambda: peer.received == 3)
                assert outbox.transmissions == [1, 2, 3]
                await peer.release()
                await outbox.until_acked(7)
        assert outbox.transmissions == [*range(1, 8)]
        assert peer.values("level") == [float(number) for number in range(1, 8)]


async def test_a_new_connection_continues_after_the_durable_batches() -> None:
    """The welcome says what is durable."""
    async with Peer() as peer:
        outbox = ListOutbox()
        for last in (2, 4):
            await outbox.add(last - 1, last)
            async with session_of(peer, outbox) as session:
                await session.open()
                async with running_task(run(session)):
                    await outbox.until_acked(last)
        assert outbox.welcomes == [0, 2]
        assert outbox.transmissions == [1, 2, 3, 4]


async def test_an_error_in_place_of_the_welcome_is_the_ending() -> None:
    """No batch is sent."""
    async with Peer() as peer:
        peer.greeting = device.Error(Code.STORAGE_FULL, "no room", retry_ms=700)
        outbox = ListOutbox()
        async with session_of(peer, outbox) as session:
            ending = await session.open()
        assert ending is not None
        assert (ending.error, ending.retry_ms, outbox.welcomes) == (Code.STORAGE_FULL, 700, [])


async def test_a_gap_uses_its_numbers() -> None:
    """The next batch follows after the gap."""
    async with Peer() as peer:
        outbox = ListOutbox()
        outbox.entries.append(device.Gap(1, 4, "the spool was full"))
        await outbox.add(5)
        async with session_of(peer, outbox) as session:
            await session.open()
            async with running_task(run(session)):
                await outbox.until_acked(5)
        assert [(entry.first, entry.last) for entry in peer.journal] == [(1, 4), (5, 5)]


async def test_a_new_metric_is_declared_before_its_readings() -> None:
    """Also when it appears while the session runs."""
    async with Peer() as peer:
        outbox = ListOutbox()
        await outbox.add(1)
        async with session_of(peer, outbox) as session:
            await session.open()
            async with running_task(run(session)):
                await outbox.until_acked(1)
                outbox.metrics = {**outbox.metrics, "flow": Metric("flow", unit="l/s")}
                outbox.revision += 1
                await outbox.add(2)
                await outbox.until_acked(2)
        assert peer.metrics["flow"] == Metric("flow", unit="l/s")


async def test_many_definitions_are_sent_in_several_messages() -> None:
    """None of them exceeds the bound, and all arrive before the first batch."""
    metrics = [
        Metric("level"),
        *(Metric(f"metric-{number}", description="x" * MAX_DESCRIPTION) for number in range(900)),
    ]
    async with Peer() as peer:
        outbox = ListOutbox(metrics=metrics)
        await outbox.add(1)
        async with session_of(peer, outbox) as session:
            await session.open()
            async with running_task(run(session)):
                await outbox.until_acked(1)
        assert len(peer.metrics) == len(metrics)
        declares = [AGENT_MESSAGES["msgpack"].decode(frame) for frame in peer.frames if isinstance(frame, bytes)]
        assert isinstance(declares[0], device.Declare)
        assert max(len(frame) for frame in peer.frames) <= DECLARE_BYTES
        # As few messages as the bound allows: all but the last are more than half full.
        sizes = [
            len(frame)
            for frame, message in zip(peer.frames, declares, strict=True)
            if isinstance(message, device.Declare)
        ]
        assert min(sizes[:-1]) > DECLARE_BYTES / 2


async def test_time_probes_are_answered_and_rejects_are_passed_on() -> None:
    """Neither changes what is sent."""
    async with Peer() as peer:
        peer.rejects = lambda data: Code.TYPE_CONFLICT if data.seq == 1 else None
        outbox = ListOutbox()
        await outbox.add(1)
        async with session_of(peer, outbox) as session:
            await session.open()
            async with running_task(run(session)):
                await outbox.until_acked(1)
                await peer.send("tank", device.TimeProbe(77))
                await peer.until(lambda: bool(peer.time_replies))
        assert peer.time_replies == [device.TimeReply(77, 5)]
        assert [(reject.seq, reject.code) for reject in outbox.rejects] == [(1, Code.TYPE_CONFLICT)]


async def test_the_error_of_the_outbox_ends_the_session() -> None:
    """It replaces the error of the connection, which the session closes because of it."""
    async with Peer() as peer:
        outbox = ListOutbox()
        async with session_of(peer, outbox) as session:
            await session.open()
            outbox.failure = OutboxUnavailable("the disk is full")
            with pytest.raises(OutboxUnavailable, match="the disk is full"):
                await session.run()


async def test_a_cut_connection_ends_the_session() -> None:
    """The error of the connection reaches the caller."""
    async with Peer() as peer:
        outbox = ListOutbox()
        async with session_of(peer, outbox) as session:
            await session.open()
            await peer.drop()
            with pytest.raises(ConnectionClosed):
                await session.run()


sources = st.lists(
    st.builds(device.SourceState, st.sampled_from("ab"), st.booleans(), st.integers(0, 5), st.sampled_from(["", "e"])),
    max_size=2,
    unique_by=lambda source: source.name,
)
statuses = st.builds(device.Status, st.integers(0, 9), st.integers(1, 3), sources)


@given(statuses, statuses, st.booleans())
def test_a_status_is_sent_when_the_hub_cannot_know_it(before: device.Status, now: device.Status, full: bool) -> None:
    """The first one, a change of a source other than of its time, and a new number while the window is full."""
    assert must_report(None, now, is_window_full=full)
    assert not must_report(now, now, is_window_full=full)
    if must_report(before, now, is_window_full=False):
        assert before.sources != now.sources
        assert must_report(before, now, is_window_full=True)
    elif must_report(before, now, is_window_full=True):
        assert before.next_seq != now.next_seq


def failed(error: str) -> list[device.SourceState]:
    return [device.SourceState("port", False, 1, error)]


async def test_the_status_follows_the_welcome_and_each_change() -> None:
    """Changes of one second are one status, the newest; without a change there is none."""
    async with Peer() as peer:
        outbox = ListOutbox()
        outbox.sources = failed("first")
        async with session_of(peer, outbox) as session:
            await session.open()
            async with running_task(run(session)):
                await peer.until(lambda: len(peer.statuses) == 1)
                began = asyncio.get_running_loop().time()
                for number in range(100):
                    outbox.sources = failed(f"error {number}")
                    outbox.status_changed.set()
                    await asyncio.sleep(0)
                await peer.until(lambda: len(peer.statuses) == 2)
                assert asyncio.get_running_loop().time() - began > STATUS_SECONDS / 2
                await outbox.add(1)
                await outbox.until_acked(1)
                outbox.status_changed.set()
                await asyncio.sleep(0)
        assert [status.sources for status in peer.statuses] == [failed("first"), failed("error 99")]


async def test_an_older_hub_gets_no_status() -> None:
    """A hub that knows version 1 only chooses its subprotocol, and everything else works."""
    async with Peer(version="1.0") as peer:
        outbox = ListOutbox()
        await outbox.add(1)
        async with session_of(peer, outbox) as session:
            await session.open()
            async with running_task(run(session)):
                outbox.status_changed.set()
                await outbox.until_acked(1)
        assert (peer.statuses, peer.problems) == ([], [])


async def test_a_backlog_is_reported_while_the_window_is_full() -> None:
    """The hub learns the newest number of a device that it does not acknowledge, also when it grows."""
    async with Peer(window=3) as peer:
        outbox = ListOutbox()
        async with session_of(peer, outbox) as session:
            await session.open()
            peer.hold()
            async with running_task(run(session)):
                await outbox.add(*range(1, 21))
                await peer.until(lambda: peer.statuses[-1:] != [] and peer.statuses[-1].next_seq == 21)
                await outbox.add(*range(21, 31))
                await peer.until(lambda: peer.statuses[-1].next_seq == 31)
                assert peer.received == 3
                await peer.release()
                await outbox.until_acked(30)
