"""Outbound messages with a real journal: in order, at least once, with exact cursors and counts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from hub.journal.journal import Journal
from hub.model.batch import Batch, Entry, EntryKind, Mark, Series
from hub.mqtt.discovery import Discovery
from hub.mqtt.message import Publish
from hub.mqtt.outbound import Outbound, remove_consumers
from hub.mqtt.publication import Publication
from hub.mqtt.topics import TopicTemplate
from tests.hub.mqtt.connection import connected
from tests.hub.mqtt.small_broker import ReceivedPublish, small_broker
from tests.services.mosquitto import Mosquitto
from tests.tasks import running_task
from wire.codec import AGENT_MESSAGES
from wire.device import Data
from wire.errors import Code, WireError

EPOCH = "00000000000000aa"
OWN = "00000000000000bb"
HUB = "f" * 32
SERIES = {device: Series(number, device, "count", "integer") for number, device in enumerate("abc", start=1)}
EVERY = Publication(TopicTemplate.parse("hub/{device}/{metric}"))


def entry_of(number: int, *, device: str = "a", epoch: str = EPOCH, historical: bool = False) -> Entry:
    """Return an entry with one reading that contains its number, as ingestion makes it."""
    frame = AGENT_MESSAGES["json"].encode(Data(number, [number], {"count": [number]}, historical))
    batch = Batch([number], [(SERIES[device], [number])], readings=1, historical=historical)
    return Entry(EntryKind.BATCH, device, epoch, number, number, "json", frame, batch=batch)


def decode(entry: Entry) -> Batch:
    message = AGENT_MESSAGES[entry.format].decode(entry.payload)
    assert isinstance(message, Data)
    return entry_of(message.seq, device=entry.device).batch or Batch([], [], readings=0)


def open_journal(directory: Path, *, keep_bytes: int = 1 << 20) -> Journal:
    return Journal(directory / "journal.db", keep_bytes=keep_bytes, keep_seconds=3600, max_bytes=1 << 30)


async def append(journal: Journal, numbers: range, *, device: str = "a") -> None:
    entries = [entry_of(number, device=device) for number in numbers]
    await journal.append(entries, [Mark(device, EPOCH, numbers[-1])])


def outbound_of(
    journal: Journal,
    *publications: Publication,
    decode: Callable[[Entry], Batch] = decode,
    discovery: Discovery | None = None,
) -> Outbound:
    outbound = Outbound(
        journal,
        publications or [EVERY],
        name="home",
        hub=HUB,
        excluded_epochs={OWN},
        decode=decode,
        discovery=discovery,
        jitter=lambda: 0.0,
    )
    outbound.register()
    return outbound


@contextlib.asynccontextmanager
async def running(outbound: Outbound) -> AsyncIterator[Outbound]:
    async with running_task(outbound.run()):
        yield outbound


def consumed(journal: Journal) -> int:
    return next(state.offset for state in journal.consumers() if state.name == "mqtt:home")


@pytest.fixture
def mosquitto(mosquitto_program: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(mosquitto_program, tmp_path / "mosquitto") as broker:
        yield broker


async def test_every_reading_is_published_once_and_in_order(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """User properties identify the batch. The cursor reaches the end when everything is acknowledged."""
    async with open_journal(tmp_path) as journal, running(outbound_of(journal)) as outbound:
        async with connected(mosquitto.port) as subscriber, connected(mosquitto.port, outbound) as client:
            await subscriber.subscribe("hub/#")
            await append(journal, range(1, 501))
            await append(journal, range(1, 501), device="b")
            await outbound.reached(1000)
            messages = await subscriber.got(1000)
            for device in "ab":
                mine = [message for message in messages if message.topic == f"hub/{device}/count"]
                assert [int(message.payload) for message in mine] == list(range(1, 501))
            assert messages[6].properties == {
                "hub-device": "a", "hub-epoch": EPOCH, "hub-seq": "7", "hub-origin": HUB,
            }  # fmt: skip
            assert client.most_in_flight <= client.connection.receive_maximum == 20
        state = outbound.counts
        assert (state.published, state.acknowledged, state.in_flight, state.offset, state.lag) == (
            1000,
            1000,
            0,
            1000,
            0,
        )
        assert consumed(journal) == 1000


async def test_an_unreachable_broker_only_costs_journal_space(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """A restart of the broker and of the hub loses nothing: unacknowledged readings are read from the file."""
    async with open_journal(tmp_path) as journal, running(outbound_of(journal)) as outbound:
        async with connected(mosquitto.port, outbound):
            await append(journal, range(1, 11))
            await outbound.reached(10)
        mosquitto.stop()
        await append(journal, range(11, 411))
        assert outbound.counts.lag == 400
    mosquitto.start()
    async with (
        open_journal(tmp_path) as journal,
        running(outbound_of(journal)) as outbound,
        connected(mosquitto.port) as subscriber,
    ):
        await subscriber.subscribe("hub/#")
        async with connected(mosquitto.port, outbound):
            await outbound.reached(410)
            assert [int(message.payload) for message in await subscriber.got(400)] == list(range(11, 411))


async def test_nothing_is_lost_when_connections_are_cut(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """Messages may be repeated, but never in another order than that of the device."""
    total = 2_000
    async with (
        open_journal(tmp_path) as journal,
        running(outbound_of(journal)) as outbound,
        connected(mosquitto.port) as subscriber,
    ):
        await subscriber.subscribe("hub/#")
        await append(journal, range(1, total + 1))
        for part in range(1, 5):
            async with connected(mosquitto.port, outbound):
                await outbound.reached(part * total // 5)
        async with connected(mosquitto.port, outbound):
            await outbound.reached(total)
            # Some of them came twice.
            count = total
            while int((await subscriber.got(count))[-1].payload) < total:
                count = len(subscriber.received) + 1
        newest = 0
        for message in subscriber.received:
            assert int(message.payload) <= newest + 1
            newest = max(newest, int(message.payload))
        assert newest == total


async def test_a_broker_that_never_acknowledges_does_not_move_the_cursor(tmp_path: Path) -> None:
    """It receives as many messages as it allows, and again on the next connection."""
    receive_maximum = 7
    properties = b"\x21" + receive_maximum.to_bytes(2, "big")
    async with (
        small_broker(lambda _: None, properties=properties) as broker,
        open_journal(tmp_path) as journal,
        running(outbound_of(journal)) as outbound,
    ):
        await append(journal, range(1, 101))
        outbound_offset = outbound.counts.offset
        async with connected(broker.port, outbound):
            await broker.count(receive_maximum)
            assert outbound.counts.in_flight == receive_maximum
        assert outbound.counts.offset == consumed(journal) == outbound_offset
        broker.got.clear()
        broker.answer = lambda _: 0
        async with connected(broker.port, outbound):
            await outbound.reached(100)
        assert [int(got.payload) for got in broker.got] == list(range(1, 101))
        assert broker.most_unacknowledged == receive_maximum


async def test_unacknowledged_messages_are_repeated_although_nothing_new_arrives(tmp_path: Path) -> None:
    """The consumer waits for entries when the connection ends, and the next connection gets the same messages."""
    async with (
        small_broker(lambda _: None) as broker,
        open_journal(tmp_path) as journal,
        running(outbound_of(journal)) as outbound,
    ):
        await append(journal, range(1, 4))
        async with connected(broker.port, outbound):
            await broker.count(3)
        broker.got.clear()
        broker.answer = lambda _: 0
        async with connected(broker.port, outbound):
            await outbound.reached(3)
        assert [int(got.payload) for got in broker.got] == [1, 2, 3]


async def test_a_broker_that_drops_the_connection_at_each_publish(tmp_path: Path) -> None:
    """It receives the same message repeatedly, and all in order after it stops doing so."""

    def drop(_: ReceivedPublish) -> int:
        raise ConnectionResetError

    async with (
        small_broker(drop) as broker,
        open_journal(tmp_path) as journal,
        running(outbound_of(journal)) as outbound,
    ):
        await append(journal, range(1, 51))
        for _ in range(3):
            async with connected(broker.port, outbound) as client:
                await client.ended.wait()
        assert outbound.counts.offset == 0
        assert {int(got.payload) for got in broker.got} == {1}
        broker.got.clear()
        broker.answer = lambda _: 0
        async with connected(broker.port, outbound):
            await outbound.reached(50)
        assert [int(got.payload) for got in broker.got] == list(range(1, 51))


async def test_a_message_that_is_too_large_is_skipped(tmp_path: Path, mosquitto_program: Path) -> None:
    """It is counted, and the following ones are published."""
    text = Series(9, "a", "text", "string")
    async with open_journal(tmp_path) as journal, running(outbound_of(journal)) as outbound:
        with Mosquitto(mosquitto_program, tmp_path / "broker", settings=["max_packet_size 1000"]) as mosquitto:
            async with connected(mosquitto.port) as subscriber, connected(mosquitto.port, outbound) as client:
                assert client.connection.maximum_packet_size == 1000
                await subscriber.subscribe("hub/#")
                for number, size in enumerate((1, 5_000, 2), start=1):
                    batch = Batch([number], [(text, ["x" * size])], readings=1)
                    entry = Entry(EntryKind.BATCH, "a", EPOCH, number, 1, "json", b"{}", batch=batch)
                    await journal.append([entry], [Mark("a", EPOCH, number)])
                await outbound.reached(3)
                assert [message.payload for message in await subscriber.got(2)] == [b"x", b"xx"]
                assert not client.ended.is_set()
        assert (outbound.counts.too_large, outbound.counts.published) == (1, 2)


async def test_a_message_that_the_broker_refuses_is_skipped(tmp_path: Path) -> None:
    """A reason such as "not authorized" is final."""
    async with (
        small_broker(lambda got: 0x87 if got.payload == b"2" else 0) as broker,
        open_journal(tmp_path) as journal,
        running(outbound_of(journal)) as outbound,
        connected(broker.port, outbound),
    ):
        await append(journal, range(1, 4))
        await outbound.reached(3)
        assert (outbound.counts.refused, outbound.counts.acknowledged) == (1, 3)


async def test_an_exceeded_quota_is_retried(tmp_path: Path) -> None:
    """Publishing continues with the message that the broker did not accept."""
    refusals = iter([0x97, 0x97])

    def answer(got: ReceivedPublish) -> int:
        return next(refusals, 0) if got.payload == b"2" else 0

    async with (
        small_broker(answer) as broker,
        open_journal(tmp_path) as journal,
        running(outbound_of(journal)) as outbound,
        connected(broker.port, outbound),
    ):
        await append(journal, range(1, 4))
        await outbound.reached(3)
        assert [got.payload for got in broker.got].count(b"2") == 3
        assert outbound.counts.refused == 0


async def test_readings_from_the_same_broker_are_not_published(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """Backfill is not published either, unless it is configured."""
    asked = Publication(TopicTemplate.parse("past/{device}/{metric}"), historical=True, retain=True)
    async with (
        open_journal(tmp_path) as journal,
        running(outbound_of(journal, EVERY, asked)) as outbound,
        connected(mosquitto.port) as subscriber,
        connected(mosquitto.port, outbound),
    ):
        await subscriber.subscribe("#")
        entries = [entry_of(1, epoch=OWN), entry_of(2, historical=True), entry_of(3)]
        await journal.append(entries, [Mark("a", EPOCH, 3)])
        await outbound.reached(3)
        messages = await subscriber.got(3)
        assert sorted((message.topic, int(message.payload)) for message in messages) == [
            ("hub/a/count", 3), ("past/a/count", 2), ("past/a/count", 3),
        ]  # fmt: skip
        assert outbound.counts.passed_over == 1
        async with connected(mosquitto.port) as later:
            await later.subscribe("#")
            retained = [(message.topic, message.payload) for message in await later.got(1)]
            assert retained == [("past/a/count", b"3")]


async def test_a_periodic_sample_holds_the_cursor_until_it_is_acknowledged(tmp_path: Path) -> None:
    """One of many readings in a period is published, and its acknowledgement moves the cursor past all of them."""
    latest = Publication(TopicTemplate.parse("hub/{device}/state"), "json", every_s=0.05)
    async with (
        small_broker(lambda _: None) as broker,
        open_journal(tmp_path) as journal,
        running(outbound_of(journal, latest)) as outbound,
    ):
        await append(journal, range(1, 101))
        await append(journal, range(1, 51), device="b")
        async with connected(broker.port, outbound):
            await broker.count(2)
            assert outbound.counts.offset == 0
            broker.acknowledge_all()
            await outbound.reached(150)
        assert [(got.topic, got.payload.partition(b",")[2]) for got in broker.got] == [
            ("hub/a/state", b'"count":100}'), ("hub/b/state", b'"count":50}'),
        ]  # fmt: skip


async def test_a_message_of_qos_0_is_acknowledged_by_the_socket(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """The cursor moves with it."""
    publication = EVERY._replace(qos=0)
    async with (
        open_journal(tmp_path) as journal,
        running(outbound_of(journal, publication)) as outbound,
        connected(mosquitto.port) as subscriber,
        connected(mosquitto.port, outbound),
    ):
        await subscriber.subscribe("hub/#")
        await append(journal, range(1, 301))
        await outbound.reached(300)
        assert [int(message.payload) for message in await subscriber.got(300)] == list(range(1, 301))


async def test_deleted_entries_are_counted_as_missed(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """A cursor before the beginning of the journal moves there, and the entries between are counted."""
    async with open_journal(tmp_path, keep_bytes=0) as journal:
        outbound_of(journal)
        journal.consumer("store")
        for first in range(1, 5_001, 500):
            await append(journal, range(first, first + 500))
        for name in ("store", "mqtt:home"):
            journal.advance(name, 5_000)
        await append(journal, range(5_001, 5_002))
        journal.advance("store", 5_001)
        while journal.first_offset == 1:
            await append(journal, range(journal.last_offset + 1, journal.last_offset + 2))
        first = journal.first_offset
        journal.advance("mqtt:home", 0)
        async with running(outbound_of(journal)) as outbound, connected(mosquitto.port, outbound):
            await outbound.reached(journal.last_offset)
            assert outbound.counts.missed == first - 1


async def test_an_entry_that_cannot_be_decoded_is_skipped(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """It counts as missed, and the following ones are published."""

    def decode_but_two(entry: Entry) -> Batch:
        if entry.seq == 2:
            raise WireError(Code.UNKNOWN_METRIC, "unknown metric")
        return decode(entry)

    async with open_journal(tmp_path) as journal:
        outbound_of(journal)
        await append(journal, range(1, 4))
    async with open_journal(tmp_path) as journal, running(outbound_of(journal, decode=decode_but_two)) as outbound:
        async with connected(mosquitto.port, outbound):
            await outbound.reached(3)
        assert (outbound.counts.missed, outbound.counts.published) == (1, 2)


async def test_the_consumer_of_a_removed_bridge_is_removed(tmp_path: Path) -> None:
    """Other consumers stay."""
    async with open_journal(tmp_path) as journal:
        journal.consumer("store")
        outbound_of(journal)
        assert remove_consumers(journal, keep=["home"]) == []
        assert remove_consumers(journal, keep=["garden"]) == ["home"]
        assert [state.name for state in journal.consumers()] == ["store"]


async def test_earlier_entries_are_not_published_by_a_new_bridge(tmp_path: Path) -> None:
    """A new consumer begins at the end of the journal."""
    async with open_journal(tmp_path) as journal:
        await append(journal, range(1, 11))
        assert outbound_of(journal).counts.offset == 10


async def test_announcements_are_published_at_each_connection_and_change(tmp_path: Path) -> None:
    """They need no entries and do not hold the cursor."""

    class Words:
        def __init__(self) -> None:
            self.due: list[Publish] = []

        def pending(self) -> list[Publish]:
            taken, self.due = self.due, []
            return taken

        def connected(self) -> None:
            self.due.append(Publish("about/a", b"first", 1, retain=True))

    words = Words()
    async with small_broker(lambda _: 0) as broker, open_journal(tmp_path) as journal:
        outbound = Outbound(
            journal,
            [EVERY],
            name="home",
            hub=HUB,
            excluded_epochs={OWN},
            decode=decode,
            discovery=cast("Discovery", words),
        )
        outbound.register()
        async with running(outbound), connected(broker.port, outbound):
            await broker.count(1)
            words.due.append(Publish("about/a", b"second", 1, retain=True))
            outbound.notify()
            assert [got.payload for got in await broker.count(2)] == [b"first", b"second"]
