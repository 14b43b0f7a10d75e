"""Inbound messages with a real journal: acknowledged when durable, stored once, and bounded in memory."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import ANY

import pytest
from msgspec.structs import replace

from hub.ingest import rejected_input
from hub.ingest.device import Devices
from hub.ingest.recent_readings import RecentReadings
from hub.journal.journal import Journal
from hub.model.batch import Entry, EntryKind, Series
from hub.model.bridge import DecodedMessage
from hub.mqtt import inbound as module
from hub.mqtt.connection import BrokerConnection, BrokerOptions
from hub.mqtt.decoders.mapping import MappedDecoder, TopicMapping
from hub.mqtt.inbound import Inbound
from hub.mqtt.message import Decoded, Decoder, Message, RejectedMessage, TopicDecoder
from hub.mqtt.sparkplug.host import HostApplication
from hub.mqtt.subscriptions import Subscriptions
from tests.hub.mqtt.directory import Directory
from tests.tasks import running_task

KEEPALIVE_S = 30


class FakeConnection:
    """FakeConnection as Inbound uses it."""

    def __init__(self) -> None:
        self.acked: list[int] = []
        self.is_paused = False

    def acknowledge(self, ids: Sequence[int]) -> None:
        self.acked += ids

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class FaultyDecoder(Decoder):
    """Decoder with a defect, which one of its methods shows."""

    filters = ("x/#",)

    def __init__(self, method: str) -> None:
        self._method = method

    def takes(self, topic: str) -> bool:
        self._fail("takes", topic)
        return topic.startswith("x/")

    def compile(self, topic: str) -> TopicDecoder:
        self._fail("compile", topic)
        return super().compile(topic)

    def decode(self, message: Message) -> Sequence[Decoded]:
        self._fail("decode", message.topic)
        return []

    def _fail(self, method: str, topic: str) -> None:
        if method == self._method and topic.startswith("x/"):
            raise KeyError(method)


class Bench:
    """Inbound side with a running journal, and the durable readings."""

    def __init__(self, journal: Journal, *decoders: Decoder) -> None:
        self.journal = journal
        self.durable: list[Entry] = []
        self.devices = Devices(journal, clock=lambda: 7, on_committed=self.durable.extend, latest_time_ns=lambda _: -1)
        self.directory = Directory()
        self.decoders = [
            *decoders,
            MappedDecoder(TopicMapping("s/{device}/{metric}", "value")),
            MappedDecoder(TopicMapping("j/{device}")),
        ]
        self.inbound = Inbound(
            self.devices,
            self.directory,
            self.decoders,
            name="home",
            hub="f" * 32,
            subscriptions=Subscriptions([]),
            options=BrokerOptions("127.0.0.1", 1883, "hub", keepalive_s=KEEPALIVE_S, receive_maximum=10),
            recent=RecentReadings(),
            publish=lambda _: None,
        )

    def arrive(
        self,
        connection: FakeConnection,
        mid: int,
        payload: bytes = b"1",
        *,
        qos: int = 1,
        dup: bool = False,
        topic: str = "s/d/level",
    ) -> None:
        message = Message(topic, payload, qos, dup=dup, received_ns=time.time_ns(), id=mid)
        self.inbound.receive(cast("BrokerConnection", connection), [message])

    async def until(self, connection: FakeConnection, acked: list[int]) -> None:
        """Wait for these acknowledgements."""
        while connection.acked != acked:
            assert len(connection.acked) <= len(acked)
            await asyncio.sleep(0)

    @property
    def readings(self) -> list[Any]:
        """Return the durable values."""
        return [
            value
            for entry in self.durable
            if entry.kind is EntryKind.BATCH and entry.batch is not None
            for _, values in entry.batch.columns
            for value in values
        ]


@asynccontextmanager
async def running(directory: Path, *decoders: Decoder) -> AsyncIterator[Bench]:
    path = directory / "journal.db"
    async with Journal(path, keep_bytes=1 << 28, keep_seconds=60, max_bytes=1 << 30) as journal:
        bench = Bench(journal, *decoders)
        async with running_task(bench.inbound.run()):
            yield bench


async def test_acknowledged_messages_are_durable_and_in_order(tmp_path: Path) -> None:
    """The rule holds over several commits. Messages of QoS 0 have no acknowledgement."""
    async with running(tmp_path) as bench:
        connection = FakeConnection()
        for mid in range(1, 60):
            bench.arrive(connection, mid, b"%d" % mid, qos=mid % 2)
            if mid % 7 == 0:
                await asyncio.sleep(0)
            assert len(bench.readings) >= len(connection.acked)
        await bench.until(connection, list(range(1, 60, 2)))
        assert bench.readings == list(range(1, 60))


@pytest.mark.parametrize("method", ["takes", "compile", "decode"])
async def test_a_defect_of_a_decoder_costs_only_its_message(tmp_path: Path, method: str) -> None:
    """The message is in quarantine when it is acknowledged. Those that arrived together with it are stored."""
    async with running(tmp_path, FaultyDecoder(method)) as bench:
        connection = FakeConnection()
        messages = [
            Message(topic, b"%d" % mid, 1, received_ns=time.time_ns(), id=mid)
            for mid, topic in enumerate(["s/d/level", "x/d", "s/d/level", "x/d", "s/d/level"], 1)
        ]
        bench.inbound.receive(cast("BrokerConnection", connection), messages)
        await bench.until(connection, [1, 2, 3, 4, 5])
        assert bench.readings == [1.0, 3.0, 5.0]
        entries = await bench.journal.quarantine.page(None, code="decoder", limit=10, before=1 << 50)
        assert len(entries) == 2


async def test_a_redelivered_message_is_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the same id, while the broker may not have the acknowledgement.

    Later, with other content, or in a new session, it is another message, whose publisher set DUP, too.
    """
    async with running(tmp_path) as bench:
        connection = FakeConnection()
        now_s = asyncio.get_running_loop().time()
        bench.arrive(connection, 1, b"1")
        bench.arrive(connection, 1, b"1", dup=True)
        bench.arrive(connection, 1, b"2", dup=True)
        await bench.until(connection, [1, 1, 1])
        assert bench.readings == [1.0, 2.0]
        monkeypatch.setattr(
            asyncio.get_running_loop(),
            "time",
            lambda: now_s + module.SILENT_KEEPALIVES * KEEPALIVE_S + 60,
            raising=False,
        )
        bench.arrive(connection, 1, b"2", dup=True)
        monkeypatch.undo()
        await bench.until(connection, [1] * 4)
        bench.inbound.connected(is_resumed=False)
        bench.arrive(connection, 1, b"2", dup=True)
        await bench.until(connection, [1] * 5)
        assert bench.readings == [1.0, 2.0, 2.0, 2.0]
        assert (bench.inbound.counts.duplicates, bench.inbound.counts.taken) == (1, 5)


@pytest.mark.parametrize(("bound", "value"), [("MAX_WAITING", 3), ("MAX_WAITING_BYTES", 6)])
async def test_a_connection_is_not_read_while_too_much_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    """The bound applies to messages and bytes, also for a connection that replaces another."""
    monkeypatch.setattr(module, bound, value)
    async with running(tmp_path) as bench:
        one, other = FakeConnection(), FakeConnection()
        paused = []
        for mid in range(1, 4):
            bench.arrive(one, mid, b"12")
            paused.append(one.is_paused)
        assert paused == [False, False, True]
        bench.arrive(other, 1, b"12")
        paused = [other.is_paused]
        await bench.until(one, [1, 2, 3])
        await bench.until(other, [1])
        paused.append(other.is_paused)
        bench.arrive(other, 2, b"12")
        assert [*paused, other.is_paused] == [True, False, False]


async def test_long_messages_are_recognized_by_their_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a broker may redeliver would not fit into memory."""
    monkeypatch.setattr(rejected_input, "MAX_QUARANTINED_BYTES", 4)
    async with running(tmp_path) as bench:
        connection = FakeConnection()
        tracemalloc.start()
        try:
            for mid in range(1, 10):
                bench.arrive(connection, mid, b"\xff" + bytes([mid]) * 1_000_000)
                bench.arrive(connection, mid, b"\xff" + bytes([mid]) * 1_000_000, dup=True)
            await bench.until(connection, [mid for mid in range(1, 10) for _ in range(2)])
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept_bytes < 2_000_000
        assert (bench.inbound.counts.duplicates, bench.inbound.counts.undecodable) == (9, 9)


async def test_a_long_message_is_cut_in_the_quarantine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its beginning and its length are stored, and the other messages of the commit are accepted."""
    monkeypatch.setattr(rejected_input, "MAX_QUARANTINED_BYTES", 4)
    async with running(tmp_path) as bench:
        connection = FakeConnection()
        bench.arrive(connection, 1, b"1")
        bench.arrive(connection, 2, b"\xffgarbage")
        bench.arrive(connection, 3, b"3")
        await bench.until(connection, [1, 2, 3])
        assert bench.readings == [1.0, 3.0]
        (entry,) = await bench.journal.quarantine.page(None, code=None, limit=10, before=1 << 50)
        assert len(bench.journal.quarantine.index) == 1
        content = json.loads(entry.payload)
        assert (content["topic"], base64.b64decode(content["payload_base64"]), content["payload_bytes"]) == (
            "s/d/level", b"\xffgar", 8
        )  # fmt: skip


async def test_refused_values_go_to_quarantine_and_their_neighbours_are_stored(tmp_path: Path) -> None:
    """One entry for a message, of the device, with its topic and payload, and each value with its reason."""
    async with running(tmp_path) as bench:
        connection = FakeConnection()
        bench.arrive(connection, 1, b'{"a": 1, "b": 2}', topic="j/boiler")
        bench.arrive(connection, 2, b'{"a": "ERR", "b": 3, "c": true}', topic="j/boiler")
        bench.arrive(connection, 3, b'{"a": "ERR"}', topic="j/boiler")
        await bench.until(connection, [1, 2, 3])
        assert bench.readings == [1.0, 2.0, 3.0, True]
        counts = bench.inbound.counts
        assert (counts.taken, counts.undecodable, counts.refused, counts.accepted) == (2, 1, 1, 4)
        last, first = await bench.journal.quarantine.page(None, code=None, limit=10, before=1 << 50)
        assert {last.device, first.device} == {"boiler"}
        assert bench.devices.device("boiler").durable.quarantined_readings == 2
        content = json.loads(first.payload)
        assert base64.b64decode(content["payload_base64"]) == b'{"a": "ERR", "b": 3, "c": true}'
        (refused,) = content["refused"]
        assert (refused["metric"], refused["value"], refused["code"]) == ("a", "ERR", "type")
        assert first.reason == ("type", 'a: ERR is not a number; set no_value = ["ERR"] or types.a = "string"')


@pytest.mark.parametrize("topic", ["j/boiler", "s/boiler/x"])
async def test_a_message_that_cannot_be_read_is_charged_to_the_device_of_its_topic(tmp_path: Path, topic: str) -> None:
    """If the hub knows the device. Otherwise it is charged to the bridge's own device."""
    async with running(tmp_path) as bench:
        connection = FakeConnection()
        bench.arrive(connection, 1, b"\xff{", topic=topic)
        await bench.until(connection, [1])
        bench.arrive(connection, 2, b'{"a": 1}', topic="j/boiler")
        bench.arrive(connection, 3, b"\xff{", topic=topic)
        await bench.until(connection, [1, 2, 3])
        entries = await bench.journal.quarantine.page(None, code=None, limit=10, before=1 << 50)
        assert [entry.device for entry in entries] == ["boiler", "mqtt.home"]
        assert bench.devices.device("boiler").durable.quarantined == 1


async def test_refused_values_are_decoded_again(tmp_path: Path) -> None:
    """Without the values beside them, which are stored, with the time of arrival. What still fails keeps its reason."""
    async with running(tmp_path) as bench:
        connection = FakeConnection()
        bench.arrive(connection, 1, b'{"a": 1, "b": 2, "c": 1}', topic="j/boiler")
        bench.arrive(connection, 2, b'{"a": "ERR", "b": 3, "c": "x"}', topic="j/boiler")
        await bench.until(connection, [1, 2])
        (entry,) = await bench.journal.quarantine.page(None, code=None, limit=10, before=1 << 50)
        again = await bench.inbound.decode_again(entry)
        assert (again.batches, again.reason) == ([], entry.reason)
        bench.directory.series["boiler", "a"] = series = Series(9, "boiler", "a", "string", "")
        bench.devices.device("boiler").metrics = {"a": series}
        for decoder in bench.decoders:
            decoder.forget("boiler", "a")
        again = await bench.inbound.decode_again(entry)
        ((device, data),) = again.batches
        assert (device, data.time, data.historical) == ("boiler", [entry.received_ns], True)
        assert data.values == {"a": ["ERR"]}
        assert again.reason is not None
        assert again.reason[1].startswith("c: x is not a number")
        assert [refused["metric"] for refused in json.loads(again.rest)["refused"]] == ["c"]
        elsewhere = replace(entry, payload=json.dumps({"topic": "gone/x", "payload_base64": ""}).encode())
        assert await bench.inbound.decode_again(elsewhere) == DecodedMessage(
            [], ("topic", "no subscription takes this topic"), ANY
        )


async def test_a_message_that_depends_on_others_is_not_decoded_again(tmp_path: Path) -> None:
    """Its reason stays, and the decoder does not see it."""
    decoder = FaultyDecoder("decode")
    decoder.is_repeatable = False
    async with running(tmp_path, decoder) as bench:
        content = RejectedMessage(Message("x/1", b"1"), "out_of_order", "late").content()
        reason = ("out_of_order", "late")
        entry = Entry(EntryKind.QUARANTINE, "d", bench.inbound.epoch, 1, 7, "json", content, reason=reason)
        assert await bench.inbound.decode_again(entry) == DecodedMessage(reason=reason)
    assert not HostApplication().is_repeatable


async def test_a_float_of_an_integer_metric_widens_it(tmp_path: Path) -> None:
    """Also in the middle of many messages: all of them are stored."""
    async with running(tmp_path) as bench:
        integer = Series(1, "d", "level", "integer", "cm")
        bench.directory.series["d", "level"] = integer
        bench.devices.device("d").metrics = {"level": integer}
        connection = FakeConnection()
        for mid, payload in enumerate((b"1", b"2", b"2.5", b"3"), 1):
            bench.arrive(connection, mid, payload)
        await bench.until(connection, [1, 2, 3, 4])
        assert (bench.readings, len(bench.journal.quarantine.index)) == ([1, 2, 2.5, 3], 0)
        widened = bench.directory.series["d", "level"]
        assert (widened.type, widened.unit) == ("float", "cm")
