"""Composition of a hub: it opens every part in order and connects them. Only here the concrete parts are chosen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from functools import partial
from importlib.metadata import distribution, version
from typing import Any, NamedTuple

from hub.app.continuity import begin_run, check_continuity, discount, follow_losses
from hub.app.data_directory import check_restored
from hub.app.mqtt import known_type, message_decoder, open_bridges, recent_readings
from hub.app.presence import PresenceService
from hub.app.store import open_store
from hub.config.settings import Settings
from hub.http.access import COOKIE_ID, SESSION_COOKIE, Access
from hub.http.application import LIVE_PATH, make_application
from hub.http.authenticator import Authenticator
from hub.http.connections import Connections
from hub.http.cross_origin import CrossOrigin
from hub.http.device_endpoint import DeviceEndpoint, DirectoryFor
from hub.http.forwarded import ROOT
from hub.http.influxdb import with_token
from hub.http.live_endpoint import LiveEndpoint
from hub.http.long_bodies import LongBodies
from hub.http.long_poll import LongPolls
from hub.http.plain_commands import PlainCommands
from hub.http.plain_endpoint import PlainEndpoint, plain_input
from hub.http.refusals import RequestRefusals
from hub.http.routes.access import AccessRoutes
from hub.http.routes.command_jobs import CommandJobRoutes
from hub.http.routes.commands import CommandRoutes
from hub.http.routes.connection import ConnectionRoutes
from hub.http.routes.desired import DesiredRoutes
from hub.http.routes.devices import DeviceRoutes
from hub.http.routes.download import LIBRARIES, DownloadRoutes
from hub.http.routes.history import HistoryRoutes
from hub.http.routes.hub import HubRoutes
from hub.http.routes.influxdb import INFLUXDB_INPUT, WRITE_PATHS, InfluxdbRoutes, line_input
from hub.http.routes.metrics import MetricRoutes
from hub.http.routes.operations import OperationsRoutes
from hub.http.routes.quarantine import QuarantineRoutes
from hub.http.routes.readings import READINGS_PATH, ReadingRoutes
from hub.http.routes.store import StoreRoutes
from hub.http.routes.store_files import StoreFilesRoutes
from hub.http.routes.tokens import TokenRoutes
from hub.http.routes.trial import TrialRoutes
from hub.http.status import HubIdentity, Status
from hub.http.tls import PortTls
from hub.http.trial import TrialRunner
from hub.http.websocket import DEVICE_PATH, LINE_PATH, PLAIN_PATH
from hub.http.wheel import make_wheel
from hub.ingest.command_dispatcher import CommandDispatcher
from hub.ingest.command_job_runner import CommandJobRunner
from hub.ingest.desired_dispatcher import DesiredDispatcher
from hub.ingest.device import Device, Devices
from hub.ingest.foreign_readings import EPOCH, ForeignReadings
from hub.ingest.line_writer import LineProtocolWriter
from hub.ingest.quarantine_actions import MessageDecoder, QuarantineActions
from hub.ingest.validate import decode_entry
from hub.journal.consumer import Consumer, EntryReader
from hub.journal.journal import Journal
from hub.journal.schema import FILE_NAME as JOURNAL_FILE
from hub.live.hub import LiveHub
from hub.model.batch import Batch, Entry, Series
from hub.model.identity import Action, Identity
from hub.model.steady_clock import SteadyClock
from hub.model.store import Store
from hub.mqtt.bridge import Bridge
from hub.registry.database import FILE_NAME as REGISTRY_FILE
from hub.registry.directory import ConnectionDirectory, DeviceDirectory
from hub.registry.registry import Registry
from hub.registry.retirement import Retirement
from hub.storage.accounting import CONSUMER, AccountingService
from hub.storage.history_source import HistorySource
from hub.storage.hold import StoreHolds
from hub.storage.resend import StoreResend
from hub.storage.sink import StoreSink
from hub.storage.warm_start import highest_series_in_use, restore_live
from wire import live as live_messages

REPEATED_ENTRIES = 5_000
"""Newest entries of the journal that are read at a start, in 0.1 s: a client without the device protocol repeats what
had no answer when the hub ended, which is in the last commits."""


class Core(NamedTuple):
    """Parts of a hub that work without HTTP and MQTT."""

    registry: Registry
    journal: Journal
    store: Store
    holds: StoreHolds
    reader: EntryReader
    live: LiveHub
    accounting: AccountingService
    devices: Devices
    commands: CommandDispatcher
    desired: DesiredDispatcher
    command_jobs: CommandJobRunner
    presence: PresenceService
    store_sink: StoreSink
    store_consumer: Consumer


class HubServices(NamedTuple):
    """Parts of a hub that run or are needed while it runs."""

    registry: Registry
    journal: Journal
    accounting: AccountingService
    store_consumer: Consumer
    holds: StoreHolds
    devices: Devices
    commands: CommandDispatcher
    desired: DesiredDispatcher
    command_jobs: CommandJobRunner
    presence: PresenceService
    readings: ForeignReadings
    connections: Connections
    refusals: RequestRefusals
    bridges: Sequence[Bridge]
    tls: PortTls | None
    application: CrossOrigin
    long_polls: LongPolls
    long_bodies: LongBodies


def open_journal(settings: Settings, *, known_id: str | None = None, hub: str = "") -> Journal:
    """Return the journal in the data directory, to be entered. One process at a time can have it open.

    `known_id` is the id that the registry recorded, `hub` that of the hub.
    """
    return Journal(
        settings.data / JOURNAL_FILE,
        keep_bytes=settings.journal.keep_bytes,
        keep_seconds=settings.journal.keep_seconds,
        max_bytes=settings.journal.max_bytes,
        known_id=known_id,
        hub=hub,
        resend_seconds=settings.journal.resend_seconds,
    )


@contextlib.asynccontextmanager
async def open_services(
    settings: Settings, *, listening_on: str, tls: PortTls | None = None
) -> AsyncIterator[HubServices]:
    """Open everything in the data directory; close it in reverse order: store, journal, registry."""
    started_ns = time.time_ns()
    async with contextlib.AsyncExitStack() as stack:
        core = await _open_core(settings, stack)
        stack.push_async_callback(core.presence.save)
        registry, devices, live = core.registry, core.devices, core.live
        bridges = await open_bridges(
            settings.mqtt,
            data=settings.data,
            registry=registry,
            journal=core.journal,
            live=live,
            devices=devices,
            commands=core.commands,
            desired=core.desired,
            reader=core.reader,
            decode=decoder(registry),
            zone=settings.zone,
            public_url=settings.public_url,
            presence=core.presence.presence,
        )

        readings = await _foreign_readings(settings, core)
        retirement = _watch_devices(core, bridges)
        refusals = RequestRefusals()
        connections = Connections(refusals)
        identity = HubIdentity(registry.id, settings.name, version("telemetry-hub"), started_ns)
        authenticator = _authenticator(settings, registry, refusals, listening_on)
        long_polls = LongPolls()
        application = _application(
            settings, core, readings, retirement, connections, authenticator,
            long_polls=long_polls, identity=identity, bridges=bridges, tls=tls,
        )  # fmt: skip
        yield HubServices(
            registry,
            core.journal,
            core.accounting,
            core.store_consumer,
            core.holds,
            devices,
            core.commands,
            core.desired,
            core.command_jobs,
            core.presence,
            readings,
            connections,
            refusals,
            bridges,
            tls,
            application,
            long_polls,
            LongBodies((*WRITE_PATHS, READINGS_PATH), lambda scope: authenticator.may_write(with_token(scope))),
        )


async def _foreign_readings(settings: Settings, core: Core) -> ForeignReadings:
    """Return the way of readings from clients without the device protocol, not yet running."""
    registry = core.registry
    directory = DeviceDirectory(registry, core.journal, core.live, clock=core.devices.clock)
    readings = ForeignReadings(
        core.devices,
        directory,
        zone=settings.zone,
        known_type=partial(known_type, registry),
        known_unit=registry.declared_unit,
        recent=await recent_readings(core.journal, core.reader, (EPOCH,), REPEATED_ENTRIES, has_blocks=True),
    )
    registry.watch_series(lambda series: readings.metric_changed(series.device, {series.metric, *series.names}))
    return readings


def _watch_devices(core: Core, bridges: Sequence[Bridge]) -> Retirement:
    """Report changes of devices to dashboards, brokers and the registry; return the service that retires devices."""
    registry, devices, fleet = core.registry, core.devices, core.live.fleet

    def service_changed(device: Device) -> None:
        core.presence.follow(device)
        fleet.state_changed(device.state())
        for bridge in bridges:
            bridge.service_changed()

    def presence_changed(device: Device) -> None:
        fleet.state_changed(device.state())
        for bridge in bridges:
            bridge.presence_changed(device.id)
        if device.seen_ns and device.id in registry.devices:
            registry.record_contact(device.id, device.seen_ns)

    retirement = Retirement(registry, devices, on_change=service_changed)
    devices.watch(presence_changed)
    devices.watch(retirement.device_changed)
    devices.watch_sources(lambda device: fleet.state_changed(device.state()))
    core.presence.watch(presence_changed)
    return retirement


async def _open_core(settings: Settings, stack: contextlib.AsyncExitStack) -> Core:
    """Open registry, journal and store, and restore what they know of the past."""
    check_restored(settings.data)
    registry = await stack.enter_async_context(Registry(settings.data / REGISTRY_FILE))
    recorded = registry.journal
    journal = await stack.enter_async_context(
        open_journal(settings, known_id=recorded.id if recorded else None, hub=registry.id)
    )
    consumers: list[Consumer] = []

    def history_set_aside(what: str) -> None:
        registry.record_event(None, time.time_ns(), "history set aside", what)
        for consumer in consumers:
            consumer.reopen()

    store = await stack.enter_async_context(
        open_store(settings, registry=registry.id, tags_of=registry.tags_of, on_set_aside=history_set_aside)
    )
    holds = StoreHolds(store)
    stack.push_async_callback(holds.close)
    decode = decoder(registry)
    await check_continuity(registry, journal, store, decode)
    reader = EntryReader(journal, decode)
    live = LiveHub(offset=journal.last_offset)
    accounting = AccountingService(journal, reader, store, series=lambda: registry.series)

    def committed(entries: Sequence[Entry]) -> None:
        accounting.committed(entries)
        live.apply(entries)

    devices = Devices(
        journal,
        clock=time.time_ns,
        on_committed=committed,
        latest_time_ns=lambda series: live.live_series(series).time_ns,
        on_progress=live.fleet.progressed,
    )
    # A changed series replaces the one that sessions and dashboards have.
    registry.watch_series(live.replace_series)
    registry.watch_series(devices.replace_series)
    _restore_devices(registry, devices)
    await restore_live(series=registry.series, journal=journal, reader=reader, store=store, live=live)
    await registry.reserve_series(await highest_series_in_use(series=registry.series, journal=journal, store=store))
    presence = PresenceService(registry, devices, live, settings.data / REGISTRY_FILE, partial(_series_of, registry))
    presence.restore(await begin_run(registry, journal, devices))
    follow_losses(accounting, devices, journal)
    sink = StoreSink(
        journal,
        store,
        accounting,
        on_known=partial(discount, devices, journal),
        on_loss=lambda loss: registry.record_event(None, time.time_ns(), "history lost", loss),
    )
    consumer = Consumer(journal, CONSUMER, sink, decode=decode, on_skip=accounting.skipped)
    consumer.register()
    consumers.append(consumer)
    control = await _open_control(registry, devices)
    return Core(registry, journal, store, holds, reader, live, accounting, devices, *control, presence, sink, consumer)


async def _open_control(
    registry: Registry, devices: Devices
) -> tuple[CommandDispatcher, DesiredDispatcher, CommandJobRunner]:
    """Continue with the open commands, the desired values and the jobs of the registry."""

    def is_retired(id: str) -> bool:
        device = devices.get(id)
        return device is not None and device.retired

    clock = SteadyClock()
    commands = CommandDispatcher(
        registry.commands, declared=registry.commands.declared, clock=clock, is_retired=is_retired
    )
    commands.restore(await registry.commands.open_commands())
    devices.commands = commands
    desired = DesiredDispatcher(
        registry.desired, declared=registry.desired.declared, clock=time.time_ns, is_retired=is_retired
    )
    desired.restore(await registry.desired.records())
    devices.desired = desired
    jobs = CommandJobRunner(registry.command_jobs, commands, clock=clock)
    jobs.restore(await registry.command_jobs.open_jobs())
    return commands, desired, jobs


def _restore_devices(registry: Registry, devices: Devices) -> None:
    for known in registry.devices.values():
        devices.restore(
            known.id,
            tags=known.tags,
            agent=known.agent,
            retired=known.retired_ns is not None,
            seen_ns=known.last_seen_ns,
        )


def _application(
    settings: Settings,
    core: Core,
    readings: ForeignReadings,
    retirement: Retirement,
    connections: Connections,
    authenticator: Authenticator,
    *,
    long_polls: LongPolls,
    identity: HubIdentity,
    bridges: Sequence[Bridge],
    tls: PortTls | None,
) -> CrossOrigin:
    """Make the ASGI application: device and live endpoints, the API and the page."""
    devices = core.devices
    status = _status(core, identity, bridges, tls)
    lines = LineProtocolWriter(readings, settings.influx_write.rules(), INFLUXDB_INPUT, clock=devices.clock)
    return make_application(
        [
            *_resources(
                settings, core, retirement, status, authenticator, message_decoder(bridges, readings), long_polls
            ),
            InfluxdbRoutes(authenticator, lines),
            ReadingRoutes(readings, devices.clock),
            ConnectionRoutes(
                authenticator,
                dict.fromkeys((DEVICE_PATH, PLAIN_PATH, LINE_PATH), Action.WRITE) | {LIVE_PATH: Action.READ},
                closing=lambda: connections.closing,
            ),
            OperationsRoutes(status, lambda: len(connections), authenticator.refusals.counts, tls),
        ],
        authenticator,
        _endpoints(settings, core, readings, lines, connections, authenticator, identity),
        public_url=settings.public_url,
        requires_certificate=settings.tls.client_ca is not None,
    )


def _endpoints(
    settings: Settings,
    core: Core,
    readings: ForeignReadings,
    lines: LineProtocolWriter,
    connections: Connections,
    authenticator: Authenticator,
    identity: HubIdentity,
) -> dict[str, DeviceEndpoint | PlainEndpoint | LiveEndpoint]:
    """Return the WebSocket endpoints by their paths."""
    registry, journal, devices = core.registry, core.journal, core.devices
    return {
        DEVICE_PATH: DeviceEndpoint(
            devices,
            connections,
            _directories(core, authenticator),
            recognise=authenticator.recognise,
            hub=registry.id,
            window=settings.ingest.window,
            refusals=authenticator.refusals,
        ),
        **{
            path: PlainEndpoint(readings, connections, authenticator, devices.clock, open_input, commands)
            for path, open_input, commands in (
                (PLAIN_PATH, partial(plain_input, readings), _plain_commands(core)),
                (LINE_PATH, partial(line_input, lines, settings.influx_write.device), None),
            )
        },
        LIVE_PATH: LiveEndpoint(
            core.live,
            HistorySource(journal, core.reader, core.store),
            connections,
            authenticator,
            fleet=devices.in_service,
            welcome=lambda role: live_messages.Welcome(
                hub=registry.id,
                version=identity.version,
                journal=journal.id,
                offset=core.live.offset,
                time=time.time_ns(),
                role=role,
            ),
        ),
    }


def _resources(
    settings: Settings,
    core: Core,
    retirement: Retirement,
    status: Status,
    authenticator: Authenticator,
    decode_message: MessageDecoder,
    long_polls: LongPolls,
) -> list[object]:
    """Return the resources of the API that need no connection."""
    registry, store, devices = core.registry, core.store, core.devices
    actions = QuarantineActions(
        devices,
        metrics_of=lambda device: _metrics(registry, device),
        declare=registry.declare,
        record=registry.record_event,
        decode_message=decode_message,
    )
    return [
        HubRoutes(status, partial(registry.events, of_hub=True)),
        DeviceRoutes(
            status,
            store,
            series=registry.series.values,
            read_events=registry.events,
            read_hub_events=partial(registry.events, of_hub=True),
            retirement=retirement,
        ),
        CommandRoutes(status, core.commands, registry.commands, long_polls),
        DesiredRoutes(status, core.desired, registry.desired, long_polls),
        CommandJobRoutes(status, core.command_jobs, registry.command_jobs, registry.commands, long_polls),
        MetricRoutes(status, registry.change_metric, actions, record=registry.record_event),
        HistoryRoutes(store, series=registry.series.values, now_ns=devices.clock),
        StoreRoutes(
            core.journal,
            StoreResend(core.journal, core.reader, store, core.accounting),
            now_ns=devices.clock,
            record=registry.record_event,
        ),
        TokenRoutes(registry, authenticator, now_ns=devices.clock),
        AccessRoutes(registry, authenticator, now_ns=devices.clock, public_url=settings.public_url),
        QuarantineRoutes(core.journal, actions),
        TrialRoutes(TrialRunner(lambda device: {name: s.type for name, s in _metrics(registry, device).items()})),
        StoreFilesRoutes(core.holds, store),
        DownloadRoutes(
            lambda: make_wheel(distribution("telemetry-hub")),
            settings.data / LIBRARIES,
            public_url=settings.public_url,
        ),
    ]


def _status(core: Core, identity: HubIdentity, bridges: Sequence[Bridge], tls: PortTls | None) -> Status:
    registry = core.registry
    return Status(
        identity=identity,
        devices=core.devices,
        journal=core.journal,
        live=core.live,
        accounting=core.accounting,
        store_status=lambda: core.store_consumer.status,
        dropped_events=lambda: registry.dropped_events,
        series_of=partial(_series_of, registry),
        history_problem=lambda: core.store.history_problem or core.store_sink.loss,
        registry_problem=lambda: registry.problem,
        registry_file_problem=lambda: registry.file_problem,
        freshness=core.presence.freshness,
        presence_counts=lambda: core.presence.counts,
        bridges=lambda: [bridge.state for bridge in bridges],
        tls_problems=lambda: [] if tls is None else tls.problems(),
        incidents=lambda: core.journal.losses.incidents,
    )


def _authenticator(
    settings: Settings, registry: Registry, refusals: RequestRefusals, listening_on: str
) -> Authenticator:
    public = settings.public
    access = Access(
        registry.verify,
        registry.verify_session,
        listen_host=listening_on,
        hosts=(*settings.access.allowed_hosts, *([public.authority] if public else [])),
        origins=(*settings.access.allowed_origins, *([public.origin] if public else [])),
        behind_proxy=settings.access.behind_proxy,
        base_path=public.base_path if public else ROOT,
        cookie=f"{SESSION_COOKIE}_{registry.id[:COOKIE_ID]}",
    )
    return Authenticator(access, registry.refresh, refusals)


def _series_of(registry: Registry, device: str) -> list[Series]:
    known = registry.devices.get(device)
    return list(known.series.values()) if known is not None else []


def _metrics(registry: Registry, device: str) -> dict[str, Series]:
    """Return the metrics of a device by each name that they have, or had."""
    known = registry.devices.get(device)
    return known.names if known is not None else {}


def decoder(registry: Registry) -> Callable[[Entry], Batch]:
    """Return the function that decodes an entry with the metrics that its device has declared."""
    return lambda entry: decode_entry(entry, _metrics(registry, entry.device))


def _plain_commands(core: Core) -> PlainCommands:
    """Return the commands of devices as plain clients use them."""
    directory = DeviceDirectory(core.registry, core.journal, core.live, clock=core.devices.clock)

    def record_unknown(device: str, report: str) -> None:
        now_ns = core.devices.clock()
        detail = core.devices.device(device).within_budget(f"{report}: the hub does not have this command", now_ns)
        if detail is not None:
            directory.record(device, "command unknown", detail)

    def is_free(device: str) -> bool:
        session = core.devices.device(device).session
        return session is None or session.epoch == EPOCH

    return PlainCommands(
        core.commands,
        is_free,
        partial(directory.declare_commands, replace=True),
        core.registry.commands.declared,
        record_unknown,
        core.devices.clock,
    )


def _directories(core: Core, authenticator: Authenticator) -> DirectoryFor:
    def directory_for(scope: MutableMapping[str, Any], on_identity: Callable[[Identity], None]) -> ConnectionDirectory:
        async def identify(token: str | None) -> Identity | None:
            credential = authenticator.access.credential(scope)
            # A page cannot keep its browser from sending the cookie, so the token in its hello counts before it.
            if token is None or (credential is not None and credential.kind == "token"):
                identity = await authenticator.identify(scope)
            else:
                identity = await authenticator.identify_token(scope, token)
            # The headers are not needed any more, and would be kept as long as the connection: about 1 kB.
            scope["headers"] = scope["subprotocols"] = []
            return identity

        return ConnectionDirectory(
            core.registry,
            core.journal,
            core.live,
            identify=identify,
            clock=time.time_ns,
            on_identity=on_identity,
        )

    return directory_for
