"""One connection to a broker, with paho, run by the event loop."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from hub.mqtt.message import Publish
from hub.mqtt.paho_client import BufferedClient, UserProperties
from hub.mqtt.subscriptions import Subscription

CONNECT_S = 10.0
"""From the first packet to the broker's answer."""

PACKETS_A_TURN = 256
"""Taken in before others get their turn of the event loop: some 10 ms."""

MAX_PACKET_BYTES = 16 * 1024 * 1024
"""Of one message: a broker does not send a larger one, and says nothing of it. What Zigbee2MQTT tells of 2,000 devices
has as much."""

TICK_S = 1.0
"""How often the silence of the connection is looked into."""

NEW_ONLY = 1
"""Retain handling: retained messages come when the subscription is new, and not with each connection."""


SEND_ALWAYS = 0
"""They come with each connection."""


class BrokerError(Exception):
    """The connection was not made or has ended; the sentence says why. `code` is the broker's reason, where it gave
    one; `is_away`: there was nobody to speak to."""

    def __init__(self, why: str, code: int | None = None, *, is_away: bool = False) -> None:
        super().__init__(why)
        self.code = code
        self.is_away = is_away


class BrokerOptions(NamedTuple):
    """How to reach a broker, and as whom. `will` is what it says when the hub is gone without a word."""

    host: str
    port: int
    client_id: str
    keepalive_s: int = 30
    session_expiry_s: int = 0
    receive_maximum: int = 1_000
    user: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None


class ConnectionListener(Protocol):
    """What the connection tells; none of these waits."""

    def will(self) -> Publish | None:
        """What the broker is to say when this connection breaks."""

    def farewell(self) -> Sequence[Publish]:
        """What is said before the connection is ended in order."""

    def connected(self, link: BrokerConnection, *, is_resumed: bool) -> None:
        """There is a connection; `is_resumed` says whether the broker still has the session."""

    def arrived(self, link: BrokerConnection, message: paho.MQTTMessage) -> None:
        """A message came; at QoS 1 it has to be acknowledged on this link."""

    def published(self, id: int, reason: int) -> None:
        """A message that was published is acknowledged."""

    def subscribed(self, refused: Sequence[str], lowered: Sequence[str], *, complete: bool) -> None:
        """The broker does not let this client have the messages of the filters `refused`, and those of `lowered` at a
        lower QoS only; `complete`: it has answered to all that was asked."""

    def unsubscribed(self) -> None:
        """The broker has forgotten what it was to forget."""

    def disconnected(self, why: str) -> None:
        """It has ended, or was not made."""


class BrokerConnection:
    """One connection, from its first packet to its end. Implements hub.mqtt.outbound.Outlet."""

    def __init__(
        self,
        options: BrokerOptions,
        listener: ConnectionListener,
        *,
        mqtt5: bool,
        max_qos: int = 1,
        may_retain: bool = True,
    ) -> None:
        """`max_qos` and `may_retain` are what is known of the broker already."""
        self.mqtt5 = mqtt5
        self.receive_maximum = 65_535
        self.maximum_packet_size: int | None = None
        self.user_properties = mqtt5
        self.was_answered = False
        self.is_good = False
        self._max_qos = max_qos
        self._may_retain = may_retain
        self._has_identifiers = mqtt5
        self._options = options
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._answer: asyncio.Future[bool] = self._loop.create_future()
        self._is_open = self._is_paused = self._is_reading = self._is_writing = False
        # Of subscriptions that are not answered, by message id; and what came of those that are.
        self._asked: dict[int, list[Subscription]] = {}
        self._refused: list[str] = []
        self._lowered: list[str] = []
        client = self._client = BufferedClient(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if mqtt5 else MQTTProtocolVersion.MQTTv311,
            clean_session=None if mqtt5 else False,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(0)
        if options.user:
            client.username_pw_set(options.user, options.password)
        if options.tls is not None:
            client.tls_set_context(options.tls)
        client.on_socket_register_write = self._wants_to_write
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = lambda *_: listener.unsubscribed()
        client.on_publish = self._on_publish

    async def open(self) -> bool:
        """Connects; whether the broker still had the session. Raises BrokerError."""
        options, properties = self._options, None
        if self.mqtt5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = options.session_expiry_s
            properties.ReceiveMaximum = options.receive_maximum
            properties.MaximumPacketSize = MAX_PACKET_BYTES
        will = self._listener.will()
        if will is not None:
            self._client.will_set(
                will.topic, will.payload, min(will.qos, self._max_qos), will.retain and self._may_retain
            )
        self._client.connect_async(
            options.host, options.port, options.keepalive_s, clean_start=False, properties=properties
        )
        try:
            await asyncio.to_thread(self._client.reconnect)
        except (OSError, ValueError) as error:
            raise BrokerError(
                describe_error(error, options.host, options.port, tls=options.tls is not None), is_away=True
            ) from None
        self._is_open = True
        buffered = self._client.buffered
        number = buffered.fileno()

        def let_go() -> None:
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)

        buffered.before_close = let_go
        self._loop.add_reader(number, self._readable)
        self._write()
        try:
            async with asyncio.timeout(CONNECT_S):
                return await self._answer
        except TimeoutError:
            raise BrokerError("the broker takes connections and does not answer") from None

    async def closed(self) -> str:
        """Why it ended, once it has."""
        while not self._ended.done():
            await asyncio.wait([self._ended], timeout=TICK_S)
            if not self._ended.done():
                self._client.loop_misc()
        return self._ended.result()

    def close(self) -> None:
        """Ends it, with a word to the broker where there still is a connection."""
        if self._is_open and self.was_answered:
            for message in self._listener.farewell():
                self.publish(message)
            self._client.disconnect()
            self._write()
        self._end("closed")

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Asks for messages; with identifiers, each in a packet of its own, where the broker knows them."""
        self._refused.clear()
        self._lowered.clear()
        identified = [one for one in subscriptions if one.identifier and self._has_identifiers]
        self._subscribe([one for one in subscriptions if one not in identified], None)
        for one in identified:
            properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
            properties.SubscriptionIdentifier = one.identifier
            self._subscribe([one], properties)

    def _subscribe(self, subscriptions: list[Subscription], properties: Properties | None) -> None:
        if not subscriptions:
            return
        asked: list[tuple[str, Any]] = [(one.filter, one.qos) for one in subscriptions]
        if self.mqtt5:
            asked = [
                (
                    one.filter,
                    SubscribeOptions(
                        one.qos,
                        # A shared subscription with no-local is an error of the protocol (MQTT 5.0, 3.8.3.1); and what
                        # is asked for always may be what this client has retained itself.
                        noLocal=not (one.always or one.filter.startswith("$share/")),
                        retainHandling=SEND_ALWAYS if one.always else NEW_ONLY,
                    ),
                )
                for one in subscriptions
            ]
        _, id = self._client.subscribe(asked, properties=properties)
        if id is not None:
            self._asked[id] = subscriptions

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Asks for messages of these filters no more."""
        if filters:
            self._client.unsubscribe(list(filters))

    def publish(self, message: Publish, properties: UserProperties | None = None) -> int:
        """Hands a message to the connection; its id. Raises ConnectionError."""
        if not self._is_open:
            raise ConnectionError("the connection has ended")
        qos, retain = min(message.qos, self._max_qos), message.retain and self._may_retain
        return self._client.publish(message.topic, message.payload, qos, retain, properties).mid

    def ack(self, mid: int) -> None:
        """The message with this id is durable; nothing where the connection has ended."""
        if self._is_open:
            self._client.ack(mid, 1)

    def pause(self) -> None:
        """Reads nothing more until `resume`."""
        if self._is_open and not self._is_paused:
            self._is_paused = True
            self._loop.remove_reader(self._client.buffered.fileno())

    def resume(self) -> None:
        """Reads on."""
        if self._is_open and self._is_paused:
            self._is_paused = False
            self._loop.add_reader(self._client.buffered.fileno(), self._readable)
            self._read_on()

    def _readable(self) -> None:
        self._is_reading = False
        for _ in range(PACKETS_A_TURN):
            if not self._is_open or self._is_paused:
                return
            self._client.loop_read()
            if not self._client.buffered.pending():
                return
        self._read_on()

    def _read_on(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self._loop.call_soon(self._readable)

    def _wants_to_write(self, _client: object, _data: object, _socket: object) -> None:
        if self._is_open and not self._is_writing:
            self._is_writing = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Once for all that was handed over in this turn."""
        self._is_writing = False
        if not self._is_open:
            return
        buffered = self._client.buffered
        try:
            self._client.loop_write()
            is_all = buffered.flush()
        except OSError as error:
            options = self._options
            self._end(describe_error(error, options.host, options.port, tls=options.tls is not None))
            return
        if buffered.fileno() < 0:
            return
        if is_all and not self._client.want_write():
            self._loop.remove_writer(buffered.fileno())
        else:
            self._loop.add_writer(buffered.fileno(), self._write)

    def _on_connect(self, _client: object, _data: object, flags: Any, reason: Any, properties: Any) -> None:
        self.was_answered = not reason.is_failure
        if self._answer.done():
            return
        if reason.is_failure:
            self._answer.set_exception(BrokerError(f"the broker refuses the connection: {reason}", reason.value))
            return
        self.receive_maximum = getattr(properties, "ReceiveMaximum", self.receive_maximum)
        self.maximum_packet_size = getattr(properties, "MaximumPacketSize", None)
        self._max_qos = min(self._max_qos, getattr(properties, "MaximumQoS", 1))
        self._may_retain = self._may_retain and bool(getattr(properties, "RetainAvailable", True))
        self._has_identifiers = self.mqtt5 and bool(getattr(properties, "SubscriptionIdentifierAvailable", True))
        self._answer.set_result(bool(flags.session_present))

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self.is_good = True
        self._listener.arrived(self, message)

    def _on_publish(self, _client: object, _data: object, mid: int, reason: Any, _properties: object) -> None:
        self.is_good = True
        self._listener.published(mid, reason.value)

    def _on_subscribe(self, _client: object, _data: object, id: int, reasons: Sequence[Any], _props: object) -> None:
        for one, reason in zip(self._asked.pop(id, []), reasons, strict=False):
            if reason.is_failure:
                self._refused.append(one.filter)
            elif reason.value < one.qos:
                self._lowered.append(one.filter)
        # At once: messages that count on what was refused may be next.
        self._listener.subscribed(self._refused, self._lowered, complete=not self._asked)

    def _on_disconnect(self, _client: object, _data: object, flags: Any, reason: Any, _properties: object) -> None:
        by = "the broker ended the connection" if flags.is_disconnect_packet_from_server else "the connection broke"
        self._end(f"{by}: {reason}")

    def _end(self, why: str) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._client.buffered.close()
        if not self._answer.done():
            self._answer.set_exception(BrokerError(why))
        if not self._ended.done():
            self._ended.set_result(why)


FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0
"""Between two attempts: a random part of a bound that doubles, so that a broker that restarts is not met by all."""

WRONG_VERSION, NO_RETAIN, NO_QOS = 0x84, 0x9A, 0x9B
"""Reason codes of CONNACK (MQTT 5.0, table 3-1): paho tells a 3.1.1 broker's answers by the same."""

STABLE_S = 10.0
"""A connection that lasts so long, or that brought something, is a good one: the next attempt comes soon."""


class BrokerSession:
    """Connects, and connects again, until cancelled."""

    def __init__(
        self, options: BrokerOptions, listener: ConnectionListener, *, jitter: Callable[[], float] = random.random
    ) -> None:
        self._options = options
        self._listener = listener
        self._jitter = jitter
        self._mqtt5 = True
        self._is_agreed = False
        self._max_qos = 1
        self._may_retain = True

    async def run(self) -> None:
        """Keeps a connection until cancelled; then ends it in order."""
        tries = 0
        clock = asyncio.get_running_loop().time
        while True:
            link = BrokerConnection(
                self._options, self._listener, mqtt5=self._mqtt5, max_qos=self._max_qos, may_retain=self._may_retain
            )
            began_s = clock()
            try:
                is_resumed = await link.open()
                self._is_agreed = True
                self._listener.connected(link, is_resumed=is_resumed)
                why = await link.closed()
                if link.is_good or clock() - began_s >= STABLE_S:
                    tries = 0
            except BrokerError as error:
                why = str(error)
                self._learn(error)
            finally:
                link.close()
            self._listener.disconnected(why)
            tries += 1
            await asyncio.sleep(self._jitter() * min(MAX_RETRY_S, FIRST_RETRY_S * 2 ** min(tries - 1, 16)))

    def _learn(self, error: BrokerError) -> None:
        """What an attempt that failed tells of the broker."""
        if error.code == NO_QOS:
            self._max_qos = 0
        elif error.code == NO_RETAIN:
            self._may_retain = False
        elif not self._is_agreed and error.code in (None, WRONG_VERSION) and not error.is_away:
            # A broker of MQTT 3.1.1 says so, or hangs up: then the other version is tried. One that has accepted a
            # connection before is only away.
            self._mqtt5 = not self._mqtt5


def broker_at(host: str, port: int) -> str:
    """What people call it by."""
    return f"the broker at {host}:{port}"


def describe_error(error: Exception, host: str, port: int, *, tls: bool) -> str:
    """An error of a connection that was not made, or broke."""
    name = broker_at(host, port)
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"{name}: its certificate is not trusted ({error.verify_message}); name the authority's file in tls_ca"
            )
        case ssl.SSLError() | ConnectionResetError() if tls:
            reason = getattr(error, "reason", None) or error.strerror or error
            return f"{name}: TLS failed ({reason}); is it the port for TLS, and does it ask for a certificate?"
        case FileNotFoundError() if error.filename:
            return f"{error.filename}: there is no such file"
        case ConnectionRefusedError():
            return f"{name} refuses connections: is it running, and is the port right?"
        case socket.gaierror():
            return f"{host}: there is no such host"
        case TimeoutError():
            return f"{name} does not answer: is a firewall in the way?"
        case OSError() if error.errno:
            return f"{name} cannot be reached: {os.strerror(error.errno)}"
    return f"{name} cannot be reached: {error}"
