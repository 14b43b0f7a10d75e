"""The bridge to one broker: its connection, what comes in over it, and what goes out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

import structlog

from hub.model.bridge import BridgeState, Phase
from hub.mqtt.connection import BrokerConnection, BrokerOptions, BrokerSession
from hub.mqtt.discovery import OFFLINE, ONLINE, Discovery
from hub.mqtt.inbound import Inbound
from hub.mqtt.message import Message, Publish
from hub.mqtt.outbound import Outbound
from hub.mqtt.sparkplug.host import HostApplication
from hub.mqtt.subscriptions import Subscriptions, SubscriptionStore

NOT_AUTHORIZED = 0x87
"""Reason code of PUBACK (MQTT 5.0, table 3-4)."""

TICK_S = 1.0
"""How often a host application's deadlines are looked at."""

log = structlog.get_logger(__name__)


class Bridge:
    """Implements hub.mqtt.connection.Listener."""

    def __init__(
        self,
        options: BrokerOptions,
        *,
        name: str,
        address: str,
        subscriptions: Subscriptions,
        asked_before: SubscriptionStore,
        status_topic: str = "",
        host: HostApplication | None = None,
    ) -> None:
        self.name = name
        self.inward: Inbound | None = None
        self.outward: Outbound | None = None
        self.discovery: Discovery | None = None
        self._broker = BrokerSession(options, self)
        self._address = address
        self.subscriptions = subscriptions
        self._asked_before = asked_before
        # Of this connection: whether the broker gives other subscriptions than before, and was asked for them anew.
        self._is_news = self._has_asked_again = False
        self.status_topic = status_topic
        self._host = host
        self._link: BrokerConnection | None = None
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
            self._host.counts if self._host is not None else None,
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

    @property
    def availability(self) -> dict[str, str] | None:
        """Where it stands whether the bridge is there, as Home Assistant is told; None for nowhere."""
        if self._host is not None and self._host.state_topic:
            template = "{{ 'online' if value_json.online else 'offline' }}"
            return {"topic": self._host.state_topic, "value_template": template}
        return {"topic": self.status_topic} if self.status_topic else None

    def presence_changed(self, device: str) -> None:
        """A device came to the hub, or went."""
        if self.discovery is not None:
            self.discovery.presence_changed(device)

    def service_changed(self) -> None:
        """A device was retired, or is back."""
        if self.discovery is not None:
            self.discovery.changed()

    def say(self, message: Publish) -> None:
        """Publishes what a decoder wants to be said; nothing while there is no connection."""
        if self._link is not None:
            with contextlib.suppress(ConnectionError):
                self._link.publish(message)

    def will(self) -> Publish | None:
        """A host application's death, or that the hub is offline: a connection has one will only."""
        will = self._host.will(time.time_ns()) if self._host is not None else None
        return will or self._status(OFFLINE)

    def _status(self, said: bytes) -> Publish | None:
        return Publish(self.status_topic, said, 1, True) if self.status_topic else None

    def farewell(self) -> Sequence[Publish]:
        """What the will would say, since it is not said after a connection that ends in order."""
        return [said for said in (self.will(),) if said is not None]

    def connected(self, link: BrokerConnection, *, is_resumed: bool) -> None:
        """Subscribes, and says that the hub is there."""
        self._link = link
        self._is_news = self._has_asked_again = False
        self._version = "5" if link.mqtt5 else "3.1.1"
        self._turn("connected", None)
        if self.inward is not None:
            self.inward.connected(is_resumed=is_resumed)
        self._subscribe(link, is_resumed=is_resumed)
        if self._host is not None:
            self._found(self._host.connected(time.time_ns()))
        if status := self._status(ONLINE):
            self.say(status)
        if self.outward is not None:
            self.outward.connected(link)

    def arrived(self, link: BrokerConnection, message: Any) -> None:
        """A message of the broker's."""
        if self.inward is not None:
            self.inward.arrived(link, message)

    def refused(self, reason: int) -> None:
        """The broker has not taken a message: it is lost for those who listen there, so somebody has to be told."""
        why = "this user may not publish there" if reason == NOT_AUTHORIZED else f"its reason is 0x{reason:02X}"
        self._turn(self._phase, f"the broker refuses some of what is published, which is passed over: {why}")

    def published(self, id: int, reason: int) -> None:
        """An acknowledgement of the broker's."""
        if self.outward is not None:
            self.outward.arrived(id, reason)

    def _subscribe(self, link: BrokerConnection, *, is_resumed: bool) -> None:
        wanted = [one.filter for one in self.subscriptions]
        gone = self._asked_before.others_than(wanted) if is_resumed else []
        self._remember([*wanted, *gone])
        link.unsubscribe(gone)
        link.subscribe([*self.subscriptions])

    def _remember(self, filters: Sequence[str]) -> None:
        try:
            self._asked_before.keep(filters, self.subscriptions.refused)
        except OSError as error:
            # Of a disk that is full the hub speaks elsewhere; what is forgotten here costs messages nobody wants.
            log.warning("subscriptions cannot be remembered", bridge=self.name, error=str(error))

    def subscribed(self, refused: Sequence[str], lowered: Sequence[str], *, complete: bool) -> None:
        """The broker keeps some messages from us, or may lose them on the way: all others come."""
        known = self.subscriptions.refused
        self._is_news |= self.subscriptions.learn(refused if complete else known.union(refused))
        if complete and self._is_news and not self._has_asked_again and self._link is not None:
            # Once a connection: a broker that changes its mind each time would be asked for ever.
            self._has_asked_again = True
            gone = self._asked_before.others_than(one.filter for one in self.subscriptions)
            self._remember([*(one.filter for one in self.subscriptions), *gone])
            self._link.subscribe([*self.subscriptions])
            return
        told = []
        if refused:
            told.append(f"the broker refuses the subscription {', '.join(refused)}: this user may not read it")
        if lowered:
            told.append(
                f"the broker gives {', '.join(lowered)} at QoS 0 only: what is on its way when something breaks is lost"
            )
        if told:
            self._turn("connected", "; ".join(told))

    def unsubscribed(self) -> None:
        """What was asked for in earlier settings is gone."""
        self._remember([one.filter for one in self.subscriptions])

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

    async def _watch(self, host: HostApplication) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._found(host.expire(time.time_ns()))

    def _found(self, found: Sequence[Any]) -> None:
        if found and self.inward is not None:
            self.inward.found(found, Message("", b"", received_ns=time.time_ns()))
