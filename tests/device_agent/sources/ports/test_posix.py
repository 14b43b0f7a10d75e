"""Ports of Linux: what sysfs, /dev and /proc say of them, and real ttys."""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import os
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.sources.ports import PortError, PortSettings, PortUser
from device_agent.sources.ports.posix import TtyPort, _permission_text, _prepare, busy_text, linux_ports, users_of
from tests.device_agent.pty_port import PtyPort
from tests.device_agent.usb_ports import UsbPorts

TIOCGEXCL = 0x80045440
"""Linux: reads what TIOCEXCL set."""


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[PtyPort]:
    wire = PtyPort(tmp_path / "sensor")
    wire.plug_in()
    yield wire
    wire.pull()


def test_ports_are_listed_with_their_devices(tmp_path: Path) -> None:
    """USB ports have their ids, serial number, place and permanent name; consoles and absent UARTs are left out."""
    usb = UsbPorts(tmp_path)
    usb.plug_in("ttyUSB10", "1A86:7523", location="1-4.2")
    usb.plug_in("ttyUSB2", "2341:0043", "A1")
    (tmp_path / "sys/class/tty/console").mkdir()
    for name, kind in (("ttyS0", "4"), ("ttyS1", "0")):
        (tmp_path / "sys/class/tty" / name / "device").mkdir(parents=True)
        (tmp_path / "sys/class/tty" / name / "type").write_text(f"{kind}\n")
    ports = linux_ports(tmp_path)
    usb.close()
    assert [Path(port.path).name for port in ports] == ["ttyS0", "ttyUSB2", "ttyUSB10"]
    uno, clone = ports[1:]
    assert (uno.usb_id, uno.product, uno.driver, uno.location) == ("2341:0043:A1", "Uno", "ch341-uart", "1-1")
    assert uno.by_id == str(tmp_path / "dev/serial/by-id/usb-Arduino_Uno_A1-if00")
    assert (clone.usb_id, clone.by_id, clone.location, clone.interface) == ("1a86:7523", "", "1-4.2", "00")
    assert linux_ports(tmp_path / "nothing") == []


@pytest.mark.parametrize("lock", [False, True])
def test_the_program_that_uses_a_port_is_named(wire: PtyPort, lock: bool) -> None:
    """By its open file, and by its lock where other users' files are not shown."""
    script = f"""
import fcntl, os, sys
port = os.open({str(wire.path)!r}, os.O_RDWR | os.O_NOCTTY)
if {lock}: fcntl.flock(port, fcntl.LOCK_EX)
print("open", flush=True)
sys.stdin.read()
"""
    program = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdin is not None
    assert program.stdout is not None
    with program:
        program.stdout.readline()
        (user,) = users_of(str(wire.path))
        assert user.pid == program.pid
        if lock:
            with pytest.raises(
                PortError, match=rf"another program uses the port: \S+ \(process {program.pid}\)"
            ) as busy:
                TtyPort(str(wire.path), PortSettings(port=str(wire.path)))
            assert busy.value.errno == errno.EBUSY
        program.stdin.close()
    assert users_of(str(wire.path)) == []


def test_a_lock_of_another_user_or_of_minicom_names_its_owner(tmp_path: Path) -> None:
    """/proc/locks shows the locks of all; a lock file counts while its process runs."""
    port = tmp_path / "ttyUSB0"
    port.touch()
    file = port.stat()
    number = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    proc = tmp_path / "proc"
    for pid, name in ((12, "gpsd"), (34, "minicom")):
        (proc / str(pid)).mkdir(parents=True)
        (proc / str(pid) / "comm").write_text(f"{name}\n")
    (proc / "12" / "comm").write_text("python3\n")
    (proc / "12" / "cmdline").write_bytes(b"python3\0-u\0/usr/bin/gpsd\0--now\0")
    locks = [f"1: FLOCK  ADVISORY  WRITE 12 {number} 0 EOF", f"1: -> FLOCK  ADVISORY  WRITE 77 {number} 0 EOF"]
    (proc / "locks").write_text("\n".join(locks))
    (tmp_path / "run/lock").mkdir(parents=True)
    (tmp_path / "run/lock/LCK..ttyUSB0").write_text("        34\n")
    assert users_of(str(port), root=tmp_path) == [PortUser(12, "gpsd"), PortUser(34, "minicom")]
    (proc / "12" / "cmdline").write_bytes(b"python3\0-m\0device_agent.service\0agent.toml\0")
    assert users_of(str(port), root=tmp_path)[0] == PortUser(12, "device-agent")
    (proc / "12" / "cmdline").write_bytes(b"python3\0/usr/bin/gpsd\0")
    (tmp_path / "run/lock/LCK..ttyUSB0").write_text("        56\n")
    assert users_of(str(port), root=tmp_path) == [PortUser(12, "gpsd")]
    assert busy_text([PortUser(12, "gpsd")]).startswith("another program uses the port: gpsd (process 12); end it")


def test_a_port_is_locked_and_does_not_reset_a_board_when_it_is_opened_again(wire: PtyPort) -> None:
    """No program can open it beside this one, also without a lock; its control lines stay at the close."""
    descriptor = os.open(wire.path, os.O_RDWR | os.O_NOCTTY)
    attributes = termios.tcgetattr(descriptor)
    attributes[2] |= termios.HUPCL
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
    _prepare(descriptor, PortSettings(port="x", reset=True, dtr=False), is_pty=False)
    exclusive = array.array("i", [0])
    fcntl.ioctl(descriptor, TIOCGEXCL, exclusive)
    assert exclusive[0] == 1
    assert not termios.tcgetattr(descriptor)[2] & termios.HUPCL
    fcntl.ioctl(descriptor, termios.TIOCNXCL)
    os.close(descriptor)


async def test_the_settings_of_the_line_reach_the_driver(wire: PtyPort) -> None:
    """Rate and stop bits; a pty knows no others."""
    port = TtyPort(str(wire.path), PortSettings(port="x", baud=9600, frame="7E2"))
    flags, speed = wire.line()[2], wire.line()[5]
    port.close()
    assert speed == termios.B9600
    assert flags & termios.CSTOPB


async def test_closing_a_port_ends_a_read_that_waits(wire: PtyPort) -> None:
    """The reader gets an error, and the lock is free at once."""
    port = TtyPort(str(wire.path), PortSettings(port="x"))
    assert port.line_errors() is None  # a pty counts none
    reading = asyncio.ensure_future(port.read())
    await asyncio.sleep(0)
    port.close()
    TtyPort(str(wire.path), PortSettings(port="x")).close()
    with pytest.raises(OSError, match="the port was closed"):
        await reading
    assert port.line_errors() is None


def test_the_group_of_a_port_is_named(tmp_path: Path) -> None:
    """The agent's user has to be a member of it."""
    port = tmp_path / "ttyUSB0"
    port.touch()
    assert _permission_text(str(port)).endswith(f"to the group that owns it, {port.group()}")
    assert _permission_text(str(tmp_path / "gone")).endswith("often dialout")


def test_settings_are_checked() -> None:
    """Wrong ones are refused, with what to write instead."""
    assert PortSettings(port="x", frame="7E2").frame_parts == (7, "E", 2)
    with pytest.raises(ValueError, match="such as 8N1 or 7E1"):
        PortSettings(port="x", frame="8-N-1")
