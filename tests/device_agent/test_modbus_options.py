"""Options of a Modbus bus: registers of the command line, and the file with maps."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.modbus_options import BusOptions
from formats.modbus import Register
from formats.rules import RulesError


def test_registers_of_the_command_line_are_a_map() -> None:
    """Name, type, scale and unit are optional; a range has a field for each register."""
    options = BusOptions(register=["voltage=0:f32:0.1:V", "7", "8-9:i16"], slave=3, table="input", poll=5)
    settings = options.settings(port="/dev/ttyUSB0", baud=19_200, frame="8E1")
    assert (settings.baud, settings.frame) == (19_200, "8E1")
    (polled,) = settings.maps
    assert (polled.slave, polled.table, polled.interval_s) == (3, "input", 5)
    assert polled.fields == {
        "voltage": Register(0, "f32", 0.1, unit="V"),
        "r7": Register(7),
        "r8": Register(8, "i16"),
        "r9": Register(9, "i16"),
    }


def test_options_win_over_the_file(tmp_path: Path) -> None:
    """The port may be in the file; a register of the command line is polled in addition."""
    file = tmp_path / "bus.toml"
    file.write_text('port = "/dev/ttyS0"\nbaud = 2400\n[[maps]]\nslave = 1\nfields.x.address = 0\n')
    settings = BusOptions(map=file, register=["9"], slave=2, timeout=0.5).settings(port="", baud=9600)
    assert (settings.port, settings.baud, settings.timeout_s) == ("/dev/ttyS0", 9600, 0.5)
    assert [polled.slave for polled in settings.maps] == [1, 2]


@pytest.mark.parametrize(
    ("options", "port", "message"),
    [
        (BusOptions(register=["voltage"]), "tcp://host", "is no register: write"),
        (BusOptions(register=["x=0-9"]), "tcp://host", "FIRST-LAST without a name"),
        (BusOptions(register=["9-0"]), "tcp://host", "FIRST-LAST"),
        (BusOptions(register=["0:u16:1e"]), "tcp://host", "is no scale"),
        (
            BusOptions(register=["0:u99"]),
            "tcp://host",
            "'u99' is no type of a register: use one of u16, i16,",
        ),
        (BusOptions(register=["0"]), "", "the port is missing"),
        (BusOptions(), "tcp://host", "nothing to poll"),
        (BusOptions(register=["0"], slave=300), "tcp://host", "wrong: maps 1: slave: expected `int` <= 255"),
        (BusOptions(map=Path("/nonexistent/bus.toml")), "tcp://host", "No such file"),
        (BusOptions(map=Path(__file__)), "tcp://host", "is not TOML"),
    ],
)
def test_options_that_describe_no_bus_are_refused(options: BusOptions, port: str, message: str) -> None:
    """The message says what to write."""
    with pytest.raises(RulesError, match=message):
        options.settings(port=port)
