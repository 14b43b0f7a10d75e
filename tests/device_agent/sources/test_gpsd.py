"""A gpsd as a source, simulated by its documented protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from msgspec import ValidationError, convert

from device_agent.sources.gpsd import GpsdSettings, receiver_problem
from device_agent.sources.settings import SourceContext
from tests.conditions import until
from tests.device_agent.collected import Collected, collected
from tests.device_agent.simulated_gpsd import SimulatedGpsd, running_gpsd
from wire.timestamp import NS_PER_S

POSITION = {
    "class": "TPV", "device": "/dev/ttyACM0", "mode": 3, "time": "2026-11-28T15:00:00.000Z", "lat": 59.4372,
    "lon": 24.7454, "altMSL": 19.1, "speed": 1.25, "track": 92.5,
}  # fmt: skip
TIME_NS = 1_795_878_000 * NS_PER_S
NO_RECEIVER = "gpsd has no receiver; is it plugged in, and known to gpsd?"


@asynccontextmanager
async def watching(gpsd: SimulatedGpsd, **settings: object) -> AsyncIterator[Collected]:
    source = convert({"address": f"127.0.0.1:{gpsd.port}", **settings}, GpsdSettings).source(SourceContext("boat"))
    source._retry_s = 0.01
    async with collected(source) as found:
        await until(lambda: gpsd.clients)
        yield found


async def test_reports_are_readings_with_units_and_time() -> None:
    """The first report decides nothing: the format is that of gpsd, whatever comes first."""
    async with running_gpsd("/dev/ttyACM0") as gpsd, watching(gpsd) as found:
        gpsd.report(**POSITION)
        gpsd.report(**{"class": "SKY", "device": "/dev/ttyACM0", "hdop": 0.7, "nSat": 12, "uSat": 9})
        gpsd.report(**{"class": "PPS", "device": "/dev/ttyACM0", "real_sec": 1, "clock_sec": 1})
        await until(lambda: len(found.readings) == 2)
    position, sky = found.readings
    assert position.values == {
        "latitude": 59.4372, "longitude": 24.7454, "altitude": 19.1, "speed": 1.25, "course": 92.5, "fix_type": 3,
    }  # fmt: skip
    assert sky.values == {"hdop": 0.7, "satellites_in_view": 12, "satellites": 9}
    assert (position.time_ns, sky.time_ns) == (TIME_NS, TIME_NS)
    assert {metric.name: metric.unit for metric in position.metrics}["speed"] == "m/s"
    assert gpsd.requests == ['?WATCH={"enable":true,"json":true};']
    assert (found.refused, found.errors) == ([], [])


async def test_one_receiver_can_be_chosen() -> None:
    """Reports of another one are not mixed with its own."""
    async with (
        running_gpsd("/dev/ttyACM0", "/dev/ttyACM1") as gpsd,
        watching(gpsd, receiver="/dev/ttyACM1") as found,
    ):
        gpsd.report(**POSITION)
        gpsd.report(**{**POSITION, "device": "/dev/ttyACM1", "lat": 1.5})
        await until(lambda: found.readings)
    assert [row["latitude"] for row in found.values] == [1.5]
    assert found.source.health.name.endswith(" /dev/ttyACM1")


async def test_a_receiver_that_is_missing_is_a_failure_until_it_is_plugged_in() -> None:
    """The connection to gpsd says nothing about it."""
    async with running_gpsd() as gpsd, watching(gpsd) as found:
        await found.until_error(NO_RECEIVER)
        gpsd.plug_in("/dev/ttyACM0")
        await until(lambda: found.source.health.error is None)
        gpsd.unplug("/dev/ttyACM0")
        await found.until_error("the receiver /dev/ttyACM0 is gone; is it plugged in?")
        gpsd.report(**POSITION)
        await until(lambda: found.source.health.error is None)


async def test_a_gpsd_that_ends_is_a_failure_until_it_returns() -> None:
    """The source asks for reports again."""
    async with AsyncExitStack() as first:
        gpsd = await first.enter_async_context(running_gpsd("/dev/ttyACM0"))
        async with watching(gpsd) as found:
            await first.aclose()
            await found.until_error("no connection: nothing listens there")
            async with running_gpsd("/dev/ttyACM0", port=gpsd.port) as again:
                await until(lambda: again.clients and found.source.health.error is None)
                again.report(**POSITION)
                await until(lambda: found.readings)


async def test_a_silent_gpsd_is_connected_again() -> None:
    """A receiver reports each second; silence is a defect of the network or of gpsd."""
    async with running_gpsd("/dev/ttyACM0") as gpsd, watching(gpsd, silence_s=0.2) as found:
        await found.until_error("nothing arrived for 0.2 s")
        await until(lambda: len(gpsd.requests) >= 2)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"class":"DEVICES","devices":[]}', NO_RECEIVER),
        (b'{"class":"DEVICES","devices":[{"path":"/dev/a"}]}', None),
        (b'{"class":"DEVICE","path":"/dev/a","activated":0}', "the receiver /dev/a is gone; is it plugged in?"),
        (b'{"class":"DEVICE","path":"/dev/a","activated":"2026-11-28T15:05:40.000Z"}', None),
        (b'{"class":"ERROR","message":"no"}', "gpsd reports an error: no"),
        (b'{"class":"DEVICES"', ""),
        (b'[{"class":"DEVICES"}]', ""),
        (b'{"class":"DEVICES","devices":3}', ""),
        (b'{"a":"DEVICE' + b"[" * 5000, ""),
    ],
)
def test_lines_about_receivers_say_whether_one_works(line: bytes, problem: str | None) -> None:
    """Anything else says nothing about them."""
    assert receiver_problem(line) == problem


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"address": "gps:x"}, "is not an address"),
        ({"rules": {"format": "csv"}}, "the format of gpsd is its own"),
        ({"receiver": "a\nb"}, "is not the path of a receiver"),
    ],
)
def test_wrong_settings_say_what_is_wrong(settings: dict[str, object], reason: str) -> None:
    """Each names the value."""
    with pytest.raises(ValidationError, match=reason):
        convert(settings, GpsdSettings)


def test_the_usual_address_is_that_of_this_computer() -> None:
    """A host alone has the usual port."""
    assert GpsdSettings().default_name == "gpsd 127.0.0.1:2947"
    assert GpsdSettings(address="boat.local").default_name == "gpsd boat.local:2947"
