"""Commands of `device-agent` for serial ports."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from device_agent.commands import app
from device_agent.port_commands import is_port_name, port_text, rate_text
from device_agent.sources.ports import PortUser
from device_agent.sources.ports.baud import RateTrial
from device_agent.sources.ports.selection import PortInfo
from tests.device_agent.pty_port import PtyPort
from tests.device_agent.uart import SPEEDS, bits_of, receive


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


def test_the_rate_that_reads_is_printed(tmp_path: Path) -> None:
    """With the command that reads the port; as JSON too."""
    port = PtyPort(tmp_path / "sensor")
    port.plug_in()
    lines = b'{"t": 21.5, "state": "on"}\n' * 8
    done = threading.Event()

    def send() -> None:
        while not done.wait(0.002):
            asyncio.run(port.write(receive(bits_of(lines), 9600, SPEEDS[port.line()[5]]).data))

    sender = threading.Thread(target=send)
    sender.start()
    text = CliRunner().invoke(app, ["try", str(port.path), "--find-baud"])
    facts = CliRunner().invoke(app, ["try", str(port.path), "--find-baud", "--json"])
    done.set()
    sender.join()
    port.pull()
    assert text.exit_code == facts.exit_code == 0
    first, second = (line.split() for line in text.stdout.splitlines()[1:3])
    assert (first[0], second[0], second[2], second[-2:]) == ("115,200", "9,600", "100%", ["reads:", "json"])
    command = f"device-agent try {port.path} --baud 9600"
    assert text.stdout.endswith(f"9,600 baud reads. See the readings:\n{command}\n")
    found = json.loads(facts.stdout)
    assert (found["baud"], found["frame"], found["command"]) == (9600, "8N1", command)
    assert [rate["baud"] for rate in found["rates"]] == [115_200, 9600]


def test_no_rate_says_what_to_look_at(tmp_path: Path) -> None:
    """A silent device, an absent one, and a rate that cannot be set."""
    port = PtyPort(tmp_path / "sensor")
    absent = CliRunner().invoke(app, ["try", "1234:5678", "--find-baud"])
    assert (absent.exit_code, "no port matches 1234:5678" in absent.stderr) == (1, True)
    port.plug_in()
    silent = CliRunner().invoke(app, ["try", str(port.path), "--find-baud", "--seconds", "0.1"])
    port.pull()
    assert (silent.exit_code, "nothing arrives: check the power" in silent.stdout) == (1, True)
    assert rate_text(RateTrial(7, problem="the port does not support 7 baud")).endswith("does not support 7 baud")
