"""/health, /ready and /metrics: for whoever runs the hub. No device id is a label, so their number is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus

import msgspec
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from hub.http import mqtt, schemas
from hub.http.overview import Overview

TEXT = "text/plain; version=0.0.4; charset=utf-8"


def install(api: FastAPI, overview: Overview, connections: Callable[[], int]) -> None:
    """Adds the three to the application."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_HubCollector(overview, connections))

    @api.get("/health", responses={200: {"content": {"text/plain": {}}}})
    async def health() -> Response:
        """The process runs and answers."""
        return Response("ok\n", media_type="text/plain")

    @api.get("/ready", response_model=schemas.Readiness, responses={503: {"model": schemas.Readiness}})
    async def ready() -> Response:
        """Whether data are taken in and stored; 503 with the reasons where not. A broker that is away, and
        a registry that is full, are told beside it."""
        problems = overview.problems()
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        warnings = {**mqtt.warnings(overview.bridges()), **overview.warnings()}
        told = {"ready": not problems, "problems": problems, "warnings": warnings}
        body = msgspec.json.encode(told)
        return Response(body, status_code=status, media_type="application/json")

    @api.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Prometheus text."""
        return Response(generate_latest(registry), media_type=TEXT)


class _HubCollector(Collector):
    """Reads the hub's own counters when it is asked, so that counting costs the hot path nothing."""

    def __init__(self, overview: Overview, connections: Callable[[], int]) -> None:
        self._overview = overview
        self._connections = connections

    def collect(self) -> Iterator[Metric]:
        """The metrics as of now."""
        for name, help_text, value in self._overview.counters():
            family = CounterMetricFamily(f"hub_{name}", help_text)
            family.add_metric([], value)
            yield family
        gauges = [*self._overview.gauges(), ("connections", "Open WebSocket connections", self._connections())]
        for name, help_text, amount in gauges:
            gauge = GaugeMetricFamily(f"hub_{name}", help_text)
            gauge.add_metric([], amount)
            yield gauge
        quarantined = CounterMetricFamily("hub_quarantined_batches", "Batches put in quarantine", labels=["code"])
        for code, count in self._overview.quarantined_batches().items():
            quarantined.add_metric([code], count)
        yield quarantined
        lag = GaugeMetricFamily("hub_consumer_lag_entries", "Journal entries still to do", labels=["consumer"])
        for name, entries in self._overview.lags().items():
            lag.add_metric([name], entries)
        yield lag
        yield from mqtt.collect(self._overview.bridges())
