"""This computer's own sensors."""

from __future__ import annotations

import logging
from contextlib import aclosing

import psutil
import pytest

from device_agent.catalogue import MetricCatalogue
from device_agent.sources.host import CounterRates, HostSource, _word
from tests.device_agent.records import agent_records


async def test_the_sensors_of_this_computer_are_readings() -> None:
    """There are processors, memory, disks and the system; every value passes the agent's check as defined."""
    catalogue = MetricCatalogue()
    rows = []
    async with aclosing(HostSource(interval_seconds=0.05).readings()) as readings:
        async for reading in readings:
            for metric in reading.metrics:
                catalogue.declare(metric)
            rows.append(catalogue.check_row(reading.values))
            if len(rows) == 3:
                break
    expected = {"cpu.total", "cpu.0", "load.1m", "memory.used_percent", "memory.available", "system.uptime"}
    assert expected <= set(rows[0])
    assert sum(name.startswith("cpu.") for name in rows[0]) == (psutil.cpu_count() or 0) + 1
    assert all(0 <= float(row[name]) <= 100 for row in rows for name in expected if "percent" in name or "cpu" in name)  # type: ignore[arg-type]
    assert catalogue.metrics["memory.used"].unit == "B"
    assert catalogue.metrics["system.processes"].type == "integer"
    rates = {name for name in rows[-1] if name.endswith("_rate")}
    assert not any(name.endswith("_rate") for name in rows[0])
    assert all(name in catalogue.metrics and catalogue.metrics[name].unit == "B/s" for name in rates)
    assert not any(name.startswith("network.lo.") for name in rows[-1])


async def test_a_definition_is_sent_once() -> None:
    """Definitions come with the first value of each metric, not again."""
    source = HostSource(include_loopback=True)
    first, second, third = source.sample(), source.sample(), source.sample()
    assert {metric.name for metric in first.metrics} == set(first.values)
    assert {metric.name for metric in second.metrics} == set(second.values) - set(first.values)
    assert "network.lo.receive_rate" in second.values
    assert not {metric.name for metric in third.metrics} & set(second.values)


def test_rates_need_two_looks() -> None:
    """A rate is the difference over the time between; a counter that went back gives none once."""
    rates = CounterRates()
    rates.now = 10.0
    assert rates.of("x", 100, 50) == (None, None)
    rates.now = 12.0
    assert rates.of("x", 300, 20) == (100.0, None)
    rates.now = 13.0
    assert rates.of("x", 300, 30) == (0.0, 10.0)
    assert rates.of("x", 400, 40) == (None, None)


def test_a_sensor_that_cannot_be_read_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A group of sensors that fails is reported once and does not affect the others."""

    def denied() -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "virtual_memory", denied)
    source = HostSource()
    for _ in range(3):
        values = source.sample().values
        assert "cpu.total" in values
        assert "memory.used" not in values
    assert [record.levelno for record in agent_records(caplog)] == [logging.WARNING]


@pytest.mark.parametrize(
    ("text", "word"), [("Core 0", "core_0"), ("/boot/efi", "boot_efi"), ("wlan0", "wlan0"), ("µ°", "µ"), ("  ", "")]
)
def test_names_are_made_of_words(text: str, word: str) -> None:
    """A name given by the system becomes a part of a metric's name."""
    assert _word(text) == word


async def test_a_sensor_that_worked_and_fails_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sensor that this computer never had is none; one that worked is a fault until it works again."""

    def missing() -> None:
        raise FileNotFoundError("no battery")

    monkeypatch.setattr(psutil, "sensors_battery", missing, raising=False)
    source = HostSource(interval_seconds=0.001)
    memory = psutil.virtual_memory
    errors = []
    async with aclosing(source.readings()) as readings:
        for function in (memory, missing, memory):
            monkeypatch.setattr(psutil, "virtual_memory", function)
            await anext(readings)
            errors.append(source.health.error)
    assert errors == [None, "cannot read memory: no battery", None]
