"""Settings of a Modbus bus: addresses, silence between frames, and contradictions that are named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from device_agent.sources.modbus.settings import BusAddress, ModbusSettings, address_of

MAP: dict[str, Any] = {"slave": 3, "fields": {"power": {"address": 0}}}


def settings_of(fields: dict[str, Any]) -> ModbusSettings:
    return msgspec.convert(fields, ModbusSettings)


@pytest.mark.parametrize(
    ("port", "address"),
    [
        ("/dev/ttyUSB0", BusAddress("serial", "/dev/ttyUSB0")),
        ("COM3", BusAddress("serial", "COM3")),
        ("tcp://plc.example", BusAddress("tcp", "plc.example", 502)),
        ("tcp://[::1]:1502", BusAddress("tcp", "::1", 1502)),
        ("socket://192.0.2.7:4196", BusAddress("rtu_over_tcp", "192.0.2.7", 4196)),
    ],
)
def test_a_bus_is_a_port_or_an_address(port: str, address: BusAddress) -> None:
    """A converter that passes the bytes of the line has the address that pyserial uses for it."""
    assert address_of(port) == address


@pytest.mark.parametrize("port", ["", "tcp://", "socket://host", "http://host", "tcp://host:x", "tcp://host/unit"])
def test_another_address_is_refused(port: str) -> None:
    """The message says what to write."""
    with pytest.raises(ValueError, match=r"write|no address"):
        address_of(port)


@pytest.mark.parametrize(
    ("fields", "silence_s"),
    [
        ({"port": "/dev/ttyUSB0"}, 3.5 * 11 / 9600),
        ({"port": "/dev/ttyUSB0", "baud": 115_200}, 0.00175),
        ({"port": "socket://host:1"}, 0.00175),
        ({"port": "tcp://host"}, 0.0),
        ({"port": "tcp://host", "silence_s": 0.05}, 0.05),
    ],
)
def test_frames_on_a_line_are_separated_by_silence(fields: dict[str, Any], silence_s: float) -> None:
    """It lasts 3.5 characters, and never less than 1.75 ms."""
    assert settings_of({**fields, "maps": [MAP]}).pause_s == pytest.approx(silence_s)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": []}, "maps"),
        ({"speed": 9600}, "speed"),
        ({"maps": [{**MAP, "slave": 250}]}, "use 1 to 247"),
        ({"maps": [MAP, {**MAP, "slave": 4}]}, "give each map a `name`"),
        ({"maps": [{**MAP, "table": "coil", "fields": {"x": {"address": 0, "type": "f32"}}}]}, "values are bits"),
        ({"maps": [{**MAP, "max_registers": 1, "fields": {"x": {"address": 0, "type": "f32"}}}]}, "2 registers"),
        ({"maps": [{**MAP, "fields": {"x": {"address": 65_535, "type": "f32"}}}]}, "last register"),
    ],
)
def test_what_cannot_work_is_refused_before_the_bus_is_opened(changes: dict[str, Any], message: str) -> None:
    """The message names the setting."""
    with pytest.raises(msgspec.ValidationError, match=message):
        settings_of({"port": "/dev/ttyUSB0", "maps": [MAP], **changes})


def test_two_maps_of_one_slave_may_have_one_metric_space() -> None:
    """The name of a map begins the names of its metrics, so that slaves have different ones."""
    settings = settings_of(
        {"port": "/dev/ttyUSB0", "maps": [{**MAP, "name": "meter"}, {**MAP, "slave": 4, "name": "pump"}]}
    )
    assert [polled.metric("power") for polled in settings.maps] == ["meter.power", "pump.power"]
