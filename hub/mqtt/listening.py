"""Listens to a broker for some seconds, for whoever wants to know what is there; nothing is kept anywhere."""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from hub.mqtt.connection import broker_at, describe_error
from hub.mqtt.message import Message
from hub.mqtt.subscriptions import Subscription, Subscriptions

CONNECT_S = 10.0
"""A broker that has not answered by then is taken to be away."""

TURN_S = 0.1
"""Of the network loop: how exactly the time to listen is kept."""

BROKER_VERSION = "$SYS/broker/version"
"""Where many brokers tell what they are."""

UNSUPPORTED = (0x84, 0x01)
"""Unsupported protocol version, in MQTT 5 and in 3.1.1."""

WRONG_CREDENTIALS = (0x86, 0x87, 0x04, 0x05)
"""Bad user name or password, and not authorized, in MQTT 5 and in 3.1.1."""


class Target(NamedTuple):
    """A broker, and who we are there."""

    host: str
    port: int
    tls: bool = False
    user: str = ""
    password: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Heard(NamedTuple):
    """What is known of the broker after listening: MQTT's version, what it says it is, and filters it refused."""

    version: str
    broker: str
    refused: Sequence[str]


class CannotListen(Exception):
    """The broker cannot be listened to; the message says why and what to do."""


def listen(target: Target, filters: Sequence[str], seconds: float, take: Callable[[Message], None]) -> Heard:
    """Gives `take` every message of these filters for so long, in a session of its own that ends with it.

    MQTT 5 where the broker speaks it, else 3.1.1. Raises CannotListen.
    """
    for version in (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311):
        heard = _Listener(target, filters, take, version).run(seconds)
        if heard is not None:
            return heard
    raise CannotListen(f"{broker_at(target.host, target.port)} speaks neither MQTT 5 nor MQTT 3.1.1")


class _Client(paho.Client):
    """paho's client, which would leave the socket of a TLS handshake that fails open."""

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        assert self._ssl_context is not None
        wrapped = self._ssl_context.wrap_socket(tcp_sock, server_hostname=self._host, do_handshake_on_connect=False)
        try:
            wrapped.settimeout(CONNECT_S)
            wrapped.do_handshake()
        except OSError:
            wrapped.close()
            raise
        return wrapped


class _Listener:
    def __init__(
        self, target: Target, filters: Sequence[str], take: Callable[[Message], None], version: MQTTProtocolVersion
    ) -> None:
        self._target = target
        filters = [*dict.fromkeys([*filters, BROKER_VERSION])]
        # A topic that several match comes once for each, of which MQTT 5 can tell.
        self._subscriptions = Subscriptions(Subscription(filter) for filter in filters)
        self._asked: dict[int | None, str] = {}
        self._take = take
        self._version = version
        self._answer: ReasonCode | None = None
        self._lost = ""
        self._broker = ""
        self._refused: list[str] = []
        self._client = _Client(
            CallbackAPIVersion.VERSION2, client_id=f"telemetry-hub-check-{secrets.token_hex(4)}", protocol=version
        )
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def run(self, seconds: float) -> Heard | None:
        """Listens; None where the broker does not speak this version. Raises CannotListen."""
        client, target = self._client, self._target
        client.connect_timeout = CONNECT_S
        if target.user:
            client.username_pw_set(target.user, target.password or None)
        try:
            if target.tls:
                client.tls_set_context(_context(target))
            client.connect(target.host, target.port)
            self._turn(CONNECT_S, until_answered=True)
            answer = self._answer
            if answer is None and not self._lost:
                name = broker_at(target.host, target.port)
                raise CannotListen(f"{name} took the connection and does not answer: is it an MQTT broker?")
            if answer is not None and answer.value in UNSUPPORTED and self._version is MQTTProtocolVersion.MQTTv5:
                return None
            if answer is None or answer.is_failure:
                raise CannotListen(_refusal(target, answer))
            self._turn(seconds)
        except OSError as error:
            raise CannotListen(describe_error(error, target.host, target.port, tls=target.tls)) from None
        finally:
            lost, self._lost = self._lost, ""
            client.disconnect()
        if lost:
            raise CannotListen(f"{broker_at(target.host, target.port)} ended the connection: {lost.lower()}")
        version = "5" if self._version is MQTTProtocolVersion.MQTTv5 else "3.1.1"
        return Heard(version, self._broker, self._refused)

    def _turn(self, seconds: float, *, until_answered: bool = False) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._lost:
            if until_answered and self._answer is not None:
                return
            error = self._client.loop(min(TURN_S, left))
            if error not in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_AGAIN) and not self._lost:
                self._lost = paho.error_string(error).rstrip(".").lower()

    def _on_connect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._answer = reason
        if reason.is_failure:
            return
        is_known = self._version is MQTTProtocolVersion.MQTTv5
        is_known = is_known and bool(getattr(properties, "SubscriptionIdentifierAvailable", True))
        for one in self._subscriptions:
            told = None
            if one.identifier and is_known:
                told = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
                told.SubscriptionIdentifier = one.identifier
            _, id = client.subscribe([(one.filter, one.qos)], properties=told)
            self._asked[id] = one.filter

    def _on_disconnect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._lost = str(reason)

    def _on_subscribe(
        self,
        client: paho.Client,
        userdata: Any,
        id: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        filter = self._asked.pop(id, BROKER_VERSION)
        if reasons[0].is_failure and filter != BROKER_VERSION:
            self._refused.append(filter)
            # What it would have brought comes by another one: from here on copies are not told apart.
            self._subscriptions.learn(self._refused)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        if message.topic == BROKER_VERSION:
            self._broker = message.payload.decode(errors="replace")
            return
        if self._subscriptions.is_copy(message.topic, getattr(message.properties, "SubscriptionIdentifier", ())):
            return
        self._take(
            Message(
                message.topic,
                bytes(message.payload),
                message.qos,
                message.retain,
                message.dup,
                received_ns=time.time_ns(),
            )
        )


def _context(target: Target) -> ssl.SSLContext:
    for path in (target.ca, target.certificate, target.key):
        if path is not None and not path.is_file():
            raise CannotListen(f"{path}: there is no such file")
    context = ssl.create_default_context(cafile=target.ca)
    if target.certificate is not None:
        context.load_cert_chain(target.certificate, target.key)
    return context


def _refusal(target: Target, answer: ReasonCode | None) -> str:
    if answer is None:
        return f"{broker_at(target.host, target.port)} ended the connection at once: " + (
            "does it ask for a certificate of ours (tls_certificate)?" if target.tls else "does the port speak TLS?"
        )
    if answer.value in WRONG_CREDENTIALS:
        what = "lets nobody in without user and password" if not target.user else "refuses this user and password"
        return f"{broker_at(target.host, target.port)} {what} ({str(answer).lower()})"
    return f"{broker_at(target.host, target.port)} refuses the connection: {str(answer).lower()}"
