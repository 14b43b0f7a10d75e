"""/api/v1/mqtt: the bridges to MQTT brokers as they are now, for the page and for scripts; and their metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
from fastapi import FastAPI
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.responses import Response

from hub.http import schemas
from hub.http.caller import Reader
from hub.http.problem import PROBLEMS
from hub.model.bridge import BridgeState, InboundCounts, OutboundCounts

RECEIVED = {
    "received": "Messages received from the broker",
    "taken": "Messages whose readings are durable",
    "undecodable": "Messages put in quarantine",
    "retained": "Retained messages older than the subscription, which are no new readings",
    "own": "Messages that this hub had published itself",
    "copies": "Messages that came once more, by another subscription",
}
PUBLISHED = {
    "published": "Messages given to the connection",
    "acknowledged": "Messages that the broker acknowledged, or the socket at QoS 0",
    "too_large": "Messages passed over since they are larger than the broker's packets",
    "refused": "Messages passed over since the broker refused them",
}


def install(api: FastAPI, bridges: Callable[[], Sequence[BridgeState]], *, now_ns: Callable[[], int]) -> None:
    """Adds the operation to the API. `bridges` gives every bridge's state, in the order of the settings."""

    @api.get("/api/v1/mqtt", response_model=schemas.Bridges, responses=PROBLEMS)
    async def mqtt(_: Reader) -> Response:
        """The bridges to MQTT brokers: how each is connected, and what came in and went out since the hub started."""
        body = msgspec.json.encode({"time_ns": now_ns(), "bridges": [_told(state) for state in bridges()]})
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


def _told(state: BridgeState) -> dict[str, object]:
    told = state._asdict()
    for direction in ("inward", "outward"):
        counts: InboundCounts | OutboundCounts | None = told[direction]
        told[direction] = None if counts is None else counts._asdict()
    return told


def warnings(bridges: Sequence[BridgeState]) -> dict[str, str]:
    """What is the matter with brokers, by bridge, for whoever runs the hub: none of it stops the hub's work."""
    return {f"mqtt:{bridge.name}": bridge.last_error for bridge in bridges if bridge.last_error is not None}


def collect(bridges: Sequence[BridgeState]) -> Iterator[Metric]:
    """The bridges' metrics for Prometheus, labelled with their names; the lag is that of the journal's consumers."""
    if not bridges:
        return
    connected = GaugeMetricFamily("hub_mqtt_connected", "1 while connected to the broker", labels=["bridge"])
    for bridge in bridges:
        connected.add_metric([bridge.name], float(bridge.phase == "connected"))
    yield connected
    inward = [(bridge.name, bridge.inward) for bridge in bridges if bridge.inward is not None]
    outward = [(bridge.name, bridge.outward) for bridge in bridges if bridge.outward is not None]
    for field, help_text in RECEIVED.items():
        yield _counter(f"{field}_messages", help_text, [(name, getattr(counts, field)) for name, counts in inward])
    yield _counter("accepted_readings", "Readings made durable", [(name, c.accepted) for name, c in inward])
    yield _counter(
        "duplicate_readings", "Readings that were there already", [(name, c.duplicates) for name, c in inward]
    )
    for field, help_text in PUBLISHED.items():
        yield _counter(f"{field}_messages", help_text, [(name, getattr(counts, field)) for name, counts in outward])
    yield _counter("passed_over_entries", "Entries that no template is for", [(n, c.passed_over) for n, c in outward])
    yield _counter(
        "missed_entries", "Entries deleted or not decodable before they went out", [(n, c.missed) for n, c in outward]
    )
    sparkplug = CounterMetricFamily(
        "hub_mqtt_sparkplug", "What a host application met, by reason, since the start", labels=["bridge", "reason"]
    )
    for bridge in bridges:
        for reason, times in (bridge.sparkplug or {}).items():
            sparkplug.add_metric([bridge.name, reason], times)
    yield sparkplug
    in_flight = GaugeMetricFamily(
        "hub_mqtt_in_flight_messages", "Published messages that wait for their acknowledgement", labels=["bridge"]
    )
    for name, counts in outward:
        in_flight.add_metric([name], counts.in_flight)
    yield in_flight


def _counter(name: str, help_text: str, values: Sequence[tuple[str, int]]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"hub_mqtt_{name}", f"{help_text}, since the start", labels=["bridge"])
    for bridge, value in values:
        family.add_metric([bridge], value)
    return family
