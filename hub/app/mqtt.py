"""Makes the bridges to MQTT brokers from the settings, and joins them to the other rooms."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence, Set
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from hub.app.agent_directory import DeviceDirectory
from hub.app.errors import HubError
from hub.app.past import JournalAndStore
from hub.app.subscribing import takers_of
from hub.config import MqttSettings
from hub.ingest.intake import Intake
from hub.live.live import Live
from hub.model.batch import Batch, Entry, Series
from hub.model.journal import Journal
from hub.mqtt.bridge import Bridge
from hub.mqtt.connection import BrokerOptions
from hub.mqtt.discovery import Discovery, subscriptions_of
from hub.mqtt.inbound import BridgeEpochs, Inbound, RecentReadings
from hub.mqtt.message import Decoder
from hub.mqtt.outbound import Outbound, forget_removed
from hub.mqtt.publication import Publication, overlaps
from hub.mqtt.sparkplug.host import HostApplication
from hub.mqtt.subscriptions import Subscription, Subscriptions, SubscriptionStore
from hub.mqtt.topics import TopicTemplate
from hub.registry.registry import Registry

SEED_ENTRIES = 50_000
"""Of the journal's tail, read at the start for what a broker may give again: a second at most."""


class _Plan(NamedTuple):
    """What a bridge is made of, as far as the settings alone tell."""

    options: BrokerOptions
    decoders: list[Decoder]
    subscriptions: list[Subscription]
    host: HostApplication | None
    publications: Sequence[Publication]


def check_bridges(settings: Sequence[MqttSettings]) -> None:
    """Raises HubError for settings of which no bridge could be made."""
    for one in settings:
        _plan(one, one.client_id)


async def open_bridges(
    settings: Sequence[MqttSettings],
    *,
    data: Path,
    registry: Registry,
    journal: Journal,
    live: Live,
    intake: Intake,
    past: JournalAndStore,
    decode: Callable[[Entry], Batch],
) -> list[Bridge]:
    """The bridges, not yet running. Raises HubError for settings that cannot be."""
    forget_removed(journal, [one.name for one in settings if one.publish])
    directory = DeviceDirectory(registry, journal, live, clock=intake.clock)
    relayed = {BridgeEpochs.of(one.name).relayed for one in settings}
    return [
        await _open(
            one,
            data=data,
            registry=registry,
            journal=journal,
            intake=intake,
            directory=directory,
            past=past,
            decode=decode,
            relayed=relayed,
        )
        for one in settings
    ]


async def _open(
    settings: MqttSettings,
    *,
    data: Path,
    registry: Registry,
    journal: Journal,
    intake: Intake,
    directory: DeviceDirectory,
    past: JournalAndStore,
    decode: Callable[[Entry], Batch],
    relayed: Set[str],
) -> Bridge:
    plan = _plan(settings, settings.client_id or f"telemetry-hub-{registry.id[:8]}-{settings.name}")
    decoders = plan.decoders
    epochs = BridgeEpochs.of(settings.name)
    # What came from this broker does not go back to it, and what any hub has published goes nowhere: else hubs that
    # are joined by two brokers would hand it round for ever.
    kept = {*relayed, epochs.own}
    asked_before = SubscriptionStore(data / f"mqtt-{settings.name}.json")
    subscriptions = Subscriptions(plan.subscriptions, asked_before.refused)
    is_host = plan.host is not None and plan.host.state_topic
    bridge = Bridge(
        plan.options,
        name=settings.name,
        address=settings.url,
        subscriptions=subscriptions,
        asked_before=asked_before,
        # A connection has one will, and a host application's has to be its own.
        status_topic="" if is_host else settings.will_topic.replace("{client_id}", plan.options.client_id),
        host=plan.host,
    )
    if plan.publications:
        discovery = _discovery(settings, plan.publications, bridge, registry=registry, intake=intake, kept=kept)
        # Before presets that would take Home Assistant's birth message for a node's.
        decoders.insert(0, discovery)
        bridge.discovery = discovery
        bridge.outward = Outbound(
            journal, plan.publications, name=settings.name, hub=registry.id, kept_epochs=kept, decode=decode,
            description=discovery, on_refused=bridge.refused,
        )  # fmt: skip
        bridge.outward.begin()
    if decoders:
        recent = RecentReadings()
        await _remember(recent, journal, past, epochs)
        bridge.inward = Inbound(
            intake,
            directory,
            decoders,
            name=settings.name,
            hub=registry.id,
            epochs=epochs,
            subscriptions=subscriptions,
            receive_maximum=settings.receive_maximum,
            keepalive_s=settings.keepalive,
            recent=recent,
            said=bridge.say,
        )
    return bridge


def _plan(settings: MqttSettings, client_id: str) -> _Plan:
    """Reads the files that the settings name. Raises HubError."""
    try:
        takers = takers_of(settings)
        decoders = [one.decoder for one in takers]
        host = next((decoder for decoder in decoders if isinstance(decoder, HostApplication)), None)
        # The same filter of several is asked for once, as the last of them wants it.
        asked = {one.filter: one for taker in takers for one in taker.subscriptions}
        subscriptions = [*asked.values()]
        publications = [
            Publication(
                topic=TopicTemplate.parse(one.topic), payload=one.payload, qos=one.qos, retain=one.retain,
                every_s=one.every, historical=one.historical, devices=one.devices,
            )
            for one in settings.publish
        ]  # fmt: skip
        if publications:
            subscriptions += subscriptions_of(settings.discovery.prefix, settings.discovery.enabled)
        if circles := overlaps(publications, [one.filter for one in subscriptions]):
            raise ValueError("; ".join(circles))
        return _Plan(_options(settings, client_id), decoders, subscriptions, host, publications)
    except (ValueError, OSError) as error:
        raise HubError(f"mqtt {settings.name}: {error}") from None


def _discovery(
    settings: MqttSettings,
    publications: Sequence[Publication],
    bridge: Bridge,
    *,
    registry: Registry,
    intake: Intake,
    kept: Set[str],
) -> Discovery:
    """What Home Assistant is told of the devices that go out; where it is switched off, what it was told is taken
    back."""

    def devices() -> Mapping[str, Mapping[str, Series]]:
        return {
            id: known.series
            for id, known in registry.devices.items()
            if known.retired_ns is None and ((device := intake.devices.get(id)) is None or device.epoch not in kept)
        }

    def is_online(id: str) -> bool:
        device = intake.devices.get(id)
        return device is not None and device.conversation is not None

    def changed() -> None:
        if bridge.outward is not None:
            bridge.outward.changed()

    return Discovery(
        publications,
        hub=registry.id,
        version=version("telemetry-hub"),
        devices=devices,
        count=lambda: len(registry.series),
        is_online=is_online,
        on_change=changed,
        availability=bridge.availability,
        prefix=settings.discovery.prefix,
        enabled=settings.discovery.enabled,
    )


def _options(settings: MqttSettings, client_id: str) -> BrokerOptions:
    address = settings.address
    password = settings.password.get_secret_value() if settings.password is not None else ""
    if settings.password_file is not None:
        password = settings.password_file.read_text().strip()
    context: ssl.SSLContext | None = None
    if address.tls:
        for path in (settings.tls_ca, settings.tls_certificate, settings.tls_key):
            if path is not None and not path.is_file():
                raise ValueError(f"{path}: there is no such file")
        context = ssl.create_default_context(cafile=settings.tls_ca)
        if settings.tls_certificate is not None:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return BrokerOptions(
        address.host, address.port, client_id,
        keepalive_s=settings.keepalive, session_expiry_s=settings.session_expiry,
        receive_maximum=settings.receive_maximum, user=settings.user, password=password, tls=context,
    )  # fmt: skip


async def _remember(recent: RecentReadings, journal: Journal, past: JournalAndStore, epochs: BridgeEpochs) -> None:
    """What the bridge had accepted before the hub was started, as far as the journal's tail goes."""
    async for entries in past.replay(max(journal.first_offset - 1, journal.last_offset - SEED_ENTRIES)):
        for entry in entries:
            if entry.batch is not None and entry.epoch in epochs:
                columns = [(series.metric, list(values)) for series, values in entry.batch.columns]
                for row, time_ns in enumerate(entry.batch.times):
                    recent.add_stored(entry.device, int(time_ns), {name: values[row] for name, values in columns})
