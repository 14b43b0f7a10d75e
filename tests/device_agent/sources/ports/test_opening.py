"""The port of a setting on this computer, and ports that only a thread can read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.sources.ports import PortError, PortSettings
from device_agent.sources.ports.opening import PortFinder, ThreadPort
from tests.device_agent.pty_port import PtyPort
from tests.device_agent.usb_ports import UsbPorts


@pytest.fixture
def usb(tmp_path: Path) -> Iterator[UsbPorts]:
    usb = UsbPorts(tmp_path)
    yield usb
    usb.close()


def test_a_device_is_found_under_each_of_its_names(usb: UsbPorts) -> None:
    """By path, permanent name, pattern and ids; two names of one port are one port."""
    usb.plug_in("ttyUSB0", "2341:0043", "A1")
    by_id = usb.path("serial/by-id/usb-Arduino_Uno_A1-if00")
    found = {
        text: PortFinder(text, root=usb.root).find()
        for text in (usb.path("ttyUSB0"), by_id, usb.path("serial/by-id/*Uno*"), "2341:0043", "2341:0043:A1")
    }
    assert list(found.values()) == [usb.path("ttyUSB0"), by_id, by_id, usb.path("ttyUSB0"), usb.path("ttyUSB0")]
    Path(usb.path("again")).symlink_to(by_id)
    assert PortFinder(usb.path("[at]*"), root=usb.root).find() == usb.path("again")


def test_a_device_that_comes_back_under_another_name_is_found(usb: UsbPorts) -> None:
    """The kernel gives the old name to the device that is plugged in first."""
    usb.plug_in("ttyUSB0", "2341:0043", "A1")
    finder = PortFinder(usb.path("ttyUSB0"), root=usb.root)
    assert finder.last_path == finder.find() == usb.path("ttyUSB0")
    usb.unplug("ttyUSB0")
    usb.plug_in("ttyUSB0", "1a86:7523", location="1-2")
    with pytest.raises(PortError, match="1a86:7523 instead of 2341:0043:A1"):
        finder.find()
    usb.plug_in("ttyUSB1", "2341:0043", "A1", location="1-3")
    assert finder.find() == usb.path("ttyUSB1")
    assert finder.is_port(usb.path("ttyUSB1"))
    assert not finder.is_port(usb.path("ttyUSB2"))
    finder.forget()
    assert finder.find() == usb.path("ttyUSB0")


async def test_a_thread_reads_where_a_port_cannot_be_watched(tmp_path: Path) -> None:
    """Closing the port ends the read."""
    wire = PtyPort(tmp_path / "sensor")
    wire.plug_in()
    port = ThreadPort(str(wire.path), PortSettings(port="x"))
    reading = asyncio.ensure_future(port.read())
    await wire.write(b"12345\n")
    data = await reading
    while len(data) < 6:
        data += await port.read()
    assert data == b"12345\n"
    assert port.line_errors() is None
    reading = asyncio.ensure_future(port.read())
    await asyncio.sleep(0)
    port.close()
    with pytest.raises(OSError, match="closed"):
        await reading
    wire.pull()
