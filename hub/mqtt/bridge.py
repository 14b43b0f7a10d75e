"""Bridge to one broker: its connection, the inbound messages and the outbound readings."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import structlog

from hub.model.bridge import BridgeState, Phase
from hub.mqtt.command_links import CommandLinks
from hub.mqtt.command_requests import CommandRequests
from hub.mqtt.command_topic import CommandTopic, command_overlaps
from hub.mqtt.connection import BrokerConnection, BrokerOptions, BrokerSession, ConnectionListener
from hub.mqtt.decoders.configured import ConfiguredDecoder
from hub.mqtt.discovery import OFFLINE, ONLINE, Discovery, discovery_subscriptions
from hub.mqtt.inbound import Inbound
from hub.mqtt.message import Decoded, Message, Publish
from hub.mqtt.outbound import Outbound
from hub.mqtt.paho_client import EncodedProperties
from hub.mqtt.presence import PresenceMessages, check_presence_topic
from hub.mqtt.publication import Publication, publication_loops
from hub.mqtt.setting_requests import REPORTED, SettingMessages, SettingRequests
from hub.mqtt.sparkplug.host import HostApplication
from hub.mqtt.subscriptions import Subscription, Subscriptions, SubscriptionStore
from hub.mqtt.topics import TopicTemplate

NOT_AUTHORIZED = 0x87
"""Reason code of PUBACK (MQTT 5.0, table 3-4)."""

HOST_TICK_S = 1.0
"""Interval at which the deadlines of a Sparkplug host application are checked."""

log = structlog.get_logger(__name__)


class BridgePlan(NamedTuple):
    """Parts of a bridge that depend on the settings alone."""

    options: BrokerOptions
    decoders: Sequence[ConfiguredDecoder]
    publications: Sequence[Publication]
    discovery_prefix: str
    is_discovery_enabled: bool
    status_topic: str
    presence_topic: TopicTemplate | None = None
    command_topic: CommandTopic | None = None
    setting_topic: CommandTopic | None = None

    @property
    def client_topics(self) -> list[CommandTopic]:
        """Topics on which clients of the broker command devices."""
        return [topic for topic in (self.command_topic, self.setting_topic) if topic is not None]

    @property
    def subscriptions(self) -> list[Subscription]:
        """Subscriptions of all decoders. A filter of several decoders is requested once, as the last one needs it."""
        by_filter: dict[str, Subscription] = {}
        for wanted in (wanted for decoder in self.decoders for wanted in decoder.subscriptions):
            is_always = wanted.always or by_filter.get(wanted.filter, wanted).always
            by_filter[wanted.filter] = wanted._replace(always=is_always)
        subscriptions = [*by_filter.values()]
        if self.publications:
            subscriptions += discovery_subscriptions(self.discovery_prefix, self.is_discovery_enabled)
        # At QoS 0 the broker keeps no command for a hub that is not connected, and delivers none a second time.
        return subscriptions + [Subscription(topic.filter, qos=0, as_published=True) for topic in self.client_topics]

    @property
    def own_topics(self) -> list[TopicTemplate]:
        """Topics that the hub publishes to, or is commanded by: answers to other programs do not belong there."""
        own = [publication.topic for publication in self.publications]
        own += [template for template in (self.presence_topic,) if template is not None]
        if self.status_topic:
            own.append(TopicTemplate.parse(self.status_topic))
        for topic in self.client_topics:
            own += [topic.template, TopicTemplate.parse(topic.template.text + REPORTED)]
        own.append(TopicTemplate.parse(f"{self.discovery_prefix}/#"))
        return own + [TopicTemplate.parse(wanted.filter) for wanted in self.subscriptions if wanted.always]

    @property
    def host(self) -> HostApplication | None:
        """Sparkplug host application among the decoders."""
        decoders = (configured.decoder for configured in self.decoders)
        return next((decoder for decoder in decoders if isinstance(decoder, HostApplication)), None)

    def check(self) -> None:
        """Raise ValueError if published messages would return through a subscription, or commands would be readings."""
        filters = [wanted.filter for wanted in self.subscriptions]
        loops = publication_loops(self.publications, filters)
        if self.presence_topic is not None:
            check_presence_topic(self.presence_topic)
            presence = Publication(self.presence_topic, "json")
            loops += publication_loops([presence], filters)
        for topic in self.client_topics:
            loops += command_overlaps(topic, filters)
        if self.setting_topic is not None:
            reported = Publication(TopicTemplate.parse(self.setting_topic.template.text + REPORTED), "json")
            loops += publication_loops([reported], filters)
        _ = self.own_topics
        if loops:
            raise ValueError("; ".join(loops))


class Bridge(ConnectionListener):
    """Bridge to one broker."""

    def __init__(self, plan: BridgePlan, *, name: str, address: str, store: SubscriptionStore) -> None:
        self.name = name
        self.inbound: Inbound
        """Set before `run`, because it publishes through the bridge."""
        self.outbound: Outbound | None = None
        self.discovery: Discovery | None = None
        self.presence: PresenceMessages | None = None
        self.requests: CommandRequests | None = None
        """Commands of the broker's clients; None if they may send none."""
        self.setting_requests: SettingRequests | None = None
        """Desired values of the broker's clients; None if they may set none."""
        self.settings: SettingMessages | None = None
        self.commands: CommandLinks | None = None
        """Commands to the devices of the broker; None if they get none."""
        self.subscriptions = Subscriptions(plan.subscriptions, store.refused)
        self._session = BrokerSession(plan.options, self)
        self._address = address
        self._store = store
        # For this connection: whether the broker's refusals changed, and whether all was requested again because of it.
        self._refusals_changed = self._has_resubscribed = False
        self._decoders = [configured.decoder for configured in plan.decoders]
        self._host = plan.host
        # A connection has only one will, which a host application needs for its own state.
        is_host = plan.host is not None and bool(plan.host.state_topic)
        self._status_topic = "" if is_host else plan.status_topic
        self._connection: BrokerConnection | None = None
        self._version = ""
        self._phase: Phase = "connecting"
        self._since_ns = time.time_ns()
        self._last_error: str | None = None

    @property
    def state(self) -> BridgeState:
        """Current state."""
        return BridgeState(
            self.name, self._address, self._version, self._phase, self._since_ns, self._last_error,
            self.inbound.counts,
            self.outbound.counts if self.outbound is not None else None,
            self._host.counts if self._host is not None else None,
        )  # fmt: skip

    async def run(self) -> None:
        """Run until cancelled. An unreachable broker is not an error of the hub."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._session.run(), name=f"{self.name} connection")
                tasks.create_task(self.inbound.run(), name=f"{self.name} inbound")
                if self.outbound is not None:
                    tasks.create_task(self.outbound.run(), name=f"{self.name} outbound")
                if self.requests is not None:
                    tasks.create_task(self.requests.run(), name=f"{self.name} commands")
                if self.setting_requests is not None:
                    tasks.create_task(self.setting_requests.run(), name=f"{self.name} settings")
                if self._host is not None:
                    tasks.create_task(self._run_host(self._host), name=f"{self.name} host")
        finally:
            self.inbound.disconnect("the hub stops")

    @property
    def availability(self) -> dict[str, str] | None:
        """Topic of the bridge's own presence in the form of Home Assistant's discovery, or None."""
        if self._host is not None and self._host.state_topic:
            template = "{{ 'online' if value_json.online else 'offline' }}"
            return {"topic": self._host.state_topic, "value_template": template}
        return {"topic": self._status_topic} if self._status_topic else None

    def metric_changed(self, device: str, names: Iterable[str]) -> None:
        """Read the next values of a metric by its new type; `names` are all that it ever had."""
        for decoder in self._decoders:
            for name in names:
                decoder.forget(device, name)

    def presence_changed(self, device: str) -> None:
        """Announce that a device connected to the hub or disconnected, or that its presence changed otherwise."""
        if self.discovery is not None:
            self.discovery.presence_changed(device)
        if self.presence is not None:
            self.presence.presence_changed(device)

    def commands_declared(self, device: str) -> None:
        """Announce that a device declares other commands or settings than before."""
        if self.discovery is not None:
            self.discovery.commands_changed(device)

    def setting_changed(self, device: str) -> None:
        """Announce that the values of settings of a device may have changed."""
        if self.settings is not None:
            self.settings.setting_changed(device)

    def service_changed(self) -> None:
        """Announce that a device was retired or put back into service."""
        if self.discovery is not None:
            self.discovery.mark_changed()

    def publish(self, message: Publish, properties: EncodedProperties | None = None) -> int | None:
        """Publish a message, without `properties` in MQTT 3.1.1; return its id. Without a connection it is dropped."""
        if self._connection is not None:
            with contextlib.suppress(ConnectionError):
                return self._connection.publish(message, properties if self._connection.mqtt5 else None)
        return None

    def will(self) -> Publish | None:
        """Return the host application's death certificate or the status "offline": a connection has only one will."""
        will = self._host.will(time.time_ns()) if self._host is not None else None
        return will or self._status(OFFLINE)

    def _status(self, payload: bytes) -> Publish | None:
        return Publish(self._status_topic, payload, 1, True) if self._status_topic else None

    def connected(self, connection: BrokerConnection, *, is_resumed: bool) -> None:
        """Subscribe and announce the hub."""
        self._connection = connection
        self._refusals_changed = self._has_resubscribed = False
        self._version = "5" if connection.mqtt5 else "3.1.1"
        self._set_phase("connected", None)
        self.inbound.connected(is_resumed=is_resumed)
        wanted = [subscription.filter for subscription in self.subscriptions]
        obsolete = self._store.obsolete(wanted) if is_resumed else []
        self._save([*wanted, *obsolete])
        connection.unsubscribe(obsolete)
        connection.subscribe([*self.subscriptions])
        if self._host is not None:
            self._handle(self._host.connected(time.time_ns()))
        if status := self._status(ONLINE):
            self.publish(status)
        if self.outbound is not None:
            self.outbound.connected(connection)
        if self.commands is not None:
            self.commands.connected()

    def messages_received(self, connection: BrokerConnection, messages: Sequence[Message]) -> None:
        """Pass commands to the devices, and the other messages to the inbound side."""
        if self.requests is not None:
            messages = self.requests.take(messages)
        if self.setting_requests is not None:
            messages = self.setting_requests.take(messages)
        if messages:
            self.inbound.receive(connection, messages)

    def message_acknowledged(self, message_id: int, reason: int) -> None:
        """Pass an acknowledgement to the outbound side and the commands."""
        if self.outbound is not None:
            self.outbound.acknowledged(message_id, reason)
        if self.commands is not None:
            self.commands.acknowledged(message_id, reason)

    def publish_refused(self, reason: int) -> None:
        """Report that the broker rejects messages: its clients never get them, so an operator must know."""
        why = "this user may not publish there" if reason == NOT_AUTHORIZED else f"reason code 0x{reason:02X}"
        self._set_phase(self._phase, f"the broker rejects published messages, which are skipped: {why}")

    def subscribed(self, refused: Sequence[str], lowered: Sequence[str], *, complete: bool) -> None:
        """Record which filters the broker refuses. All other messages arrive."""
        known = self.subscriptions.refused
        self._refusals_changed |= self.subscriptions.update_refused(refused if complete else known.union(refused))
        if complete and self._refusals_changed and not self._has_resubscribed and self._connection is not None:
            # Only once a connection: a broker with changing answers would otherwise be asked forever.
            self._has_resubscribed = True
            wanted = [subscription.filter for subscription in self.subscriptions]
            self._save([*wanted, *self._store.obsolete(wanted)])
            self._connection.subscribe([*self.subscriptions])
            return
        problems = []
        if refused:
            problems.append(f"the broker refuses the subscription {', '.join(refused)}: this user may not read it")
        if lowered:
            problems.append(
                f"the broker grants {', '.join(lowered)} only at QoS 0: messages are lost when a connection breaks"
            )
        if problems:
            self._set_phase("connected", "; ".join(problems))

    def unsubscribed(self) -> None:
        """Record that the broker removed the subscriptions of earlier settings."""
        self._save([subscription.filter for subscription in self.subscriptions])

    def disconnected(self, reason: str) -> None:
        """Handle the end of the connection, or an attempt that failed."""
        if self._connection is not None:
            self._connection = None
            if self.commands is not None:
                self.commands.disconnected()
            if self.outbound is not None:
                self.outbound.disconnected()
            if self._host is not None:
                self._handle(self._host.disconnected(time.time_ns()))
        self._set_phase("waiting", reason)

    def _save(self, filters: Sequence[str]) -> None:
        try:
            self._store.save(filters, self.subscriptions.refused)
        except OSError as error:
            # A full disk is reported elsewhere. Without the file the hub may receive unwanted messages.
            log.warning("cannot save subscriptions", bridge=self.name, error=str(error))

    def _set_phase(self, phase: Phase, error: str | None) -> None:
        if (phase, error) != (self._phase, self._last_error):
            log.info("broker connection changed", bridge=self.name, phase=phase, error=error)
            if phase != self._phase:
                self._since_ns = time.time_ns()
            self._phase, self._last_error = phase, error

    async def _run_host(self, host: HostApplication) -> None:
        while True:
            await asyncio.sleep(HOST_TICK_S)
            self._handle(host.expire(time.time_ns()))

    def _handle(self, decoded: Sequence[Decoded]) -> None:
        if decoded:
            self.inbound.handle(decoded, Message("", b"", received_ns=time.time_ns()))
