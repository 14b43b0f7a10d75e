"""Connection to a broker for tests of the outbound side: paho on the event loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from hub.mqtt.connection import BrokerConnection
from hub.mqtt.message import Publish
from hub.mqtt.outbound import Outbound
from hub.mqtt.paho_client import UserProperties

UNLIMITED = 65_535


class Connection:
    """Connection as Outbound uses it. It counts the most messages that were ever in flight."""

    def __init__(self, outbound: Outbound | None = None) -> None:
        self.receive_maximum = UNLIMITED
        self.maximum_packet_size: int | None = None
        self.mqtt5 = True
        self.received: list[paho.MQTTMessage] = []
        self.ended = asyncio.Event()
        self.most_in_flight = 0
        self._outbound = outbound
        self._came = asyncio.Event()
        self._ready = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._client = client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.max_inflight_messages_set(0)
        client.on_socket_open = lambda c, _, sock: self._loop.add_reader(sock, c.loop_read)
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = lambda c, _, sock: self._loop.add_writer(sock, c.loop_write)
        client.on_socket_unregister_write = self._on_written
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = lambda *_: self._subscribed.set()

    def publish(self, message: Publish, properties: UserProperties | None = None) -> int:
        info = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise ConnectionError(paho.error_string(info.rc))
        if self._outbound is not None:
            self.most_in_flight = max(self.most_in_flight, self._outbound.counts.in_flight + 1)
        return info.mid

    async def open(self, port: int) -> None:
        """Connect. The event loop drives the connection from then on."""
        self._client.connect_async("127.0.0.1", port, clean_start=True)
        self._client.reconnect()
        await self._ready.wait()

    async def subscribe(self, filter: str) -> None:
        self._subscribed.clear()
        self._client.subscribe(filter, qos=1)
        await self._subscribed.wait()

    async def got(self, count: int) -> list[paho.MQTTMessage]:
        """Wait for this many messages and return them."""
        while len(self.received) < count:
            self._came.clear()
            await self._came.wait()
        return self.received

    async def close(self) -> None:
        if not self.ended.is_set():
            self._client.disconnect()
            await self.ended.wait()

    def _on_connect(self, client: Any, _: Any, flags: Any, reason: Any, properties: Properties | None) -> None:
        self.receive_maximum = getattr(properties, "ReceiveMaximum", UNLIMITED)
        self.maximum_packet_size = getattr(properties, "MaximumPacketSize", None)
        if self._outbound is not None:
            self._outbound.connected(cast("BrokerConnection", self))
        self._ready.set()

    def _on_socket_close(self, client: Any, _: Any, sock: Any) -> None:
        self._loop.remove_reader(sock)

    def _on_written(self, client: Any, _: Any, sock: Any) -> None:
        self._loop.remove_writer(sock)

    def _on_disconnect(self, *_: Any) -> None:
        self.ended.set()
        self._ready.set()
        if self._outbound is not None:
            self._outbound.disconnected()

    def _on_publish(self, client: Any, _: Any, id: int, reason: Any, properties: Any) -> None:
        if self._outbound is not None:
            self._outbound.acknowledged(id, reason.value)

    def _on_message(self, client: Any, _: Any, message: paho.MQTTMessage) -> None:
        self.received.append(message)
        self._came.set()


@contextlib.asynccontextmanager
async def connected(port: int, outbound: Outbound | None = None) -> AsyncIterator[Connection]:
    """Open a connection and close it at the end."""
    connection = Connection(outbound)
    await connection.open(port)
    try:
        yield connection
    finally:
        await connection.close()


def properties_of(message: paho.MQTTMessage) -> dict[str, str]:
    """Return the user properties of a message."""
    assert message.properties is not None
    assert message.properties.packetType == PacketTypes.PUBLISH
    return dict(getattr(message.properties, "UserProperty", []))
