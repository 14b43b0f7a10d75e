"""Batches that the hub itself receives: numbered by the hub, durable, and never against the device's own agent."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.ingest.local_source import epoch_of
from hub.model.batch import EntryKind
from tests.hub.ingest.open_hub import EPOCH, connect_agent, running
from wire import device as messages
from wire import limits
from wire.codec import AGENT_MESSAGES
from wire.errors import Code, WireError
from wire.model import Metric


def data(*values: object, seq: int = 99, metric: str = "flow") -> messages.Data:
    return messages.Data(seq, list(range(1, len(values) + 1)), {metric: list(values)})  # type: ignore[arg-type]


@given(st.text(), st.text())
def test_an_epoch_is_the_same_for_the_same_source_only(one: str, other: str) -> None:
    """The protocol allows it as an epoch, and after a restart of the hub the numbers of a source continue."""
    assert (epoch_of(one) == epoch_of(other)) == (one == other)
    assert len(epoch_of(one)) == 16
    assert set(epoch_of(one)) <= set("0123456789abcdef")


async def test_the_hub_numbers_the_batches_of_a_source(tmp_path: Path) -> None:
    """From 1 without a hole, whatever number a batch has; after a restart from the durable number on."""
    async with running(tmp_path) as hub:
        source = hub.source()
        await source.declare([Metric("flow")], {"site": "north"})
        assert source.submit(data(1.0, None, 2.0)) == 2
        assert source.submit(data(3.0, seq=1)) == 1
        await hub.directory.journal.drain()
        assert [(e.kind, e.epoch, e.seq, e.received_ns) for e in hub.durable] == [
            (EntryKind.BATCH, EPOCH, 1, 7), (EntryKind.BATCH, EPOCH, 2, 7)
        ]  # fmt: skip
        device = hub.devices.device("pump")
        assert (device.durable.seq, device.readings, device.batches, device.backlog, device.seen_ns) == (2, 3, 2, 0, 7)
    async with running(tmp_path) as hub:
        source = hub.source()
        await source.declare([Metric("flow")])
        source.submit(data(4.0))
        await hub.directory.journal.drain()
        assert [(e.epoch, e.seq) for e in hub.durable] == [(EPOCH, 3)]


async def test_a_rejected_batch_uses_no_number(tmp_path: Path) -> None:
    """An unknown metric, a value of the wrong type, or too many bytes: the next is accepted."""
    async with running(tmp_path) as hub:
        source = hub.source()
        await source.declare([Metric("flow"), Metric("name", "string")])
        too_long = ["x" * 60_000] * (limits.MAX_BATCH_BYTES // 60_000 + 1)
        for wrong, code in (
            (data(1.0, metric="level"), Code.UNKNOWN_METRIC),
            (data("high"), Code.WRONG_TYPE),
            (data(*too_long, metric="name"), Code.TOO_LARGE),
        ):
            with pytest.raises(WireError) as error:
                source.submit(wrong)
            assert error.value.code is code
        source.submit(data(1.0))
        await hub.directory.journal.drain()
        assert [entry.seq for entry in hub.durable] == [1]


async def test_two_readings_of_one_time_are_kept_apart(tmp_path: Path) -> None:
    """The later one is moved and counted, and the journal has the moved time."""
    async with running(tmp_path) as hub:
        source = hub.source()
        await source.declare([Metric("flow")])
        for value in (1.0, 2.0):
            source.submit(messages.Data(1, [5], {"flow": [value]}))
        await hub.directory.journal.drain()
        stored = [AGENT_MESSAGES["msgpack"].decode(entry.payload) for entry in hub.durable]
        assert [message.time for message in stored if isinstance(message, messages.Data)] == [[5], [6]]
        assert hub.devices.device("pump").moved == 1


async def test_a_source_is_present_from_its_first_batch_to_its_end(tmp_path: Path) -> None:
    """Its presence is reported once each way, and a second connect or disconnect changes nothing."""
    async with running(tmp_path) as hub:
        source = hub.source()
        await source.declare([Metric("flow")])
        source.submit(data(1.0))
        source.submit(data(2.0))
        source.connect()
        device = hub.devices.device("pump")
        assert (device.session, device.since_ns, hub.changed) == (source, 7, ["pump"])
        source.disconnect("the broker says so")
        source.disconnect("again")
        assert (device.session, hub.changed) == (None, ["pump", "pump"])
        assert await hub.events() == [("connected", "broker"), ("disconnected", "the broker says so")]


async def test_the_own_agent_of_a_device_has_priority(tmp_path: Path) -> None:
    """While it is connected, batches are rejected with BUSY, and the source cannot end its session."""
    async with running(tmp_path) as hub:
        source = hub.source()
        await source.declare([Metric("flow")])
        source.submit(data(1.0))
        session = await connect_agent(hub)
        assert hub.source().is_taken
        for attempt in (source.connect, lambda: source.submit(data(2.0))):
            with pytest.raises(WireError, match="pump is connected already, through pump agent") as error:
                attempt()
            assert error.value.code is Code.BUSY
        source.disconnect("gone")
        device = hub.devices.device("pump")
        assert (device.session, device.epoch) == (session, "0" * 16)
        session.close("closed")
        assert not hub.source().is_taken
        source.submit(data(3.0))
        await hub.directory.journal.drain()
        assert [(entry.epoch, entry.seq) for entry in hub.durable] == [(EPOCH, 1), (EPOCH, 2)]


async def test_two_sources_of_one_device_exclude_each_other(tmp_path: Path) -> None:
    """The first one that is present keeps the device until it disconnects; each has numbers of its own."""
    async with running(tmp_path) as hub:
        first, second = hub.source(), hub.source(epoch=epoch_of("another broker"))
        await first.declare([Metric("flow")])
        first.submit(data(1.0))
        with pytest.raises(WireError):
            second.submit(data(2.0))
        first.disconnect("gone")
        second.submit(data(2.0))
        await hub.directory.journal.drain()
        assert [(entry.epoch, entry.seq) for entry in hub.durable] == [(EPOCH, 1), (second.epoch, 1)]


async def test_tags_are_described_when_they_are_given_and_at_the_first_declaration(tmp_path: Path) -> None:
    """Later tags are added to earlier ones; a declaration of metrics alone leaves them as they are."""
    async with running(tmp_path) as hub:
        source = hub.source()
        assert not source.declared
        await source.declare([Metric("flow")])
        assert (source.declared, hub.registry.devices["pump"].agent) == (True, "broker")
        await source.declare([], {"site": "north"})
        await source.declare([Metric("level")])
        await source.declare([], {"room": "2"})
        assert hub.registry.devices["pump"].tags == {"site": "north", "room": "2"}
        assert hub.devices.device("pump").tags == {"site": "north", "room": "2"}


async def test_a_message_that_cannot_be_accepted_is_kept_with_its_reason(tmp_path: Path) -> None:
    """It gets a number of the source and is counted, without a session; a long reason is shortened."""
    async with running(tmp_path) as hub:
        source = hub.source()
        source.quarantine(b'{"topic":"a"}', ("bad_message", "x" * 1_000))
        await hub.directory.journal.drain()
        (entry,) = hub.durable
        assert (entry.kind, entry.format, entry.epoch, entry.seq) == (EntryKind.QUARANTINE, "json", EPOCH, 1)
        assert (entry.payload, entry.reason) == (b'{"topic":"a"}', ("bad_message", "x" * limits.MAX_MESSAGE))
        device = hub.devices.device("pump")
        assert (device.session, device.quarantined, device.durable.seq, device.backlog) == (None, 1, 1, 0)
        await source.declare([Metric("flow")])
        source.submit(data(1.0))
        await hub.directory.journal.drain()
        assert [entry.seq for entry in hub.durable] == [1, 2]
