"""Commands of `device-agent` for serial ports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from device_agent.commands import app
from device_agent.port_commands import is_port_name, port_text
from device_agent.sources.ports import PortUser
from device_agent.sources.ports.selection import PortInfo


def test_ports_of_this_computer_are_listed() -> None:
    """As text and as JSON; a computer without ports is no error."""
    result = CliRunner().invoke(app, ["ports"])
    assert result.exit_code == 0
    listed = json.loads(CliRunner().invoke(app, ["ports", "--json"]).stdout)
    assert [line.split()[0] for line in result.stdout.splitlines() if line[0] == "/"] == [p["path"] for p in listed]


def test_a_port_is_described_by_what_to_use_as_its_name() -> None:
    """The permanent name first, then the ids; a device cannot control the terminal by its own name."""
    uno = PortInfo(
        path="/dev/ttyUSB0", by_id="/dev/serial/by-id/usb-Uno-if00", vid="2341", pid="0043", serial_number="A1",
        manufacturer="Arduino", product="Uno\x1b[2J", location="1-4.2",
    )  # fmt: skip
    assert port_text(uno, [PortUser(12, "minicom")]).splitlines() == [
        r"/dev/ttyUSB0  Arduino Uno\x1b[2J",
        "  use         /dev/serial/by-id/usb-Uno-if00",
        "  USB device  2341:0043:A1",
        "  plugged in  at 1-4.2",
        "  used by     minicom (process 12)",
    ]
    clone = PortInfo(path="/dev/ttyUSB1", vid="1a86", pid="7523", driver="ch341-uart")
    assert port_text(clone, []).splitlines()[:2] == ["/dev/ttyUSB1  ch341-uart", "  use         1a86:7523"]
    assert port_text(PortInfo(path="/dev/ttyS0"), []).splitlines()[1] == "  use         /dev/ttyS0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2341:0043", True),
        ("socket://127.0.0.1:1", True),
        ("/dev/ttyUSB*", True),
        ("log*.csv", False),
        ("/dev/null", True),
        ("2341-0043.csv", False),
    ],
)
def test_an_argument_is_a_port_or_a_file(text: str, expected: bool) -> None:
    """A port that is absent is still a port, so that the error says so."""
    assert is_port_name(text) == expected


def test_a_file_with_the_name_of_a_device_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It exists."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2341:0043").touch()
    assert not is_port_name("2341:0043")
