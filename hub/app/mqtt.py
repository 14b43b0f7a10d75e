"""Makes the bridges to MQTT brokers from the settings, and joins them to the other rooms."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

from hub.app.agent_directory import declare
from hub.app.errors import HubError
from hub.contract.batch import Batch, Entry, EntryKind, Series
from hub.contract.journal import Journal, JournalTrimmed
from hub.ingestion.feed import epoch_of
from hub.ingestion.intake import Intake
from hub.live.live import Live
from hub.mqtt.bridge import Bridge
from hub.mqtt.client import Options
from hub.mqtt.discovery import Discovery
from hub.mqtt.inward import Inward
from hub.mqtt.mapping import mapped
from hub.mqtt.messages import Publication
from hub.mqtt.outward import Outward, forget_removed
from hub.mqtt.presets import preset_decoder
from hub.mqtt.reading import Decoder
from hub.mqtt.recent import Recent
from hub.mqtt.sparkplug.host import Host
from hub.mqtt.topics import TopicTemplate, overlap, shared
from hub.registry.registry import Registry
from hub.settings import MqttSettings
from wire.errors import WireError
from wire.model import Metric

SEED_ENTRIES = 50_000
"""Of the journal's tail, read at the start for what a broker may give again: a second at most."""


class FeedDirectory:
    """Implements hub.ingestion.feed.FeedDirectory."""

    def __init__(self, registry: Registry, journal: Journal, live: Live, clock: Callable[[], int]) -> None:
        self._registry = registry
        self._journal = journal
        self._live = live
        self._clock = clock

    async def declare(self, device: str, metrics: Sequence[Metric]) -> Mapping[str, Series | WireError]:
        """All metrics of the device, durable when this returns; a WireError for each whose type conflicts."""
        return await declare(self._registry, self._journal, self._live, device, metrics)

    def record(self, device: str, kind: str, detail: str) -> None:
        """Keeps an event of the device."""
        self._registry.record_event(device, self._clock(), kind, detail)

    def describe(self, device: str, *, tags: Mapping[str, str], agent: str) -> None:
        """Keeps what is said of the device."""
        self._registry.describe(device, tags=tags, agent=agent)


async def open_bridges(
    settings: Sequence[MqttSettings],
    *,
    registry: Registry,
    journal: Journal,
    live: Live,
    intake: Intake,
    decode: Callable[[Entry], Batch],
) -> list[Bridge]:
    """The bridges, not yet running. Raises HubError for settings that cannot be."""
    forget_removed(journal, [one.name for one in settings if one.publish])
    directory = FeedDirectory(registry, journal, live, intake.clock)
    return [
        await _open(one, registry=registry, journal=journal, intake=intake, directory=directory, decode=decode)
        for one in settings
    ]


async def _open(
    settings: MqttSettings,
    *,
    registry: Registry,
    journal: Journal,
    intake: Intake,
    directory: FeedDirectory,
    decode: Callable[[Entry], Batch],
) -> Bridge:
    try:
        decoders, filters, host = _subscriptions(settings)
        client_id = settings.client_id or f"telemetry-hub-{registry.id[:8]}"
        epoch = epoch_of(f"mqtt-{settings.name}")
        bridge = Bridge(
            _options(settings, client_id),
            name=settings.name,
            address=settings.url,
            filters=filters,
            status_topic=settings.will_topic.replace("{client_id}", client_id),
            host=host,
        )
        if settings.publish:
            publications = [
                Publication(
                    topic=TopicTemplate.parse(one.topic), payload=one.payload, qos=one.qos, retain=one.retain,
                    every_s=one.every, historical=one.historical, devices=one.devices,
                )
                for one in settings.publish
            ]  # fmt: skip
            discovery = _discovery(settings, publications, bridge, registry=registry, intake=intake, epoch=epoch)
            decoders.append(discovery)
            bridge.filters += [(filter, 1) for filter in discovery.filters]
            bridge.outward = Outward(
                journal, publications, name=settings.name, hub=registry.id, own_epoch=epoch, decode=decode,
                description=discovery,
            )  # fmt: skip
            bridge.outward.begin()
        if decoders:
            recent = Recent()
            await _remember(recent, journal, epoch, decode)
            bridge.inward = Inward(
                intake,
                directory,
                decoders,
                name=settings.name,
                hub=registry.id,
                epoch=epoch,
                receive_maximum=settings.receive_maximum,
                recent=recent,
                said=bridge.say,
            )
    except (ValueError, OSError) as error:
        raise HubError(f"mqtt {settings.name}: {error}") from None
    return bridge


def _discovery(
    settings: MqttSettings,
    publications: Sequence[Publication],
    bridge: Bridge,
    *,
    registry: Registry,
    intake: Intake,
    epoch: str,
) -> Discovery:
    """What Home Assistant is told of the devices that go out; where it is switched off, what it was told is taken
    back."""

    def devices() -> Mapping[str, Mapping[str, Series]]:
        return {
            id: known.series
            for id, known in registry.devices.items()
            if (device := intake.devices.get(id)) is None or device.epoch != epoch
        }

    def changed() -> None:
        if bridge.outward is not None:
            bridge.outward.changed()

    return Discovery(
        publications,
        hub=registry.id,
        version=version("telemetry-hub"),
        devices=devices,
        count=lambda: len(registry.series),
        on_change=changed,
        availability=bridge.status_topic,
        prefix=settings.discovery.prefix,
        enabled=settings.discovery.enabled,
    )


def _subscriptions(settings: MqttSettings) -> tuple[list[Decoder], list[tuple[str, int]], Host | None]:
    decoders: list[Decoder] = []
    filters: dict[str, int] = {}
    host: Host | None = None
    for one in settings.subscribe:
        if one.payload == "sparkplug":
            continue
        decoder = mapped(
            one.topic, one.payload, device=one.device, time=one.time, time_format=one.time_format, function=one.function
        )
        decoders.append(decoder)
        filters.update(dict.fromkeys(decoder.filters, one.qos))
    for name in settings.presets:
        preset = preset_decoder(name)
        decoders.append(preset)
        filters.update(dict.fromkeys(preset.filters, 1))
    if settings.host_id or any(one.payload == "sparkplug" for one in settings.subscribe):
        host = Host(settings.host_id)
        decoders.append(host)
        filters.update(dict.fromkeys(host.filters, 1))
    for published in settings.publish:
        for filter in filters:
            common = overlap(filter, published.topic)
            if common is not None:
                raise ValueError(
                    f"what is published under {published.topic!r} would come back through {filter!r}, for example "
                    f"{common!r}: give one of them another topic"
                )
    asked = [(filter if TopicTemplate.parse(filter).share else shared(filter, settings.share), qos)
             for filter, qos in filters.items()]  # fmt: skip
    return decoders, asked, host


def _options(settings: MqttSettings, client_id: str) -> Options:
    address = settings.address
    password = settings.password.get_secret_value() if settings.password is not None else ""
    if settings.password_file is not None:
        password = settings.password_file.read_text().strip()
    context: ssl.SSLContext | None = None
    if address.tls:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        if settings.tls_certificate is not None:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return Options(
        address.host, address.port, client_id,
        keepalive_s=settings.keepalive, session_expiry_s=settings.session_expiry,
        receive_maximum=settings.receive_maximum, user=settings.user, password=password, tls=context,
    )  # fmt: skip


async def _remember(recent: Recent, journal: Journal, epoch: str, decode: Callable[[Entry], Batch]) -> None:
    """What the bridge had accepted before the hub was started, as far as the journal's tail goes."""
    after = max(journal.first_offset - 1, journal.last_offset - SEED_ENTRIES)
    while after < journal.last_offset:
        try:
            entries = await journal.read(after, max_entries=5_000, max_bytes=4 << 20)
        except JournalTrimmed as error:
            after = error.first - 1
            continue
        for entry in entries:
            if entry.kind is EntryKind.BATCH and entry.epoch == epoch:
                batch = entry.batch or decode(entry)
                columns = [(series.metric, list(values)) for series, values in batch.columns]
                for row, time_ns in enumerate(batch.times):
                    recent.add(entry.device, int(time_ns), {name: values[row] for name, values in columns})
        after = entries[-1].offset
