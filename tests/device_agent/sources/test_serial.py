"""A sensor on a serial port: real ttys, of which the test holds the other end."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
import pytest
import serial

from device_agent.sources import SensorReading
from device_agent.sources.line_report import GOOD_LINES
from device_agent.sources.lines import MAX_LINE_BYTES
from device_agent.sources.ports import PortSettings
from device_agent.sources.serial import SerialSettings, SerialSource
from tests.conditions import until
from tests.device_agent.foreign import foreign_input
from tests.device_agent.pty_port import PtyPort
from tests.device_agent.terminal_server import TerminalServer
from tests.device_agent.uart import bits_of, receive
from tests.device_agent.usb_ports import UsbPorts


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[PtyPort]:
    wire = PtyPort(tmp_path / "sensor")
    yield wire
    wire.pull()


@asynccontextmanager
async def reading_from(source: SerialSource) -> AsyncIterator[AsyncGenerator[SensorReading, None]]:
    async with aclosing(source.readings()) as readings:
        yield readings


class Ear:
    """Hears what the source logs."""

    def __init__(self) -> None:
        self.heard: list[logging.LogRecord] = []
        self._changed = asyncio.Event()

    def filter(self, record: logging.LogRecord) -> bool:
        self.heard.append(record)
        self._changed.set()
        return True

    async def until(self, text: str) -> None:
        """Returns when something with this text was logged, and forgets all that was."""
        while not any(text in record.getMessage() for record in self.heard):
            self._changed.clear()
            await self._changed.wait()
        self.heard.clear()


@pytest.fixture
async def ear(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Ear]:
    caplog.set_level(logging.INFO, logger="device_agent")
    logger = logging.getLogger("device_agent.sources.serial")
    ear = Ear()
    logger.addFilter(ear)
    yield ear
    logger.removeFilter(ear)


class Plugged(NamedTuple):
    """A source that reads from its wire by now, what it gives, and the first reading to come."""

    source: SerialSource
    readings: AsyncGenerator[SensorReading, None]
    first: asyncio.Future[SensorReading]


@asynccontextmanager
async def plugged_in(wire: PtyPort, ear: Ear) -> AsyncIterator[Plugged]:
    wire.plug_in()
    source = SerialSource(PortSettings(port=str(wire.path)), foreign_input())
    async with reading_from(source) as readings:
        first = asyncio.ensure_future(anext(readings))
        await ear.until("reading from")
        yield Plugged(source, readings, first)


async def next_values(readings: AsyncGenerator[SensorReading, None]) -> dict[str, object]:
    return dict((await anext(readings)).values)


async def test_lines_become_readings(wire: PtyPort, ear: Ear) -> None:
    """Each line is a reading, wherever it is cut on its way; a time is in seconds since 1970 where it is that small."""
    async with plugged_in(wire, ear) as plugged:
        await wire.write(b'{"t": 1}\r\n{"t": 2, "imu": {"x": 3}}\n{"t"')
        assert (await plugged.first).values == {"t": 1}
        assert await next_values(plugged.readings) == {"t": 2, "imu.x": 3}
        await wire.write(b': 4, "time": 5}\n')
        assert await anext(plugged.readings) == SensorReading({"t": 4}, 5 * 10**9)
    assert plugged.source.input.counts.refused == 0


async def test_the_rest_of_a_line_at_the_beginning_is_no_trouble(wire: PtyPort, ear: Ear) -> None:
    """A port that is opened in the middle of a line begins with the next one, without a word."""
    async with plugged_in(wire, ear) as plugged:
        await wire.write(b'.5, "p": 3}\n{"t": 2}\n')
        assert (await plugged.first).values == {"t": 2}
    assert plugged.source.input.counts.refused == 0
    assert [record.levelname for record in ear.heard] == ["INFO"]


async def test_a_board_is_read_on_when_it_comes_back_under_another_name(tmp_path: Path, ear: Ear) -> None:
    """Also by its old name, which another board has then: its lines are not read."""
    usb = UsbPorts(tmp_path)
    usb.plug_in("ttyUSB0", serial_number="A1")
    settings = PortSettings(port=usb.path("ttyUSB0"))
    source = SerialSource(settings, foreign_input(), retry_seconds=0.001, root=usb.root)
    async with reading_from(source) as readings:
        for number, name in enumerate(("ttyUSB0", "ttyUSB1")):
            coming = asyncio.ensure_future(anext(readings))
            if number:
                usb.unplug("ttyUSB0")
                usb.plug_in("ttyUSB0", serial_number="B2", location="1-2")
                await ear.until("no connection")
                while "B2 instead of" not in (source.health.error or ""):  # noqa: ASYNC110 - each look is a thread's
                    await asyncio.sleep(0)
                usb.plug_in("ttyUSB1", serial_number="A1", location="1-3")
            await ear.until("ttyUSB1, at" if number else "ttyUSB0 at")
            await usb.write(name, b'{"n": %d}\n' % number)
            assert (await coming).values == {"n": number}
    usb.close()


@pytest.mark.parametrize("rfc2217", [False, True])
async def test_a_port_of_a_terminal_server_is_read(wire: PtyPort, rfc2217: bool) -> None:
    """All its lines arrive once and in order; the source waits for a server that is gone."""
    wire.plug_in()
    server = TerminalServer(wire.path, rfc2217=rfc2217)
    async with server.running():
        pass  # the address is known, and nobody listens
    source = SerialSource(PortSettings(port=server.url, baud=9600), foreign_input(), retry_seconds=0.01)
    async with reading_from(source) as readings:
        coming = asyncio.ensure_future(anext(readings))
        for start in (0, 500):
            await until(lambda: source.health.error)
            async with server.running(urlsplit(server.url).port or 0):
                await until(lambda: source.health.error is None)
                lines = b"".join(b'{"n": %d}\n' % number for number in range(start, start + 500))
                writing = asyncio.ensure_future(wire.write(lines))
                for number in range(start, start + 500):
                    assert (await coming).values == {"n": number}
                    coming = asyncio.ensure_future(anext(readings))
                await writing
                await asyncio.sleep(0)
        await until(lambda: source.health.error)
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    assert source.input.counts.refused == 0


async def test_noise_is_counted_and_logged_once(wire: PtyPort, ear: Ear) -> None:
    """Lines that are no objects, that never end, or are no text are passed over; one line of log says so."""
    async with plugged_in(wire, ear) as plugged:
        noise = b'{"t": 1}\nnoise\n{[1]\n{"t": "\xff\xfe"}\n\n' + b"x" * (MAX_LINE_BYTES * 2) + b'\n{"t": 2}\n'
        writing = asyncio.ensure_future(wire.write(noise))  # a tty holds little of it
        assert (await plugged.first).values == {"t": 1}
        assert await next_values(plugged.readings) == {"t": 2}
        await writing
        await wire.write(b'more noise\n{"t": 3}\n')
        assert await next_values(plugged.readings) == {"t": 3}
    assert plugged.source.input.counts.refused == 5
    (warning,) = (record for record in ear.heard if record.levelno >= logging.WARNING)
    assert (warning.levelname, "lines that are not readings" in warning.getMessage()) == ("WARNING", True)


async def test_pulling_and_plugging_in_is_outlived(wire: PtyPort, ear: Ear) -> None:
    """The source waits for a missing port, again after the port was unplugged, and continues with another tty."""
    source = SerialSource(PortSettings(port=str(wire.path)), foreign_input(), retry_seconds=0.001)
    async with reading_from(source) as readings:
        for number in range(4):
            coming = asyncio.ensure_future(anext(readings))
            await ear.until("no connection")
            wire.plug_in()
            await ear.until("reading from")
            await wire.write(b'{"n": %d}\n{"cut off": ' % number)
            assert (await coming).values == {"n": number}
            wire.pull()
    assert source.input.counts.refused == 0


async def test_an_absent_port_is_logged_once(wire: PtyPort, ear: Ear) -> None:
    """However often the source looks for a port, one line says that it is not there."""
    source = SerialSource(PortSettings(port=str(wire.path)), foreign_input(), retry_seconds=0)
    async with reading_from(source) as readings:
        coming = asyncio.ensure_future(anext(readings))
        while source._report.absence.total < 5:  # noqa: ASYNC110 - each look is a thread's
            await asyncio.sleep(0)
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    assert [record.levelname for record in ear.heard] == ["WARNING"]


async def test_a_port_has_one_reader(wire: PtyPort, ear: Ear) -> None:
    """The port is locked for others while it is read, and free afterwards."""
    async with plugged_in(wire, ear) as plugged:
        with pytest.raises(serial.SerialException, match="exclusively"):
            serial.Serial(str(wire.path), exclusive=True)
        await wire.write(b'{"t": 1}\n')
        await plugged.first
    serial.Serial(str(wire.path), exclusive=True).close()


async def test_a_reader_that_is_slow_does_not_spin(wire: PtyPort, ear: Ear) -> None:
    """While nobody asks for the next reading the port is not watched, however much there is to read."""
    async with plugged_in(wire, ear) as plugged:
        await wire.write(b'{"n": 1}\n{"n": 2}\n')
        await plugged.first
        await wire.write(b'{"n": 3}\n')
        assert watched_ttys() == []
        assert [await next_values(plugged.readings) for _ in range(2)] == [{"n": 2}, {"n": 3}]


def watched_ttys() -> list[int]:
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    return [descriptor for descriptor in selector.get_map() if os.isatty(descriptor)]


async def test_a_missing_port_is_a_fault_until_it_returns(wire: PtyPort, ear: Ear) -> None:
    """The error says what to do, also after the port was pulled while it was read."""
    source = SerialSource(PortSettings(port=str(wire.path)), foreign_input(), retry_seconds=0.001)
    errors: list[str | None] = []
    source.health.on_change = lambda health: errors.append(health.error)
    async with reading_from(source) as readings:
        for number in range(2):
            coming = asyncio.ensure_future(anext(readings))
            await ear.until("no connection")
            wire.plug_in()
            await ear.until("reading from")
            await wire.write(b'{"n": %d}\n' % number)
            await coming
            wire.pull()
    missing = "no connection: the port does not exist; is the device plugged in?"
    assert errors[:2] == [missing, None]
    assert set(errors) <= {missing, None, "no connection: the device was unplugged"}


async def test_unreadable_lines_are_a_fault_until_enough_good_ones(wire: PtyPort, ear: Ear) -> None:
    """The error has the count and the beginning of the last line; one good line between bad ones is luck."""
    async with plugged_in(wire, ear) as plugged:
        await wire.write(b'{"n": 0}\n')
        await plugged.first
        await wire.write(b"noise\n" + b"x" * 500 + b'\n{"n": 1}\n')
        await next_values(plugged.readings)
        error = plugged.source.health.error
        assert error is not None
        assert error.startswith("2 unreadable lines, the last: ")
        assert error.endswith(f"in '{'x' * 60}'")
        for number in range(2, GOOD_LINES + 1):
            assert plugged.source.health.error == error
            await wire.write(b'{"n": %d}\n' % number)
            await next_values(plugged.readings)
        assert plugged.source.health.error is None


async def test_a_refused_value_is_no_fault_of_the_source(wire: PtyPort, ear: Ear) -> None:
    """Its neighbours are readings; it is logged once and given to the agent, as a line without a format is."""
    async with plugged_in(wire, ear) as plugged:
        refused: list[tuple[str, str]] = []
        plugged.source.health.on_refused = lambda refusals: refused.extend((r.code, r.metric) for r in refusals)
        await wire.write(b'{"n": 0, "t": 1}\n')
        await plugged.first
        await wire.write(b'{"n": 1, "t": "x"}\n{"n": 2, "t": "y"}\nnoise\n{"n": 3}\n')
        assert [await next_values(plugged.readings) for _ in range(3)] == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert refused == [("type", "t"), ("type", "t"), ("syntax", "")]
        assert (plugged.source.health.error or "").startswith("1 unreadable line, the last: ")
    warnings = [record.getMessage() for record in ear.heard if record.levelno >= logging.WARNING]
    assert ["values that are refused" in text for text in warnings] == [True, False]


async def test_a_wrong_baud_rate_is_the_fault(wire: PtyPort, ear: Ear) -> None:
    """The state has the share of text and the next step, instead of the lines; it ends when lines can be read."""
    async with plugged_in(wire, ear) as plugged:
        lines = b"".join(b'{"n": %d, "state": "on"}\n' % number for number in range(8))
        await wire.write(receive(bits_of(lines), 9600, 115_200).data)
        await until(lambda: "baud" in (plugged.source.health.error or ""))
        error = plugged.source.health.error or ""
        assert error.startswith("the baud rate 115,200 is probably wrong, or the device sends no text: ")
        assert error.endswith(f"device-agent try {wire.path} --find-baud")
        for _ in range(400):
            await wire.write(b"\n" + lines)
            await next_values(plugged.readings) if plugged.first.done() else await plugged.first
            if plugged.source.health.error is None:
                break
        assert plugged.source.health.error is None
    warnings = [record.getMessage() for record in ear.heard if "baud rate" in record.getMessage()]
    assert len(warnings) == 1


@pytest.mark.parametrize(("key", "value"), [("frame", "9X3"), ("mirror", "0.0.0.0:7001"), ("baud", 0)])
def test_wrong_settings_of_a_source_are_refused(key: str, value: object) -> None:
    """When agent.toml is read, and not when the port is opened."""
    with pytest.raises(msgspec.ValidationError, match=key if key != "baud" else ">= 1"):
        msgspec.convert({"port": "/dev/ttyUSB0", key: value}, SerialSettings)


async def test_a_mirror_has_the_bytes_of_the_port(wire: PtyPort, ear: Ear, tmp_path: Path) -> None:
    """Unreadable ones too. A mirror that cannot be opened is a fault, and the port is read without it."""
    wire.plug_in()
    for place in (tmp_path / "monitor", tmp_path / "missing" / "monitor"):
        source = SerialSource(PortSettings(port=str(wire.path)), foreign_input(), mirror=str(place))
        async with reading_from(source) as readings:
            first = asyncio.ensure_future(anext(readings))
            await ear.until("reading from")
            monitor = os.open(place, os.O_RDONLY | os.O_NOCTTY) if place.is_symlink() else None
            await wire.write(b'noise\xff\n{"n": 1}\n')
            assert (await first).values == {"n": 1}
            if monitor is None:
                assert "no mirror at" in (source.health.error or "")
            else:
                assert os.read(monitor, 100) == b'noise\xff\n{"n": 1}\n'
                os.close(monitor)
        assert not place.is_symlink()


async def test_a_fault_of_lines_ends_with_the_connection(wire: PtyPort, ear: Ear) -> None:
    """Lines of an earlier connection say nothing about the next one."""
    async with plugged_in(wire, ear) as plugged:
        await wire.write(b'{"n": 0}\n')
        await plugged.first
        await wire.write(b'noise\n{"n": 1}\n')
        await next_values(plugged.readings)
        coming = asyncio.ensure_future(anext(plugged.readings))
        wire.pull()
        await ear.until("no connection")
        error = plugged.source.health.error
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    assert error is not None
    assert error.startswith("no connection: ")
    assert "unreadable" not in error
