"""Composition of the bridges to MQTT brokers: from the settings, and from the services of the other packages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

from formats.names import legal_device
from formats.rules import rules_of
from hub.app.errors import HubError
from hub.config.mqtt import MqttCommandSettings, MqttSettings
from hub.ingest.command_dispatcher import CommandDispatcher
from hub.ingest.desired_dispatcher import DesiredDispatcher
from hub.ingest.device import CommandInbox, Devices
from hub.ingest.foreign_readings import EPOCH, ForeignReadings
from hub.ingest.quarantine_actions import MessageDecoder
from hub.ingest.recent_readings import RecentReadings
from hub.journal.consumer import EntryReader
from hub.journal.journal import Journal
from hub.live.hub import LiveHub
from hub.model.batch import Batch, Entry, Series
from hub.model.bridge import DecodedMessage
from hub.model.presence import NO_PRESENCE, DevicePresence
from hub.mqtt.bridge import Bridge, BridgePlan
from hub.mqtt.check import BrokerCheck
from hub.mqtt.command_links import CommandLinks
from hub.mqtt.command_requests import CommandRequests
from hub.mqtt.command_topic import CommandTopic
from hub.mqtt.connection import BrokerOptions, tls_context
from hub.mqtt.decoders.command_template import CommandTemplate
from hub.mqtt.decoders.configured import ConfiguredDecoder, configured_decoders
from hub.mqtt.decoders.fields import DecoderContext
from hub.mqtt.decoders.mapping import TopicMapping
from hub.mqtt.discovery import Discovery
from hub.mqtt.inbound import BridgeEpochs, Inbound
from hub.mqtt.outbound import Outbound, remove_consumers
from hub.mqtt.presence import PresenceMessages
from hub.mqtt.publication import Publication
from hub.mqtt.request_answers import RequestAnswers
from hub.mqtt.setting_requests import SettingMessages, SettingRequests
from hub.mqtt.subscriptions import SubscriptionStore
from hub.mqtt.topics import TopicTemplate
from hub.registry.database import FILE_NAME as REGISTRY_FILE
from hub.registry.directory import DeviceDirectory
from hub.registry.registry import Registry
from integrity.database import DatabaseSnapshot
from wire.command import ParameterValue
from wire.errors import WireError
from wire.model import Metric, MetricType

WARM_START_ENTRIES = 50_000
"""Newest journal entries that are read at the start to recognize redelivered messages. Takes a second at most."""


def check_bridges(settings: Sequence[MqttSettings]) -> None:
    """Raise HubError if the settings of a bridge cannot work. Reads the files that the settings name."""
    for bridge in settings:
        _plan(bridge, bridge.client_id, DecoderContext())


@asynccontextmanager
async def broker_check(settings: MqttSettings, *, zone: str, data: Path) -> AsyncIterator[BrokerCheck]:
    """Give a trial of a bridge with the devices and types of the hub in this directory, which may be running.

    It works on a copy of the registry. Raises ValueError, and OSError for a file that cannot be read.
    """
    with TemporaryDirectory(prefix="hub-check-") as folder:
        copy = Path(folder) / REGISTRY_FILE
        if (data / REGISTRY_FILE).exists():
            with DatabaseSnapshot(data / REGISTRY_FILE) as snapshot:
                snapshot.copy(copy, lambda _: None)
        async with Registry(copy) as registry:
            context = DecoderContext(ZoneInfo(zone), partial(known_type, registry))
            options = _options(settings, f"telemetry-hub-check-{token_hex(4)}")
            decoders = _decoders(settings, context)
            yield BrokerCheck(options, decoders, TrialDirectory(registry), name=settings.name, hub=registry.id)


@dataclass(slots=True)
class TrialDirectory:
    """Implements hub.ingest.agent_session.MetricDirectory for a copy of the registry."""

    registry: Registry

    async def declare(self, device: str, metrics: Sequence[Metric]) -> Mapping[str, Series | WireError]:
        """Return all metrics of the device; a WireError for each whose type conflicts."""
        return await self.registry.declare(device, metrics)

    def record(self, device: str, kind: str, detail: str, time_ns: int | None = None) -> None:
        """Ignore events."""

    def describe(self, device: str, *, tags: Mapping[str, str], agent: str) -> None:
        """Ignore tags."""


async def open_bridges(
    settings: Sequence[MqttSettings],
    *,
    data: Path,
    registry: Registry,
    journal: Journal,
    live: LiveHub,
    devices: Devices,
    commands: CommandDispatcher,
    desired: DesiredDispatcher,
    reader: EntryReader,
    decode: Callable[[Entry], Batch],
    zone: str,
    public_url: str | None = None,
    presence: Callable[[str], DevicePresence] = lambda device: NO_PRESENCE,
) -> list[Bridge]:
    """Return the bridges, not yet running. Raises HubError if the settings of a bridge cannot work.

    `zone` is that of times without an offset, `public_url` the hub's address in messages, `presence` that of a device.
    """
    remove_consumers(journal, keep=[bridge.name for bridge in settings if bridge.publish])
    directory = DeviceDirectory(registry, journal, live, clock=devices.clock)
    context = DecoderContext(ZoneInfo(zone), partial(known_type, registry), topic_name=partial(topic_name, devices))
    relayed = {BridgeEpochs.of(bridge.name).relayed for bridge in settings}
    bridges = []
    for bridge_settings in settings:
        name = bridge_settings.name
        client_id = bridge_settings.client_id or f"telemetry-hub-{registry.id[:8]}-{name}"
        plan = _plan(bridge_settings, client_id, context)
        epochs = BridgeEpochs.of(name)
        store = SubscriptionStore(data / f"mqtt-{name}.json")
        bridge = Bridge(plan, name=name, address=bridge_settings.url, store=store)
        decoders = [configured.decoder for configured in plan.decoders]
        if plan.publications:
            # Readings from this broker do not return to it, and readings that any hub has published are not published
            # again: hubs that share two brokers would exchange them forever.
            excluded = {*relayed, epochs.own}
            bridge.discovery = _discovery(bridge, plan, registry, devices, excluded, public_url)
            bridge.presence = _presence(bridge, plan, registry, devices, excluded, presence)
            bridge.settings = _setting_messages(bridge, plan, registry, desired)
            # First in the list: a preset could take Home Assistant's birth message for that of a node.
            decoders.insert(0, bridge.discovery)
            bridge.outbound = Outbound(
                journal, plan.publications, name=name, hub=registry.id, excluded_epochs=excluded, decode=decode,
                discovery=bridge.discovery, presence=bridge.presence, settings=bridge.settings,
                on_refused=bridge.publish_refused,
            )  # fmt: skip
            bridge.outbound.register()
        recent = await recent_readings(journal, reader, epochs, WARM_START_ENTRIES)
        bridge.inbound = Inbound(
            devices, directory, decoders, name=name, hub=registry.id,
            options=plan.options, subscriptions=bridge.subscriptions, recent=recent, publish=bridge.publish,
        )  # fmt: skip
        _open_requests(bridge, plan, registry, commands, desired)
        if bridge_settings.allow_commands:
            bridge.commands = bridge.inbound.commands = _commands(bridge, plan, devices, commands, directory)
        bridges.append(bridge)

    _watch_changes(bridges, registry, desired)
    return bridges


def _watch_changes(bridges: Sequence[Bridge], registry: Registry, desired: DesiredDispatcher) -> None:
    """Report changes of metrics, commands and settings to the bridges."""

    def metric_changed(series: Series) -> None:
        for bridge in bridges:
            bridge.metric_changed(series.device, {series.metric, *series.names})

    def commands_declared(device: str) -> None:
        for bridge in bridges:
            bridge.commands_declared(device)

    def setting_changed(device: str) -> None:
        for bridge in bridges:
            bridge.setting_changed(device)

    def settings_declared(device: str) -> None:
        commands_declared(device)
        setting_changed(device)

    registry.watch_series(metric_changed)
    registry.commands.watch_declared(commands_declared)
    registry.desired.watch_declared(settings_declared)
    desired.watch_all(setting_changed)


def message_decoder(bridges: Sequence[Bridge], readings: ForeignReadings) -> MessageDecoder:
    """Return the function that decodes a message in quarantine again, as the part of the hub that received it."""
    inbound = {bridge.inbound.epoch: bridge.inbound for bridge in bridges}

    async def decode(entry: Entry) -> DecodedMessage:
        if entry.epoch == EPOCH:
            return await readings.decode_again(entry)
        receiver = inbound.get(entry.epoch)
        if receiver is None:
            return DecodedMessage(reason=("topic", "the settings no longer have the broker of the message"))
        return await receiver.decode_again(entry)

    return decode


def known_type(registry: Registry, device: str, metric: str) -> MetricType | None:
    """Return the type that a metric of a device has in the hub, None for an unknown metric."""
    known = registry.devices.get(device)
    series = known.names.get(metric) if known is not None else None
    return None if series is None else series.type


def topic_name(devices: Devices, id: str) -> str:
    """Return the name of a device in topics: that of its tag `name` if its id is a changed form of it."""
    device = devices.get(id)
    name = device.tags.get("name", id) if device is not None else id
    return name if legal_device(name) == id else id


def _plan(settings: MqttSettings, client_id: str, context: DecoderContext) -> BridgePlan:
    """Return the parts of a bridge that depend on the settings alone. Raises HubError."""
    try:
        publications = [
            Publication(
                topic=TopicTemplate.parse(publish.topic), payload=publish.payload, qos=publish.qos,
                retain=publish.retain, every_s=publish.every, historical=publish.historical, devices=publish.devices,
            )
            for publish in settings.publish
        ]  # fmt: skip
        plan = BridgePlan(
            _options(settings, client_id),
            _decoders(
                settings, context._replace(commands_from=(client_id or "hub") if settings.allow_commands else "")
            ),
            publications,
            settings.discovery.prefix,
            settings.discovery.enabled,
            settings.will_topic.replace("{client_id}", client_id),
            TopicTemplate.parse(settings.presence_topic) if settings.presence_topic else None,
            CommandTopic(TopicTemplate.parse(settings.command_topic), settings.command_devices)
            if settings.command_topic
            else None,
            CommandTopic(TopicTemplate.parse(settings.setting_topic), settings.command_devices, "setting")
            if settings.setting_topic
            else None,
        )
        plan.check()
        return plan
    except (ValueError, OSError) as error:
        raise HubError(f"mqtt {settings.name}: {error}") from None


def _decoders(settings: MqttSettings, context: DecoderContext) -> list[ConfiguredDecoder]:
    mappings = [
        TopicMapping(entry.topic, entry.payload, entry.qos, entry.function, entry.rules(settings.rules))
        for entry in settings.subscribe
    ]
    context = context._replace(rules=rules_of(settings.rules))
    templates = [_command_template(command, context.commands_from) for command in settings.commands]
    return configured_decoders(
        mappings,
        settings.presets,
        commands=templates if context.commands_from else (),
        host_id=settings.host_id,
        share=settings.share,
        context=context,
    )


def _command_template(settings: MqttCommandSettings, client_id: str) -> CommandTemplate:
    response_topic = settings.response_topic.replace("{client_id}", client_id or "hub")
    return CommandTemplate(
        settings.devices,
        settings.declaration(),
        TopicTemplate.parse(settings.topic),
        settings.payload,
        TopicTemplate.parse(response_topic) if response_topic else None,
        TopicTemplate.parse(settings.confirm_topic) if settings.confirm_topic else None,
        settings.confirm_pattern,
        settings.repeat,
    )


def _options(settings: MqttSettings, client_id: str) -> BrokerOptions:
    address = settings.address
    password = settings.password.get_secret_value() if settings.password is not None else ""
    if settings.password_file is not None:
        password = settings.password_file.read_text(encoding="utf-8").strip()
    context = tls_context(settings.tls_ca, settings.tls_certificate, settings.tls_key) if address.tls else None
    return BrokerOptions(
        address.host, address.port, client_id,
        keepalive_s=settings.keepalive, session_expiry_s=settings.session_expiry,
        receive_maximum=settings.receive_maximum, user=settings.user, password=password, tls=context,
    )  # fmt: skip


def _discovery(
    bridge: Bridge,
    plan: BridgePlan,
    registry: Registry,
    devices: Devices,
    excluded: Set[str],
    public_url: str | None,
) -> Discovery:
    """Return the announcements for Home Assistant. If they are disabled, earlier ones are removed."""

    def announced() -> Mapping[str, Mapping[str, Series]]:
        return {
            name: known.series
            for name, known in registry.devices.items()
            if known.retired_ns is None and ((device := devices.get(name)) is None or device.epoch not in excluded)
        }

    def is_online(name: str) -> bool:
        device = devices.get(name)
        return device is not None and device.session is not None

    def notify() -> None:
        if bridge.outbound is not None:
            bridge.outbound.notify()

    return Discovery(
        plan.publications,
        hub=registry.id,
        version=version("telemetry-hub"),
        devices=announced,
        count=lambda: len(registry.series),
        is_online=is_online,
        on_change=notify,
        availability=bridge.availability,
        public_url=public_url,
        command_topic=plan.command_topic,
        commands=registry.commands.declared,
        setting_topic=plan.setting_topic,
        settings=registry.desired.declared,
        prefix=plan.discovery_prefix,
        enabled=plan.is_discovery_enabled,
    )


def _commands(
    bridge: Bridge, plan: BridgePlan, devices: Devices, inbox: CommandInbox, directory: DeviceDirectory
) -> CommandLinks:
    """Return the commands to the devices of a broker."""
    links = CommandLinks(
        inbox,
        [configured.decoder for configured in plan.decoders],
        declare=directory.declare_commands,
        publish=bridge.publish,
        report=bridge.inbound.report,
        found=bridge.inbound.declare_commands,
        is_present=bridge.inbound.is_present,
        clock=devices.clock,
    )
    devices.watch(links.device_changed)
    return links


def _open_requests(
    bridge: Bridge, plan: BridgePlan, registry: Registry, commands: CommandDispatcher, desired: DesiredDispatcher
) -> None:
    """Let clients of the broker command devices, as far as the settings allow it."""
    answers = RequestAnswers(bridge.name, bridge.publish, plan.own_topics, registry.devices.__contains__)
    if plan.command_topic is not None:
        bridge.requests = CommandRequests(
            plan.command_topic, commands, name=bridge.name, declared=registry.commands.declared,
            read=registry.commands.command, answers=answers,
        )  # fmt: skip
    if plan.setting_topic is not None:
        bridge.setting_requests = SettingRequests(
            plan.setting_topic, desired, name=bridge.name, declared=registry.desired.declared, answers=answers
        )


def _setting_messages(
    bridge: Bridge, plan: BridgePlan, registry: Registry, desired: DesiredDispatcher
) -> SettingMessages | None:
    """Return the messages with the values that devices report, None if the settings have no topic for them."""
    if plan.setting_topic is None:
        return None

    def reported(device: str) -> dict[str, ParameterValue]:
        report = desired.record(device).reported
        known = registry.devices.get(device)
        if report is None or known is None or known.retired_ns is not None:
            return {}
        names = {setting.name for setting in registry.desired.declared(device)}
        return {name: value for name, value in report.values.items() if name in names}

    def notify() -> None:
        if bridge.outbound is not None:
            bridge.outbound.notify()

    return SettingMessages(
        plan.setting_topic, devices=lambda: list(registry.devices), reported=reported, on_change=notify
    )


def _presence(
    bridge: Bridge,
    plan: BridgePlan,
    registry: Registry,
    devices: Devices,
    excluded: Set[str],
    presence: Callable[[str], DevicePresence],
) -> PresenceMessages | None:
    """Return the messages with the presence of devices, None if the settings have no topic for them."""
    if plan.presence_topic is None:
        return None

    def is_published(name: str) -> bool:
        device = devices.get(name)
        return device is not None and device.epoch not in excluded

    def notify() -> None:
        if bridge.outbound is not None:
            bridge.outbound.notify()

    return PresenceMessages(
        plan.presence_topic,
        devices=lambda: list(registry.devices),
        presence=presence,
        is_published=is_published,
        on_change=notify,
    )


async def recent_readings(
    journal: Journal, reader: EntryReader, epochs: Collection[str], entries: int, *, has_blocks: bool = False
) -> RecentReadings:
    """Return the readings that an input accepted before the hub was restarted, from the last entries of the journal."""
    recent = RecentReadings(has_blocks=has_blocks)
    after = max(journal.first_offset - 1, journal.last_offset - entries)
    async for read in reader.read_range(after, journal.last_offset):
        for entry in read:
            if entry.epoch in epochs:
                recent.add_entry(entry)
    return recent
