"""/health, /ready and /metrics for the operators of the hub. No metric has a device id as a label, so their number is
bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from operator import attrgetter

from prometheus_client import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from hub.http.answers import Readiness
from hub.http.influxdb import health_answer
from hub.http.refusals import RefusalCause
from hub.http.routing import Operation, json_response
from hub.http.status import Status
from hub.http.tls import PortTls
from hub.model.bridge import BridgeState

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

COUNTERS = [
    ("accepted_batches", "totals.accepted_batches", "Batches accepted"),
    ("accepted_readings", "totals.accepted", "Readings accepted"),
    ("duplicate_batches", "totals.duplicate_batches", "Batches that a device sent again"),
    ("refused_readings", "totals.refused", "Readings that the store will never take"),
    ("expired_readings", "totals.expired", "Readings that the store deleted by its retention"),
    ("lost_batches", "totals.lost_batches", "Batches in declared gaps"),
    ("damaged_readings", "totals.damaged", "Accepted readings that the journal's disk lost"),
    ("repaired_batches", "totals.repaired_batches", "Batches that the hub had lost and an agent sent again"),
    ("source_refused", "totals.source_refused", "Lines and values that sources refused, as agents reported"),
    ("moved_readings", "totals.moved", "Readings moved to the next free nanosecond"),
    ("quarantine_dropped", "quarantine_dropped", "Batches that left the full quarantine"),
    ("missed_entries", "store.missed", "Journal entries the store can never get, since the start"),
    ("dropped_events", "dropped_events", "Events lost to a failing disk, since the start"),
    ("bad_messages", "bad_messages", "Frames that were no message of an agent, since the start"),
]
GAUGES = [
    ("stored_readings", "totals.stored", "Readings in the store"),
    ("waiting_readings", "totals.waiting", "Readings in the journal that wait for the store"),
    ("unbalanced_readings", "totals.difference", "Accepted readings that are in no place: 0 if all is well"),
    ("quarantined_readings", "totals.quarantined", "Readings in quarantine that were never accepted, deleted ones too"),
    ("journal_bytes", "journal.size_bytes", "Size of the journal on disk"),
    ("journal_offset", "journal.last_offset", "Newest offset of the journal"),
]
"""Metric, place of its value in the flow, and help text. A counter counts since the data directory was created, unless
its help text says otherwise."""

INBOUND = [
    ("received_messages", "received", "Messages received from the broker"),
    ("taken_messages", "taken", "Messages whose readings are durable"),
    ("undecodable_messages", "undecodable", "Messages put in quarantine"),
    ("retained_messages", "retained", "Retained messages older than the subscription, which are no new readings"),
    ("own_messages", "own", "Messages that this hub had published itself"),
    ("copies_messages", "copies", "Further copies of messages, by another subscription"),
    ("accepted_readings", "accepted", "Readings made durable"),
    ("refused_readings", "refused", "Values put in quarantine while the others of their message were made durable"),
    ("duplicate_readings", "duplicates", "Readings that were durable already"),
]
OUTBOUND = [
    ("published_messages", "published", "Messages given to the connection"),
    ("acknowledged_messages", "acknowledged", "Messages that the broker acknowledged"),
    ("too_large_messages", "too_large", "Messages skipped because they are larger than the broker's packets"),
    ("refused_messages", "refused", "Messages skipped because the broker refused them"),
    ("passed_over_entries", "passed_over", "Entries that no template is for"),
    ("missed_entries", "missed", "Entries deleted or not decodable before they were published"),
]
"""Metric, count of the bridge's state, and help text."""


@dataclass(frozen=True)
class OperationsRoutes(Collector):
    """The operations for monitoring. They need no token.

    The hub's own counters are read on demand, so that counting costs the hot path nothing.
    """

    status: Status
    connections: Callable[[], int]
    refusals: Mapping[RefusalCause, int]
    tls: PortTls | None

    @Operation("GET", "/health", media_types=("text/plain",))
    async def health(self, request: Request) -> Response:
        """Confirm that the process runs and answers. Clients of InfluxDB, which accept JSON, get InfluxDB's form."""
        agent, accepted = (request.headers.get(name, "") for name in ("user-agent", "accept"))
        if "application/json" in accepted or agent.startswith("influxdb-client"):
            return health_answer(self.status.identity.version, self.status.problems().get("journal", ""))
        return Response("ok\n", media_type="text/plain")

    @Operation("HEAD", "/health", described=False)
    async def health_head(self, request: Request) -> Response:
        """Confirm that the process runs and answers. The answer of GET, of which the server sends the head."""
        return await self.health(request)

    @Operation("GET", "/ready", also=(HTTPStatus.SERVICE_UNAVAILABLE,))
    async def ready(self) -> Readiness | Response:
        """Return whether the hub accepts and stores data; 503 with the reasons if it does not. An unavailable broker,
        a certificate that clients refuse now or soon, and a full registry are warnings."""
        problems = self.status.problems()
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        return json_response(Readiness(not problems, problems, self.status.warnings()), status)

    @Operation("GET", "/metrics", media_types=("text/plain",))
    async def prometheus_metrics(self) -> Response:
        """Return the metrics as Prometheus text."""
        return Response(generate_latest(self), media_type=PROMETHEUS)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as of now."""
        status = self.status
        flow = status.counted_flow(status.devices)
        for family, metrics in ((_counter, COUNTERS), (_gauge, GAUGES)):
            for name, place, help_text in metrics:
                value = attrgetter(place)(flow)
                # A value that is not known at the moment gets no sample: 0 would be wrong.
                yield family(name, help_text, [], [] if value is None else [([], value)])
        connected = sum(device.session is not None for device in status.devices)
        stale = sum(len(device.presence.stale) for device in status.devices if not device.retired)
        for name, help_text, value in (
            ("devices", "Devices in service", len(status.device_ids())),
            ("devices_connected", "Devices connected", connected),
            ("stale_series", "Periodic series without a reading for several of their intervals", stale),
            ("ready", "1 when data are accepted and stored", not status.problems()),
            ("connections", "Open WebSocket connections", self.connections()),
        ):
            yield _gauge(name, help_text, [], [([], value)])
        presence = [([str(state)], float(count)) for state, count in status.presence_counts().items()]
        yield _gauge("devices_by_presence", "Devices by their state", ["state"], presence)
        quarantined = [([code], count) for code, count in status.journal.quarantine.totals.items()]
        yield _counter("quarantined_batches", "Batches put in quarantine", ["code"], quarantined)
        refused = [([reason.value], self.refusals[reason]) for reason in RefusalCause]
        yield _counter("refused_requests", "Requests and upgrades refused, since the start", ["reason"], refused)
        lags = [([consumer.name], consumer.lag) for consumer in flow.consumers]
        yield _gauge("consumer_lag_entries", "Journal entries still to process", ["consumer"], lags)
        if self.tls is not None:
            name, ends_s = "tls_certificate_not_after_timestamp_seconds", self.tls.certificate.not_after_s
            yield _gauge(name, "End of the certificate, in Unix time", [], [([], ends_s)])
        yield from collect_bridges(status.bridges())


def collect_bridges(bridges: Sequence[BridgeState]) -> Iterator[Metric]:
    """Yield the metrics of the bridges, labelled with their names; their lags are those of the journal's consumers."""
    if not bridges:
        return
    label = ["bridge"]
    connected = [([bridge.name], float(bridge.phase == "connected")) for bridge in bridges]
    yield _gauge("mqtt_connected", "1 while connected to the broker", label, connected)
    inbound = [(bridge.name, bridge.inward) for bridge in bridges if bridge.inward is not None]
    outbound = [(bridge.name, bridge.outward) for bridge in bridges if bridge.outward is not None]
    for metrics, counted in ((INBOUND, inbound), (OUTBOUND, outbound)):
        for name, field, help_text in metrics:
            samples = [([bridge], getattr(counts, field)) for bridge, counts in counted]
            yield _counter(f"mqtt_{name}", f"{help_text}, since the start", label, samples)
    yield _counter(
        "mqtt_sparkplug",
        "Exceptions of a Sparkplug host application, by reason, since the start",
        [*label, "reason"],
        [([bridge.name, reason], count) for bridge in bridges for reason, count in (bridge.sparkplug or {}).items()],
    )
    in_flight = [([name], counts.in_flight) for name, counts in outbound]
    yield _gauge("mqtt_in_flight_messages", "Published messages that wait for their acknowledgement", label, in_flight)


Samples = Iterable[tuple[list[str], float]]
"""The values of the labels, and the value, of each sample."""


def _filled(
    kind: type[CounterMetricFamily | GaugeMetricFamily], name: str, help_text: str, labels: list[str], samples: Samples
) -> Metric:
    family = kind(f"hub_{name}", help_text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


_counter = partial(_filled, CounterMetricFamily)
_gauge = partial(_filled, GaugeMetricFamily)
