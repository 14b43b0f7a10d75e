"""Connections to brokers: opened, refused and ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from hub.mqtt.connection import (
    PACKETS_PER_TURN,
    BrokerConnection,
    BrokerOptions,
    BrokerSession,
    ConnectionListener,
    describe_error,
)
from hub.mqtt.message import Message, Publish
from hub.mqtt.subscriptions import Subscription
from tests.hub.mqtt.packets import publish
from tests.hub.mqtt.small_broker import ReceivedPublish, SmallBroker, small_broker
from tests.services.mosquitto import Mosquitto


class Recorder(ConnectionListener):
    """Listener that records its calls."""

    def __init__(self) -> None:
        self.connections: list[BrokerConnection] = []
        self.ends: list[str] = []
        self.refusals: list[str] = []
        self.lowered: list[str] = []
        self.acknowledged: list[tuple[int, int]] = []
        self.received: list[Message] = []
        self.pauses = False
        self._called = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._called.clear()
            await self._called.wait()

    def will(self) -> Publish | None:
        return Publish("status", b"offline", 1, retain=True)

    def connected(self, connection: BrokerConnection, *, is_resumed: bool) -> None:
        self.connections.append(connection)
        self._called.set()

    def messages_received(self, connection: BrokerConnection, messages: Sequence[Message]) -> None:
        self.received += messages
        connection.acknowledge([message.id for message in messages if message.qos])
        if self.pauses:
            connection.pause_reading()
        self._called.set()

    def message_acknowledged(self, message_id: int, reason: int) -> None:
        self.acknowledged.append((message_id, reason))
        self._called.set()

    def subscribed(self, refused: Sequence[str], lowered: Sequence[str], *, complete: bool) -> None:
        if complete:
            self.refusals += refused
            self.lowered += lowered
        self._called.set()

    def unsubscribed(self) -> None:
        raise AssertionError("nothing was subscribed to before")

    def disconnected(self, why: str) -> None:
        self.ends.append(why)
        self._called.set()


@contextlib.asynccontextmanager
async def connecting(port: int) -> AsyncIterator[Recorder]:
    """Run a session that reconnects at once."""
    recorder = Recorder()
    running = asyncio.create_task(
        BrokerSession(BrokerOptions("127.0.0.1", port, "hub"), recorder, jitter=lambda: 0.0).run(), name="broker"
    )
    try:
        yield recorder
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def accept(_: ReceivedPublish) -> int:
    return 0


async def test_an_old_broker_is_used_with_mqtt_3() -> None:
    """MQTT 5 is tried first. Messages then have no properties, and are acknowledged."""
    async with small_broker(accept, version=4) as broker, connecting(broker.port) as recorder:
        await recorder.until(lambda: bool(recorder.connections))
        connection = recorder.connections[0]
        assert (broker.versions, connection.mqtt5) == ([5, 4], False)
        id = connection.publish(Publish("a/b", b"1", 1, False))
        await recorder.until(lambda: bool(recorder.acknowledged))
        assert recorder.acknowledged == [(id, 0)]
        assert broker.got == [ReceivedPublish("a/b", b"1", 1, id)]


async def test_a_lost_connection_does_not_change_the_version() -> None:
    """The broker is only unreachable."""
    async with small_broker(accept) as broker, connecting(broker.port) as recorder:
        for count in range(1, 4):
            await recorder.until(lambda count=count: len(recorder.connections) == count)  # type: ignore[misc]
            broker.drop()
        await recorder.until(lambda: len(recorder.connections) == 4)
        assert broker.versions == [5, 5, 5, 5]
        assert len(recorder.ends) == 3


@pytest.mark.parametrize("version", [5, 4])
async def test_refused_subscriptions_are_reported(version: int) -> None:
    """Granted ones are not reported."""
    async with (
        small_broker(accept, version=version, refused=["secret/#", "more/+"]) as broker,
        connecting(broker.port) as recorder,
    ):
        await recorder.until(lambda: bool(recorder.connections))
        asked = [("open/#", 1), ("secret/#", 1), ("b", 0), ("more/+", 1)]
        recorder.connections[0].subscribe([Subscription(filter, qos) for filter, qos in asked])
        await recorder.until(lambda: bool(recorder.refusals))
        assert recorder.refusals == ["secret/#", "more/+"]


@pytest.mark.parametrize(
    "packet", [b"\x30\x00", b"\x30\x02\x00\x09", publish(b"a", b"", properties=b"\x7f"), b"\xf0\x00"]
)
async def test_a_packet_that_cannot_be_read_ends_the_connection(packet: bytes) -> None:
    """Messages before it are delivered. The session connects again."""
    async with small_broker(accept) as broker, connecting(broker.port) as recorder:
        await recorder.until(lambda: bool(recorder.connections))
        broker.send(publish(b"a", b"1", properties=b"") + packet + publish(b"a", b"2", properties=b""))
        await recorder.until(lambda: len(recorder.connections) == 2)
        assert [message.payload for message in recorder.received] == [b"1"]
        assert "protocol error" in recorder.ends[0]


async def test_reading_pauses_within_a_turn_of_the_event_loop() -> None:
    """At most the messages of one turn arrive after a pause, and all arrive in order after `resume_reading`."""
    total = 5 * PACKETS_PER_TURN
    async with small_broker(accept) as broker, connecting(broker.port) as recorder:
        await recorder.until(lambda: bool(recorder.connections))
        connection = recorder.connections[0]
        recorder.pauses = True
        broker.send(b"".join(publish(b"a", b"%d" % number, properties=b"") for number in range(total)))
        arrived = 0
        while arrived < total:
            await recorder.until(lambda arrived=arrived: len(recorder.received) > arrived)  # type: ignore[misc]
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(recorder.received) - arrived <= PACKETS_PER_TURN
            arrived = len(recorder.received)
            connection.resume_reading()
        assert [int(message.payload) for message in recorder.received] == list(range(total))


WILL, WILL_QOS_1, WILL_RETAIN = 0x04, 0x08, 0x20
"""Flags of CONNECT (MQTT 5.0, section 3.1.2.3)."""


async def test_a_refused_login_does_not_change_the_version() -> None:
    """The answer shows that the broker supports the version."""
    async with small_broker(accept, reasons=[0x87, 0x86, 0x88]) as broker, connecting(broker.port) as recorder:
        await recorder.until(lambda: bool(recorder.connections))
        assert broker.versions == [5, 5, 5, 5]


async def test_the_limits_of_a_broker_are_respected() -> None:
    """Without QoS 1 and retained messages, the broker first refuses the will, and then states its limits for
    everything."""
    limits = bytes([0x24, 0, 0x25, 0])
    async with (
        small_broker(accept, reasons=[0x9B, 0x9A], properties=limits) as broker,
        connecting(broker.port) as recorder,
    ):
        await recorder.until(lambda: bool(recorder.connections))
        wills = [flags & (WILL | WILL_QOS_1 | WILL_RETAIN) for flags in broker.flags]
        assert wills == [WILL | WILL_QOS_1 | WILL_RETAIN, WILL | WILL_RETAIN, WILL]
        recorder.connections[0].publish(Publish("a", b"1", 1, retain=True))
        (got,) = await broker.count(1)
        assert (got.topic, got.qos) == ("a", 0)


@pytest.mark.parametrize("reason", [0x00, 0x10, 0x87, 0x97])
async def test_acknowledgements_are_reported_with_their_reason(reason: int) -> None:
    """Most have no properties; both forms are read."""
    async with small_broker(lambda _: reason) as broker, connecting(broker.port) as recorder:
        await recorder.until(lambda: bool(recorder.connections))
        ids = [recorder.connections[0].publish(Publish("a", b"1", 1, False)) for _ in range(3)]
        await recorder.until(lambda: len(recorder.acknowledged) == 3)
        assert recorder.acknowledged == [(id, reason) for id in ids]


async def test_a_missing_password_is_explained(mosquitto_program: Path, tmp_path: Path) -> None:
    """The session tries again, because the settings of the broker may be corrected."""
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    # The later settings win: no anonymous clients.
    settings = ["allow_anonymous false", f"password_file {passwords}"]
    with Mosquitto(mosquitto_program, tmp_path / "broker", settings=settings) as broker:
        async with connecting(broker.port) as recorder:
            await recorder.until(lambda: len(recorder.ends) >= 2)
            assert all("requires a user and a password (not authorized)" in why for why in recorder.ends), recorder.ends


def test_the_small_broker_has_both_versions() -> None:
    """The tests above depend on it."""
    assert SmallBroker(accept, version=4).versions == []


@pytest.mark.parametrize(
    ("error", "tls", "sentence"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), False, "the broker at b:1 refuses connections; check"),
        (TimeoutError(), False, "the broker at b:1 does not answer"),
        (socket.gaierror(socket.EAI_NONAME, "x"), False, "host not found: b"),
        (ConnectionResetError(errno.ECONNRESET, "x"), True, "TLS with the broker at b:1 failed (x); check"),
        (ConnectionResetError(errno.ECONNRESET, "x"), False, "cannot connect to the broker at b:1: Connection reset"),
        (ssl.SSLError(1, "wrong version"), True, "TLS with the broker at b:1 failed (wrong version)"),
        (OSError(errno.ENETUNREACH, "x"), False, "cannot connect to the broker at b:1: Network is unreachable"),
        (ValueError("Invalid host."), False, "cannot connect to the broker at b:1: Invalid host."),
    ],
)
def test_each_error_is_a_sentence(error: Exception, tls: bool, sentence: str) -> None:
    """It names the broker, and what to check if that is known."""
    options = BrokerOptions("b", 1, "hub", tls=ssl.create_default_context() if tls else None)
    assert describe_error(error, options).startswith(sentence)
