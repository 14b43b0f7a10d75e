"""Connection to an MQTT broker, driven by the event loop.

`BrokerConnection` is one connection, from the first packet to the last. `BrokerSession` keeps a broker connected: it
reconnects with backoff. Every connection has a new client, so no state of an old one remains. The broker delivers
again what it keeps for the session; the owner publishes unacknowledged messages again.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from hub.mqtt.message import Message, Publish
from hub.mqtt.paho_client import BufferedClient, EncodedProperties
from hub.mqtt.subscriptions import Subscription
from wire.backoff import full_jitter

CONNECT_S = 10.0
"""Longest wait for the broker's answer to the first packet."""

PACKETS_PER_TURN = 256
"""Packets read before other tasks run: some milliseconds of the event loop."""

MAX_PACKET_BYTES = 16 * 1024 * 1024
"""Largest message accepted from the broker, which silently drops larger ones. Zigbee2MQTT's list of 2,000 devices is
about this large."""

TICK_S = 1.0
"""Interval of the keepalive check."""

FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0
"""First and longest bound of the reconnect delay."""

STABLE_S = 10.0
"""A connection that lasts this long, or that carried a message, resets the reconnect delay."""

SEND_RETAINED_ALWAYS, SEND_RETAINED_IF_NEW = 0, 1
"""Retain handling of a subscription (MQTT 5.0, section 3.8.3.1): with each connection, or only if it is new."""

UNSUPPORTED_VERSION, RETAIN_NOT_SUPPORTED, QOS_NOT_SUPPORTED = 0x84, 0x9A, 0x9B
BAD_CREDENTIALS = (0x86, 0x87)
"""Reason codes of CONNACK (MQTT 5.0, table 3-1). paho translates the codes of MQTT 3.1.1 into these."""


class BrokerError(Exception):
    """A connection that failed or ended. `code` is the broker's reason, if it sent one; `is_unreachable` means that
    no MQTT packet was exchanged."""

    def __init__(self, sentence: str, code: int | None = None, *, is_unreachable: bool = False) -> None:
        super().__init__(sentence)
        self.code = code
        self.is_unreachable = is_unreachable


class BrokerOptions(NamedTuple):
    """Address and session of a broker. `clean_start` asks for a session that ends with the connection."""

    host: str
    port: int
    client_id: str
    keepalive_s: int = 30
    session_expiry_s: int = 0
    receive_maximum: int = 1_000
    user: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None
    clean_start: bool = False


class ConnectionListener:
    """Receiver of a connection's events. No method waits. By default, events have no effect."""

    def will(self) -> Publish | None:
        """Return the message that announces the end of the connection. It is sent on an orderly end, too."""
        return None

    def connected(self, connection: BrokerConnection, *, is_resumed: bool) -> None:
        """Handle a new connection. `is_resumed` means that the broker still has the session."""

    def messages_received(self, connection: BrokerConnection, messages: Sequence[Message]) -> None:
        """Handle messages in the order of their arrival. At QoS 1 they must be acknowledged on this connection."""

    def message_acknowledged(self, message_id: int, reason: int) -> None:
        """Handle the acknowledgement of a published message."""

    def subscribed(self, refused: Sequence[str], lowered: Sequence[str], *, complete: bool) -> None:
        """Handle the answer to subscriptions. The broker refuses the filters `refused` and grants `lowered` at a lower
        QoS. `complete` means that all subscriptions are answered."""

    def unsubscribed(self) -> None:
        """Handle the confirmation that old subscriptions are removed."""

    def disconnected(self, reason: str) -> None:
        """Handle the end of the connection, or an attempt that failed."""


class BrokerConnection:
    """One connection, from its first packet to its end. Unacknowledged messages are dropped when it ends."""

    def __init__(
        self,
        options: BrokerOptions,
        listener: ConnectionListener,
        *,
        mqtt5: bool,
        max_qos: int = 1,
        may_retain: bool = True,
    ) -> None:
        """`max_qos` and `may_retain` are limits of the broker that are already known."""
        self.mqtt5 = mqtt5
        self.receive_maximum = 65_535
        self.maximum_packet_size: int | None = None
        self.is_accepted = False
        self.has_carried_messages = False
        self._max_qos = max_qos
        self._may_retain = may_retain
        self._has_identifiers = mqtt5
        self._options = options
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._answer: asyncio.Future[bool] = self._loop.create_future()
        self._is_open = self._is_paused = self._is_reading = self._is_writing = False
        # Unanswered subscriptions by message id, and the results of the answered ones.
        self._requested: dict[int, list[Subscription]] = {}
        self._refused: list[str] = []
        self._lowered: list[str] = []
        self._client = self._new_client()

    def _new_client(self) -> BufferedClient:
        options = self._options
        client = BufferedClient(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if self.mqtt5 else MQTTProtocolVersion.MQTTv311,
            clean_session=None if self.mqtt5 else options.clean_start,
            manual_ack=True,
            reconnect_on_failure=False,
            clock=time.time_ns,
        )
        client.max_inflight_messages_set(0)
        if options.user:
            client.username_pw_set(options.user, options.password)
        if options.tls is not None:
            client.tls_set_context(options.tls)
        client.on_socket_register_write = self._schedule_write
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_messages = self._on_messages
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = lambda *_: self._listener.unsubscribed()
        client.on_publish = self._on_publish
        return client

    async def open(self) -> bool:
        """Connect and return whether the broker resumed the session. Raises BrokerError."""
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
            options.host, options.port, options.keepalive_s, clean_start=options.clean_start, properties=properties
        )
        try:
            await asyncio.to_thread(self._client.reconnect)
        except (OSError, ValueError) as error:
            raise BrokerError(describe_error(error, options), is_unreachable=True) from None
        self._is_open = True
        buffered = self._client.buffered
        number = buffered.fileno()

        def release() -> None:
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)

        buffered.before_close = release
        self._loop.add_reader(number, self._readable)
        self._write()
        try:
            async with asyncio.timeout(CONNECT_S):
                return await self._answer
        except TimeoutError:
            raise BrokerError(
                f"{broker_name(options)} accepted the connection and does not answer; check that it is an MQTT broker"
            ) from None

    async def closed(self) -> str:
        """Wait for the end of the connection and return its reason."""
        while not self._ended.done():
            await asyncio.wait([self._ended], timeout=TICK_S)
            if not self._ended.done():
                self._client.loop_misc()
        return self._ended.result()

    def close(self) -> None:
        """End the connection. The broker gets the will and a DISCONNECT packet if the connection is still open."""
        if self._is_open and self.is_accepted:
            # The broker sends the will by itself only when a connection breaks.
            if (will := self._listener.will()) is not None:
                self.publish(will)
            self._client.disconnect()
            self._write()
        self._end("the hub closed the connection")

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Request subscriptions. Those with an identifier have a packet each, where the broker supports identifiers."""
        self._refused.clear()
        self._lowered.clear()
        identified = [wanted for wanted in subscriptions if wanted.identifier and self._has_identifiers]
        self._subscribe([wanted for wanted in subscriptions if wanted not in identified], None)
        for wanted in identified:
            properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
            properties.SubscriptionIdentifier = wanted.identifier
            self._subscribe([wanted], properties)

    def _subscribe(self, subscriptions: list[Subscription], properties: Properties | None) -> None:
        if not subscriptions:
            return
        topics: list[tuple[str, Any]] = [(wanted.filter, wanted.qos) for wanted in subscriptions]
        if self.mqtt5:
            topics = [
                (
                    wanted.filter,
                    SubscribeOptions(
                        wanted.qos,
                        # No-local on a shared subscription is a protocol error (MQTT 5.0, section 3.8.3.1). Messages
                        # that are wanted with each connection may be ones that this client retained itself.
                        noLocal=not (wanted.always or wanted.filter.startswith("$share/")),
                        retainAsPublished=wanted.as_published,
                        retainHandling=SEND_RETAINED_ALWAYS if wanted.always else SEND_RETAINED_IF_NEW,
                    ),
                )
                for wanted in subscriptions
            ]
        _, message_id = self._client.subscribe(topics, properties=properties)
        if message_id is not None:
            self._requested[message_id] = subscriptions

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Remove the subscriptions with these filters."""
        if filters:
            self._client.unsubscribe(list(filters))

    def publish(self, message: Publish, properties: EncodedProperties | None = None) -> int:
        """Send a message and return its id. Raises ConnectionError after the end of the connection.

        The listener hears of the acknowledgement after this method has returned, also at QoS 0.
        """
        if not self._is_open:
            raise ConnectionError("the connection has ended")
        qos, retain = min(message.qos, self._max_qos), message.retain and self._may_retain
        return self._client.publish(message.topic, message.payload, qos, retain, properties).mid

    def acknowledge(self, message_ids: Sequence[int]) -> None:
        """Acknowledge received messages. Does nothing after the end of the connection."""
        if self._is_open and message_ids:
            self._client.acknowledge(message_ids)
            self._schedule_write()

    def pause_reading(self) -> None:
        """Stop reading until `resume_reading`, so that the broker has to wait."""
        if self._is_open and not self._is_paused:
            self._is_paused = True
            self._loop.remove_reader(self._client.buffered.fileno())

    def resume_reading(self) -> None:
        """Continue after `pause_reading`."""
        if self._is_open and self._is_paused:
            self._is_paused = False
            self._loop.add_reader(self._client.buffered.fileno(), self._readable)
            self._schedule_read()

    def _readable(self) -> None:
        self._is_reading = False
        rest = PACKETS_PER_TURN
        while rest > 0:
            if not self._is_open or self._is_paused:
                return
            handled = self._client.read_packets(rest)
            if not handled:
                return
            rest -= handled
        self._schedule_read()

    def _schedule_read(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self._loop.call_soon(self._readable)

    def _schedule_write(self, *_: object) -> None:
        if self._is_open and not self._is_writing:
            self._is_writing = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Send everything that was handed over since the last turn of the event loop."""
        self._is_writing = False
        if not self._is_open:
            return
        buffered = self._client.buffered
        try:
            self._client.loop_write()
            is_empty = buffered.flush()
        except OSError as error:
            self._end(describe_error(error, self._options))
            return
        if buffered.fileno() < 0:
            return
        if is_empty and not self._client.want_write():
            self._loop.remove_writer(buffered.fileno())
        else:
            self._loop.add_writer(buffered.fileno(), self._write)

    def _on_connect(self, _client: object, _data: object, flags: Any, reason: Any, properties: Any) -> None:
        self.is_accepted = not reason.is_failure
        if self._answer.done():
            return
        if reason.is_failure:
            self._answer.set_exception(BrokerError(_describe_refusal(reason, self._options), reason.value))
            return
        self.receive_maximum = getattr(properties, "ReceiveMaximum", self.receive_maximum)
        self.maximum_packet_size = getattr(properties, "MaximumPacketSize", None)
        self._max_qos = min(self._max_qos, getattr(properties, "MaximumQoS", 1))
        self._may_retain = self._may_retain and bool(getattr(properties, "RetainAvailable", True))
        self._has_identifiers = self.mqtt5 and bool(getattr(properties, "SubscriptionIdentifierAvailable", True))
        self._answer.set_result(bool(flags.session_present))

    def _on_messages(self, messages: Sequence[Message]) -> None:
        self.has_carried_messages = True
        self._listener.messages_received(self, messages)

    def _on_publish(self, _client: object, _data: object, message_id: int, reason: Any, _properties: object) -> None:
        self.has_carried_messages = True
        self._listener.message_acknowledged(message_id, reason.value)

    def _on_subscribe(
        self, _client: object, _data: object, message_id: int, reasons: Sequence[Any], _properties: object
    ) -> None:
        for wanted, reason in zip(self._requested.pop(message_id, []), reasons, strict=False):
            if reason.is_failure:
                self._refused.append(wanted.filter)
            elif reason.value < wanted.qos:
                self._lowered.append(wanted.filter)
        # Report each answer at once: the next message may depend on a refused subscription.
        self._listener.subscribed(self._refused, self._lowered, complete=not self._requested)

    def _on_disconnect(self, _client: object, _data: object, flags: Any, reason: Any, _properties: object) -> None:
        ended = "ended the connection" if flags.is_disconnect_packet_from_server else "closed or lost the connection"
        hint = ""
        if not self._answer.done():
            hint = (
                "; check whether it requires a client certificate (tls_certificate)"
                if self._options.tls is not None
                else "; check whether the port requires TLS (mqtts://)"
            )
        self._end(f"{broker_name(self._options)} {ended}: {str(reason).lower()}{hint}")

    def _end(self, reason: str) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._client.buffered.close()
        if not self._answer.done():
            self._answer.set_exception(BrokerError(reason))
        if not self._ended.done():
            self._ended.set_result(reason)


class BrokerSession:
    """Keeps a broker connected until cancelled."""

    def __init__(
        self, options: BrokerOptions, listener: ConnectionListener, *, jitter: Callable[[], float] = random.random
    ) -> None:
        self._options = options
        self._listener = listener
        self._jitter = jitter
        self._mqtt5 = True
        self._is_version_known = False
        self._max_qos = 1
        self._may_retain = True

    async def run(self) -> None:
        """Connect, and reconnect after each failure. On cancellation, end the connection in order."""
        attempt = 0
        clock = asyncio.get_running_loop().time
        while True:
            connection = BrokerConnection(
                self._options, self._listener, mqtt5=self._mqtt5, max_qos=self._max_qos, may_retain=self._may_retain
            )
            began_s = clock()
            try:
                is_resumed = await connection.open()
                self._is_version_known = True
                self._listener.connected(connection, is_resumed=is_resumed)
                reason = await connection.closed()
                if connection.has_carried_messages or clock() - began_s >= STABLE_S:
                    attempt = 0
            except BrokerError as error:
                reason = str(error)
                self._adapt(error)
            finally:
                connection.close()
            self._listener.disconnected(reason)
            await asyncio.sleep(full_jitter(attempt, first=FIRST_RETRY_S, maximum=MAX_RETRY_S, random=self._jitter))
            attempt += 1

    def _adapt(self, error: BrokerError) -> None:
        """Use what a failed attempt reveals about the broker in the next attempt."""
        if error.code == QOS_NOT_SUPPORTED:
            self._max_qos = 0
        elif error.code == RETAIN_NOT_SUPPORTED:
            self._may_retain = False
        elif not self._is_version_known and may_need_other_version(error):
            self._mqtt5 = not self._mqtt5


def may_need_other_version(error: BrokerError) -> bool:
    """Return whether the other version of MQTT may succeed. A broker of MQTT 3.1.1 rejects version 5 or hangs up."""
    return error.code in (None, UNSUPPORTED_VERSION) and not error.is_unreachable


def tls_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Return the TLS settings of a connection. Raises ValueError for a missing file, OSError for a file that is not
    usable."""
    for path in (ca, certificate, key):
        if path is not None and not path.is_file():
            raise ValueError(f"{path}: file not found")
    context = ssl.create_default_context(cafile=ca)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def broker_name(options: BrokerOptions) -> str:
    """Return the name of the broker for messages to people."""
    return f"the broker at {options.host}:{options.port}"


def describe_error(error: Exception, options: BrokerOptions) -> str:
    """Return a sentence about a connection that failed or broke, with what to check."""
    name, uses_tls = broker_name(options), options.tls is not None
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"{name}: the certificate is not trusted ({error.verify_message}); set tls_ca to the file of its "
                "certificate authority"
            )
        case ssl.SSLError() | ConnectionResetError() if uses_tls:
            reason = getattr(error, "reason", None) or error.strerror or error
            return (
                f"TLS with {name} failed ({reason}); check that the port is the TLS port and whether the broker "
                "requires a client certificate"
            )
        case ConnectionRefusedError():
            return f"{name} refuses connections; check that it is running and that the port is right"
        case socket.gaierror():
            return f"host not found: {options.host}"
        case TimeoutError():
            return f"{name} does not answer; check the firewall"
        case OSError() if error.errno:
            return f"cannot connect to {name}: {os.strerror(error.errno)}"
    return f"cannot connect to {name}: {error}"


def _describe_refusal(reason: Any, options: BrokerOptions) -> str:
    name, text = broker_name(options), str(reason).lower()
    if reason.value in BAD_CREDENTIALS:
        if options.user:
            return f"{name} rejects this user or password ({text}); correct `user` and `password`"
        return f"{name} requires a user and a password ({text}); set `user` and `password`"
    return f"{name} rejects the connection: {text}"
