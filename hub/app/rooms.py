"""Opens the rooms of a hub and joins them; the only place that knows which journal and which store it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from hub.app.agent_directory import AgentDirectory
from hub.app.journal import open_journal
from hub.app.mqtt import open_bridges
from hub.app.past import JournalAndStore
from hub.app.retirement import Retirement
from hub.app.seed import seed
from hub.app.store import open_store
from hub.config import Settings
from hub.http.access import Access, find_credential
from hub.http.application import make_application
from hub.http.authenticator import Authenticator
from hub.http.connections import Connections
from hub.http.device_endpoint import DeviceEndpoint, DirectoryFor
from hub.http.live_endpoint import LiveEndpoint
from hub.http.routes.devices import DeviceRoutes
from hub.http.routes.history import HistoryRoutes
from hub.http.routes.hub import HubRoutes
from hub.http.routes.operations import OperationsRoutes
from hub.http.routes.quarantine import QuarantineRoutes
from hub.http.routes.tokens import TokenRoutes
from hub.http.server import Router
from hub.http.status import HubIdentity, Status, state_of
from hub.ingest.acceptance import decode_entry
from hub.ingest.count import count_readings
from hub.ingest.device import Device
from hub.ingest.intake import Intake
from hub.ingest.retry import QuarantineWork
from hub.live.group import latest_of
from hub.live.live import Live
from hub.model.batch import Batch, Entry, Series
from hub.model.identity import Identity
from hub.model.journal import Journal
from hub.mqtt.bridge import Bridge
from hub.registry import FILE_NAME, Registry
from hub.storage.bookkeeper import Bookkeeper
from hub.storage.writer import StoreWriter
from wire import live as live_messages


class Rooms(NamedTuple):
    """What runs, and what the running needs."""

    registry: Registry
    journal: Journal
    books: Bookkeeper
    writer: StoreWriter
    intake: Intake
    live: Live
    connections: Connections
    bridges: Sequence[Bridge]
    application: Router


@contextlib.asynccontextmanager
async def open_rooms(settings: Settings, *, listening_on: str) -> AsyncIterator[Rooms]:
    """Opens everything under the data directory, and closes it: the store first, then the journal, then the
    registry."""
    started_ns = time.time_ns()
    async with contextlib.AsyncExitStack() as stack:
        registry = await stack.enter_async_context(Registry(settings.data / FILE_NAME))
        journal = await stack.enter_async_context(open_journal(settings))
        store = await stack.enter_async_context(open_store(settings, registry=registry.id, tags_of=registry.tags_of))
        connections = Connections()

        def metrics_of(device: str) -> dict[str, Series]:
            known = registry.devices.get(device)
            return known.series if known is not None else {}

        def decode(entry: Entry) -> Batch:
            return decode_entry(entry, metrics_of(entry.device))

        past = JournalAndStore(journal, store, decode=decode)
        live = Live(offset=journal.last_offset, fleet=lambda: status.fleet())
        bridges: list[Bridge] = []
        books = Bookkeeper(journal, store, count=count_readings, series=lambda: registry.series)

        def committed(entries: Sequence[Entry]) -> None:
            books.committed(entries)
            live.apply(entries)

        intake = Intake(
            journal,
            clock=time.time_ns,
            on_committed=committed,
            on_device=lambda device: device_changed(device),
            live_time=lambda series: latest_of(series).time_ns,
        )

        def service_changed(device: Device) -> None:
            live.device_changed(state_of(device))
            for bridge in bridges:
                bridge.service_changed()

        retirement = Retirement(registry, intake, on_change=service_changed)

        def device_changed(device: Device) -> None:
            _device_changed(device, live, registry, bridges)
            retirement.look(device)

        writer = StoreWriter(journal, store, books=books, decode=decode, on_quarantined=committed)
        await seed(registry=registry, journal=journal, store=store, past=past, live=live, intake=intake)
        bridges += await open_bridges(
            settings.mqtt,
            data=settings.data,
            registry=registry,
            journal=journal,
            live=live,
            intake=intake,
            past=past,
            decode=decode,
        )
        identity = HubIdentity(registry.id, settings.name, version("telemetry-hub"), started_ns)
        status = Status(
            identity,
            intake=intake,
            journal=journal,
            books=books,
            store_state=lambda: writer.state,
            dropped_events=lambda: registry.dropped_events,
            series_of=lambda device: list(metrics_of(device).values()),
            registry_fullness=lambda: registry.fullness,
            bridges=lambda: [bridge.state for bridge in bridges],
        )
        access = Access(
            registry.verify,
            registry.verify_session,
            listen_host=listening_on,
            hosts=settings.access.allowed_hosts,
            origins=settings.access.allowed_origins,
            behind_proxy=settings.access.behind_proxy,
        )
        authenticator = Authenticator(access, registry.refresh)
        application = make_application(
            [
                HubRoutes(status),
                DeviceRoutes(
                    status, store, series=registry.series.values, events=registry.events, retirement=retirement
                ),
                HistoryRoutes(store, series=registry.series.values, now_ns=status.now_ns),
                TokenRoutes(registry, authenticator, now_ns=status.now_ns),
                QuarantineRoutes(
                    journal, QuarantineWork(journal, intake, metrics_of=metrics_of, record=registry.record_event)
                ),
                OperationsRoutes(status, connections=lambda: len(connections)),
            ],
            authenticator,
            device=DeviceEndpoint(
                intake,
                connections,
                _directories(registry, journal, live, authenticator),
                hub=registry.id,
                window=settings.ingest.window,
            ),
            live=LiveEndpoint(
                live,
                past,
                connections,
                authenticator,
                welcome=lambda role: live_messages.Welcome(
                    hub=registry.id,
                    version=identity.version,
                    journal=journal.id,
                    offset=live.offset,
                    time=time.time_ns(),
                    role=role,
                ),
            ),
        )
        yield Rooms(registry, journal, books, writer, intake, live, connections, bridges, application)


def _device_changed(device: Device, live: Live, registry: Registry, bridges: Sequence[Bridge]) -> None:
    live.device_changed(state_of(device))
    for bridge in bridges:
        bridge.presence_changed(device.id)
    if device.seen_ns and device.id in registry.devices:
        registry.record_contact(device.id, device.seen_ns)


def _directories(registry: Registry, journal: Journal, live: Live, authenticator: Authenticator) -> DirectoryFor:
    def directory_for(scope: MutableMapping[str, Any], on_credential: Callable[[str], None]) -> AgentDirectory:
        async def identify(token: str | None) -> Identity | None:
            if find_credential(scope) is not None or token is None:
                identity = await authenticator.identify(scope)
            else:
                identity = await authenticator.identify_token(scope, token)
            # They are of no use any more, and would be kept as long as the connection: about 1 kB.
            scope["headers"] = []
            return identity

        return AgentDirectory(
            registry,
            journal,
            live,
            identify=identify,
            clock=time.time_ns,
            on_identity=lambda found: on_credential(found.token_id),
        )

    return directory_for
