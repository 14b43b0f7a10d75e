"""Tests of the metrics of bridges for Prometheus."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from hub.http.routes.operations import collect_bridges
from hub.model.bridge import BridgeState
from tests.hub.http.routes.bridge_states import BOTH, ONLY_IN, WAITING


class Bridges(Collector):
    """The metrics of some bridges."""

    def __init__(self, *bridges: BridgeState) -> None:
        self._bridges = bridges

    def collect(self) -> list[Metric]:
        return [*collect_bridges(self._bridges)]


def samples(*bridges: BridgeState) -> dict[tuple[str, str], float]:
    return {
        (sample.name.removeprefix("hub_mqtt_"), sample.labels["bridge"]): sample.value
        for family in text_string_to_metric_families(generate_latest(Bridges(*bridges)).decode())
        for sample in family.samples
    }


def test_prometheus_gets_each_count_labelled_with_its_bridge() -> None:
    """A direction that a bridge does not have gets no sample: 0 would be wrong."""
    found = samples(BOTH, WAITING, ONLY_IN)
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
        "refused_readings_total": 7,
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
