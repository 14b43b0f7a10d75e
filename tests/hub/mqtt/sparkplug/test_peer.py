"""Interoperability with another implementation of Sparkplug B over a broker, in both directions."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hub.mqtt.message import Message, Publish
from hub.mqtt.sparkplug.host import HostApplication
from hub.mqtt.sparkplug.payload import DataType, Scalar, SparkplugPayload, decode, encode, metric
from tests.hub.mqtt.sparkplug.edge import HostObserver
from tests.services.built import BuildError
from tests.services.mosquitto import Mosquitto
from tests.services.sparkplug import SparkplugPeer, peer_python

ARRIVAL_TIMEOUT_S = 30
"""For a message over a broker on the same machine."""

VALUES: list[tuple[DataType, Scalar]] = [
    *((datatype, -(1 << bits - 1)) for datatype, bits in ((DataType.INT8, 8), (DataType.INT16, 16))),
    *((datatype, value) for datatype in (DataType.INT32, DataType.INT64) for value in (-(2**31), -1, 0, 2**31 - 1)),
    (DataType.INT64, -(2**63)),
    (DataType.UINT8, 255),
    (DataType.UINT16, 65_535),
    (DataType.UINT32, 2**32 - 1),
    (DataType.UINT64, 2**63 - 1),
    (DataType.FLOAT, 1.5),
    (DataType.DOUBLE, 0.1),
    (DataType.BOOLEAN, True),
    (DataType.BOOLEAN, False),
    (DataType.STRING, "grün"),
    (DataType.TEXT, "line\nline"),
    (DataType.UUID, "2c6b1f0e-5b0f-4d6b-9a59-5b8a5fd6a001"),
    (DataType.DATETIME, 1_486_144_502_122),
]


@pytest.fixture(scope="module")
def python() -> Path:
    """Return the interpreter of the other implementation. Without it the test is skipped with the reason."""
    try:
        return peer_python()
    except BuildError as error:
        pytest.skip(f"no other implementation of Sparkplug B: {error}")


@pytest.fixture
def peer(python: Path) -> Iterator[SparkplugPeer]:
    """Run the other implementation."""
    with SparkplugPeer(python) as running:
        yield running


def test_the_hub_reads_what_the_other_writes(peer: SparkplugPeer) -> None:
    """The payload contains every type that both support, with all other fields of a metric."""
    sent: list[dict[str, Any]] = [
        {"name": f"m{place}", "alias": place, "timestamp": 1_000 + place, "datatype": datatype, "value": value}
        for place, (datatype, value) in enumerate(VALUES)
    ]
    sent[0]["is_historical"] = sent[1]["is_transient"] = True
    sent.append({"name": "null", "datatype": DataType.INT32, "is_null": True})
    written = peer.ask("encode", kind="DBirth", timestamp=77, seq=200, metrics=sent, include_dtypes=True)
    payload = decode(bytes.fromhex(written))
    assert (payload.time_ms, payload.seq) == (77, 200)
    *found, null = payload.metrics
    assert [(one.name, one.alias, one.time_ms, one.datatype) for one in found] == [
        (one["name"], one["alias"], one["timestamp"], one["datatype"]) for one in sent[:-1]
    ]
    assert [one.value(datatype) for one, (datatype, _) in zip(found, VALUES, strict=True)] == [v for _, v in VALUES]
    assert [one.is_historical for one in found] == [True] + [False] * (len(found) - 1)
    assert [one.is_transient for one in found[:3]] == [False, True, False]
    assert (null.name, null.is_null, null.field) == ("null", True, "")
    short = peer.ask("encode", kind="DData", timestamp=1, seq=0, metrics=sent[:1], include_dtypes=False)
    assert decode(bytes.fromhex(short)).metrics[0].datatype is None


def test_the_other_reads_what_the_hub_writes(peer: SparkplugPeer) -> None:
    """The payload contains the same types."""
    written = [
        metric(datatype, value, name=f"m{place}", alias=place, time_ms=place, is_historical=place == 3, description="d")
        for place, (datatype, value) in enumerate(VALUES)
    ]
    read = peer.ask("decode", kind="NBirth", payload=encode(SparkplugPayload(77, 3, tuple(written))).hex())
    assert (read["timestamp"], read["seq"]) == (77, 3)
    assert [
        (one["name"], one["alias"], one["timestamp"], one["datatype"], one["value"]) for one in read["metrics"]
    ] == [(f"m{place}", place, place, datatype, value) for place, (datatype, value) in enumerate(VALUES)]
    assert [place for place, one in enumerate(read["metrics"]) if one["is_historical"]] == [3]
    assert {one["metadata"] for one in read["metrics"]} == {"d"}


class HostConnection:
    """Host with a real connection to a broker. `expire` counts as the loss of a message."""

    def __init__(self, port: int) -> None:
        self.host = HostApplication("hub", reorder_ms=100)
        self.listener = HostObserver()
        self._arrived: queue.Queue[Message] = queue.Queue()
        subscribed: queue.Queue[None] = queue.Queue()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        will = self.host.will(time.time_ns())
        assert will is not None
        self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._client.on_message = lambda _client, _data, message: self._arrived.put(
            Message(message.topic, bytes(message.payload), message.qos, message.retain, received_ns=time.time_ns())
        )
        self._client.on_subscribe = lambda *_: subscribed.put(None)
        self._client.connect("127.0.0.1", port)
        self._client.subscribe([(filter, 1) for filter in self.host.filters])
        self._client.loop_start()
        subscribed.get(timeout=ARRIVAL_TIMEOUT_S)
        self._hear(self.host.connected(time.time_ns()))

    def until(self, done: Callable[[], bool]) -> None:
        """Receive messages until the condition holds. Time passes for the host meanwhile."""
        last = time.monotonic() + ARRIVAL_TIMEOUT_S
        while not done():
            assert time.monotonic() < last, f"not within {ARRIVAL_TIMEOUT_S} s: {self.listener}"
            try:
                message = self._arrived.get(timeout=0.05)
            except queue.Empty:
                self._hear(self.host.expire(time.time_ns()))
            else:
                if not message.retain or self.host.wants_retained(message.topic):
                    self._hear(self.host.decode(message))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _hear(self, found: list[Any]) -> None:
        self.listener.hear(word for word in found if not (isinstance(word, Publish) and "/STATE/" in word.topic))
        for word in found:
            if isinstance(word, Publish):
                self._client.publish(word.topic, word.payload, word.qos, word.retain)


def test_an_edge_node_of_the_other_is_followed(peer: SparkplugPeer, mosquitto_program: Path, tmp_path: Path) -> None:
    """The session has births, data, a gap, an answered rebirth request, and both kinds of death."""

    def double(name: str, value: float, **rest: Any) -> dict[str, Any]:
        stamp = time.time_ns() // 1_000_000
        return {"name": name, "datatype": DataType.DOUBLE, "value": value, "timestamp": stamp, **rest}

    with Mosquitto(mosquitto_program, tmp_path) as broker:
        hub = HostConnection(broker.port)
        try:
            listener = hub.listener
            pump = [double("speed", 1.0), double("flow", 2.0)]
            peer.ask("connect", port=broker.port, group="plant", node="edge", metrics=[double("load", 0.5)],
                     devices={"pump": pump})  # fmt: skip
            hub.until(lambda: len(listener.newest) == 3)
            assert listener.online == {"plant.edge": True, "plant.edge.pump": True}
            assert [metric.name for metric in listener.declared["plant.edge.pump"].metrics] == ["speed", "flow"]

            peer.ask("update", device="pump", metrics=[double("flow", 3.0)])
            hub.until(lambda: listener.values()["plant.edge.pump", "flow"] == 3.0)
            peer.ask("update", device="", metrics=[double("load", 9.0, is_historical=True)])
            hub.until(lambda: listener.samples[-1].value == 9.0)
            assert listener.samples[-1].historical

            peer.ask("skip")
            peer.ask("update", device="pump", metrics=[double("speed", 4.0)])
            hub.until(lambda: bool(listener.published))
            (asked,) = peer.ask("command")
            assert (asked["name"], asked["value"]) == ("Node Control/Rebirth", True)
            assert listener.values()["plant.edge.pump", "speed"] == 4.0
            # This implementation leaves the answer to its user: a new session has the same births.
            peer.ask("disconnect")
            hub.until(lambda: listener.online == {"plant.edge": False, "plant.edge.pump": False})
            peer.ask("reconnect", port=broker.port)
            hub.until(lambda: listener.online == {"plant.edge": True, "plant.edge.pump": True})
            peer.ask("update", device="pump", metrics=[double("speed", 5.0)])
            hub.until(lambda: listener.values()["plant.edge.pump", "speed"] == 5.0)
            assert not listener.refused
            assert len(listener.published) == 1

            peer.cut()
            hub.until(lambda: listener.online == {"plant.edge": False, "plant.edge.pump": False})
        finally:
            hub.close()
