"""The bridge to one broker: its connection, what comes in over it, and what goes out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

import structlog

from hub.contract.bridge import BridgeState, Phase
from hub.mqtt.client import Broker, Link, Options
from hub.mqtt.discovery import OFFLINE, ONLINE, Discovery
from hub.mqtt.inward import Inward
from hub.mqtt.outward import Outward
from hub.mqtt.reading import Message, Publish
from hub.mqtt.sparkplug.host import Host

TICK_S = 1.0
"""How often a host application's deadlines are looked at."""

log = structlog.get_logger(__name__)


class Bridge:
    """Implements hub.mqtt.client.Listener. `filters` are what the broker is asked for, each with its QoS."""

    def __init__(
        self,
        options: Options,
        *,
        name: str,
        address: str,
        filters: Sequence[tuple[str, int]],
        status_topic: str = "",
        host: Host | None = None,
    ) -> None:
        self.name = name
        self.inward: Inward | None = None
        self.outward: Outward | None = None
        self.discovery: Discovery | None = None
        self._broker = Broker(options, self)
        self._address = address
        self.filters = list(filters)
        self.status_topic = status_topic
        self._host = host
        self._link: Link | None = None
        self._version = ""
        self._phase: Phase = "connecting"
        self._since_ns = time.time_ns()
        self._last_error: str | None = None

    @property
    def state(self) -> BridgeState:
        """As it is now."""
        return BridgeState(
            self.name, self._address, self._version, self._phase, self._since_ns, self._last_error,
            self.inward.state if self.inward is not None else None,
            self.outward.state if self.outward is not None else None,
        )  # fmt: skip

    async def run(self) -> None:
        """Bridges until cancelled; the broker being away is none of the hub's failures."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._broker.run(), name=f"{self.name} connection")
                if self.inward is not None:
                    tasks.create_task(self.inward.run(), name=f"{self.name} inward")
                if self.outward is not None:
                    tasks.create_task(self.outward.run(), name=f"{self.name} outward")
                if self._host is not None:
                    tasks.create_task(self._watch(self._host), name=f"{self.name} host")
        finally:
            if self.inward is not None:
                self.inward.disconnect("the hub stops")

    def presence_changed(self, device: str) -> None:
        """A device came to the hub, or went."""
        if self.discovery is not None:
            self.discovery.presence_changed(device)

    def say(self, message: Publish) -> None:
        """Publishes what a decoder wants to be said; nothing while there is no connection."""
        if self._link is not None:
            with contextlib.suppress(ConnectionError):
                self._link.publish(message)

    def will(self) -> Publish | None:
        """A host application's death, or that the hub is offline."""
        will = self._host.will(time.time_ns()) if self._host is not None else None
        if will is None and self.status_topic:
            will = Publish(self.status_topic, OFFLINE, 1, True)
        return will

    def farewell(self) -> Sequence[Publish]:
        """What the will would say, since it is not said after a connection that ends in order."""
        will = self.will()
        return [will] if will is not None else []

    def connected(self, link: Link, *, is_resumed: bool) -> None:
        """Subscribes, and says that the hub is there."""
        self._link = link
        self._version = "5" if link.mqtt5 else "3.1.1"
        self._turn("connected", None)
        if self.inward is not None:
            self.inward.connected(is_resumed=is_resumed)
        link.subscribe(self.filters)
        if self._host is not None:
            self._found(self._host.connected(time.time_ns()))
        if self.status_topic:
            self.say(Publish(self.status_topic, ONLINE, 1, True))
        if self.outward is not None:
            self.outward.connected(link)

    def arrived(self, link: Link, message: Any) -> None:
        """A message of the broker's."""
        if self.inward is not None:
            self.inward.arrived(link, message)

    def published(self, id: int, reason: int) -> None:
        """An acknowledgement of the broker's."""
        if self.outward is not None:
            self.outward.arrived(id, reason)

    def refused(self, filters: Sequence[str]) -> None:
        """The broker keeps these messages from us: all others come."""
        self._turn("connected", f"the broker refuses the subscription {', '.join(filters)}: this user may not read it")

    def disconnected(self, why: str) -> None:
        """The connection has ended, or was not made."""
        if self._link is not None:
            self._link = None
            if self.outward is not None:
                self.outward.disconnected()
            if self._host is not None:
                self._found(self._host.disconnected(time.time_ns()))
        self._turn("waiting", why)

    def _turn(self, phase: Phase, error: str | None) -> None:
        if (phase, error) != (self._phase, self._last_error):
            log.info("mqtt", bridge=self.name, phase=phase, error=error)
            if phase != self._phase:
                self._since_ns = time.time_ns()
            self._phase, self._last_error = phase, error

    async def _watch(self, host: Host) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._found(host.expire(time.time_ns()))

    def _found(self, found: Sequence[Any]) -> None:
        if found and self.inward is not None:
            self.inward.found(found, Message("", b"", received_ns=time.time_ns()))
