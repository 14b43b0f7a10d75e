"""One Modbus bus: requests and answers, one at a time. pymodbus has the frames, checksums and messages."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest, WriteSingleCoilRequest
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from device_agent.sources.modbus.line import Line
from device_agent.sources.modbus.settings import BIT_TABLES, ModbusSettings, Table

MAX_BUFFER = 1024
"""Bytes that are kept while an answer is incomplete: the longest has 260, and a line with another baud rate sends
noise."""

MAX_TRANSACTION = 0xFFFF

SILENT_REQUESTS = 4
"""Requests in a row without any byte of an answer after which a TCP connection is opened again: its other end may be
gone without a word."""

_READS: dict[Table, type[ModbusPDU]] = {
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
}

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "the device failed",
    5: "acknowledged, still working",
    6: "the device is busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "the gateway has no path to the device",
    11: "the gateway got no answer from the device",
}
"""Exception codes and their meanings (MODBUS Application Protocol V1.1b3, 7)."""

NO_ANSWER_CODES = frozenset({10, 11})
"""Exceptions by which a gateway says that the slave does not answer."""

# It reports every unexpected byte; this module reports what it means for a slave.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)


class NoAnswer(Exception):
    """A slave does not answer, or not in a way that can be read; the message says what happened."""


class ExceptionAnswer(Exception):
    """A slave answers that it cannot do what the request says."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code} ({EXCEPTIONS.get(code, 'unknown')})")
        self.code = code


class BusLost(OSError):
    """The line is gone: the adapter was unplugged, or the connection ended."""


class Registers(NamedTuple):
    """Values of a block of registers or bits, and the time at which the answer arrived."""

    values: list[int]
    arrived_ns: int


class Bus:
    """An open bus. `on_lost` is called when the line is lost; the next request raises BusLost."""

    def __init__(self, line: Line, settings: ModbusSettings, on_lost: Callable[[], None]) -> None:
        self._line = line
        self._settings = settings
        self._is_tcp = settings.address.kind == "tcp"
        self._framer = (FramerSocket if self._is_tcp else FramerRTU)(DecodePDU(False))
        self._transaction = 0
        self._received = b""
        self._has_received = False
        self._arrived_ns = 0
        self._arrived = asyncio.Event()
        self._quiet_from_s = 0.0
        self._silent = 0
        self._loss: Exception | None = None
        self._on_lost = on_lost
        self._pump = asyncio.create_task(self._receive())

    async def close(self) -> None:
        """Release the line."""
        self._pump.cancel()
        await asyncio.wait([self._pump])
        self._line.close()

    async def read(self, slave: int, table: Table, start: int, count: int) -> Registers:
        """Return a block of registers, or of bits as 0 and 1. Raises NoAnswer, ExceptionAnswer and BusLost."""
        request = _READS[table](address=start, count=count, dev_id=slave)
        answer = await self._exchange(request)
        values = [int(value) for value in (answer.bits[:count] if table in BIT_TABLES else answer.registers)]
        if len(values) != count:
            raise NoAnswer(f"the answer has {len(values)} values in place of {count}")
        return Registers(values, self._arrived_ns)

    async def write(self, slave: int, table: Table, start: int, values: list[int]) -> None:
        """Write registers or one coil. Raises NoAnswer, ExceptionAnswer and BusLost."""
        request: ModbusPDU
        if table == "coil":
            request = WriteSingleCoilRequest(address=start, bits=[bool(values[0])], dev_id=slave)
        elif len(values) == 1:
            request = WriteSingleRegisterRequest(address=start, registers=values, dev_id=slave)
        else:
            request = WriteMultipleRegistersRequest(address=start, registers=values, dev_id=slave)
        answer = await self._exchange(request)
        if answer.address != start:
            raise NoAnswer(f"the answer is for address {answer.address} in place of {start}")

    def check(self) -> None:
        """Raise BusLost if the line is lost."""
        if self._loss is not None:
            raise BusLost(*self._loss.args) from self._loss

    async def _exchange(self, request: ModbusPDU) -> ModbusPDU:
        """Send a request, and return its answer."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._quiet_from_s - loop.time()))
        self.check()
        if self._is_tcp:
            self._transaction = request.transaction_id = self._transaction % MAX_TRANSACTION + 1
        frame = self._framer.buildFrame(request)
        self._received = b""  # the rest of an answer that came too late
        self._has_received = False
        self._arrived.clear()
        try:
            self._line.write(frame)
        except OSError as error:
            self._lose(error)
            self.check()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                answer = await self._answer(request, frame)
        except TimeoutError:
            self._count_silence()
            what = "an answer that cannot be read" if self._has_received else "no answer"
            raise NoAnswer(f"{what} within {self._settings.timeout_s:g} s") from None
        finally:
            self._quiet_from_s = loop.time() + self._settings.pause_s
        self._silent = 0
        if answer.isError():
            raise ExceptionAnswer(answer.exception_code)
        return answer

    async def _answer(self, request: ModbusPDU, frame: bytes) -> ModbusPDU:
        """Wait for the answer; bytes that belong to no answer are left out."""
        echo = frame if self._settings.echo else b""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            self.check()
            if echo:
                if len(self._received) < len(echo) and echo.startswith(self._received):
                    continue
                self._received, echo = self._received.removeprefix(echo), b""
                self._has_received = bool(self._received)
            answer = self._found(request)
            if answer is not None:
                return answer

    def _found(self, request: ModbusPDU) -> ModbusPDU | None:
        """Return the answer in what was received, None if there is none yet.

        On a line, noise may arrive before it, so it is looked for at each place where it can begin.
        """
        heads = [bytes([request.dev_id, request.function_code | flag]) for flag in (0, 0x80)]
        places = [0] if self._is_tcp else [
            place for place in range(len(self._received)) if self._received[place : place + 2] in heads
        ]  # fmt: skip
        for place in places:
            answer = None
            # Any bytes may arrive, and the library raises errors of many kinds for them.
            with suppress(Exception):
                _, answer = self._framer.handleFrame(self._received[place:], request.dev_id, request.transaction_id)
            if answer is not None and answer.function_code & 0x7F == request.function_code:
                return answer
        return None

    async def _receive(self) -> None:
        """Collect what arrives, until the line is lost."""
        try:
            while True:
                data = await self._line.read()
                self._arrived_ns = time.time_ns()
                self._has_received = True
                self._received = (self._received + data)[-MAX_BUFFER:]
                self._arrived.set()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        self._loss = self._loss or error
        self._on_lost()
        self._arrived.set()

    def _count_silence(self) -> None:
        self._silent = 0 if self._has_received else self._silent + 1
        if self._silent >= SILENT_REQUESTS and self._settings.address.kind != "serial":
            self._lose(OSError("nothing answers on the connection"))
