"""What is told of the bridges to MQTT brokers: over HTTP, to Prometheus and in /ready."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from fastapi.requests import Request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from hub.http import mqtt, problem, schemas
from hub.model.bridge import BridgeState, InboundCounts, OutboundCounts
from hub.model.identity import Identity, Role

IN = InboundCounts(received=20, taken=11, undecodable=2, retained=3, own=4, copies=6, accepted=40, duplicates=5)
OUT = OutboundCounts(
    published=9, acknowledged=6, in_flight=3, passed_over=2, offset=70, lag=8, too_large=1, refused=4, missed=5
)
BOTH = BridgeState("plant", "mqtts://broker:8883", "5", "connected", 7, None, IN, OUT, {"gap": 3})
AWAY = BridgeState("cabin", "mqtt://cabin:1883", "", "waiting", 8, "it refuses connections", None, OutboundCounts())
ONLY_IN = BridgeState("field", "mqtt://field:1883", "3.1.1", "connecting", 9, None, InboundCounts(), None)


async def answer(bridges: list[BridgeState], role: Role = Role.VIEWER) -> httpx.Response:
    async def identify(_: Request) -> Identity:
        return Identity("t", role, "")

    api = FastAPI()
    api.state.identify = identify
    problem.install(api)
    mqtt.install(api, lambda: bridges, now_ns=lambda: 99)
    transport = httpx.ASGITransport(app=api)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        return await client.get("/api/v1/mqtt")


async def test_the_answer_has_every_count_and_fits_its_description() -> None:
    """In the order of the settings; what a bridge does not do is null."""
    told = schemas.Bridges.model_validate_json((await answer([BOTH, AWAY, ONLY_IN])).content)
    assert told.time_ns == 99
    assert [(b.name, b.phase, b.last_error, b.inward is None, b.outward is None) for b in told.bridges] == [
        ("plant", "connected", None, False, False),
        ("cabin", "waiting", "it refuses connections", True, False),
        ("field", "connecting", None, False, True),
    ]
    plant = told.model_dump()["bridges"][0]
    assert (plant["inward"], plant["outward"], plant["sparkplug"]) == (IN._asdict(), OUT._asdict(), {"gap": 3})
    assert told.bridges[1].sparkplug is None


async def test_a_hub_without_a_bridge_says_so_and_a_device_is_told_nothing() -> None:
    """An empty list, and 403."""
    assert (await answer([])).json() == {"time_ns": 99, "bridges": []}
    assert (await answer([BOTH], Role.DEVICE)).status_code == 403


class Bridges(Collector):
    def __init__(self, *bridges: BridgeState) -> None:
        self._bridges = bridges

    def collect(self) -> list[Metric]:
        return [*mqtt.collect(self._bridges)]


def samples(*bridges: BridgeState) -> dict[tuple[str, str], float]:
    registry = CollectorRegistry()
    registry.register(Bridges(*bridges))
    return {
        (sample.name.removeprefix("hub_mqtt_"), sample.labels["bridge"]): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_prometheus_gets_each_count_with_the_name_of_its_bridge() -> None:
    """And no sample of what a bridge does not do: 0 would be a lie."""
    found = samples(BOTH, AWAY, ONLY_IN)
    assert {bridge: found["connected", bridge] for bridge in ("plant", "cabin", "field")} == {
        "plant": 1, "cabin": 0, "field": 0,
    }  # fmt: skip
    assert {name: value for (name, bridge), value in found.items() if bridge == "plant"} == {
        "connected": 1,
        "received_messages_total": 20,
        "taken_messages_total": 11,
        "undecodable_messages_total": 2,
        "retained_messages_total": 3,
        "own_messages_total": 4,
        "copies_messages_total": 6,
        "accepted_readings_total": 40,
        "duplicate_readings_total": 5,
        "published_messages_total": 9,
        "acknowledged_messages_total": 6,
        "too_large_messages_total": 1,
        "refused_messages_total": 4,
        "passed_over_entries_total": 2,
        "missed_entries_total": 5,
        "in_flight_messages": 3,
        "sparkplug_total": 3,
    }
    assert ("received_messages_total", "cabin") not in found
    assert ("published_messages_total", "field") not in found


def test_without_a_bridge_there_are_no_metrics_of_bridges() -> None:
    """Most hubs have none."""
    assert samples() == {}


@pytest.mark.parametrize(("bridges", "said"), [([], {}), ([BOTH, AWAY], {"mqtt:cabin": "it refuses connections"})])
def test_a_broker_that_is_away_is_a_warning(bridges: list[BridgeState], said: dict[str, str]) -> None:
    """With its bridge's name."""
    assert mqtt.warnings(bridges) == said
