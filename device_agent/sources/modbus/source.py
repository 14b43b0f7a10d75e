"""The readings of the slaves on one Modbus bus. One task uses the bus: it polls the maps, and writes between polls."""

from __future__ import annotations

import asyncio
import logging
import random
import struct
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from datetime import UTC
from typing import NamedTuple

import msgspec

from device_agent.source_state import SourceHealth
from device_agent.sources import RepeatedWarning, SensorReading
from device_agent.sources.lines import ForeignInput, sensor_readings
from device_agent.sources.modbus.bus import NO_ANSWER_CODES, Bus, BusLost, ExceptionAnswer, NoAnswer, Registers
from device_agent.sources.modbus.line import open_line
from device_agent.sources.modbus.polling import MISSES, Poll, PollSchedule, RegisterBlock
from device_agent.sources.modbus.settings import BIT_TABLES, ModbusSettings, PolledMap, Table
from device_agent.sources.ports.hold import PortHold
from device_agent.sources.ports.opening import PortFinder
from device_agent.sources.serial import MAX_RETRY_SECONDS, RETRY_SECONDS, reason_of
from formats.modbus import Register, registers_of
from formats.reading import Reading
from formats.record import FrameRefused, RefusedInput
from formats.rules import rules_of
from wire.backoff import full_jitter
from wire.limits import MAX_SOURCES
from wire.model import Value

MAX_WRITES = 32
"""Writes that wait for the bus: some seconds of it. A further one is refused, so that commands do not pile up while
a slave is silent."""

SPLIT_CODES = frozenset({2, 3})
"""Exceptions that can be due to one of several registers."""

LASTING_CODES = frozenset({1, 2, 3})
"""Exceptions that the same request has again until the slave is configured in another way."""

TABLE_NAMES: dict[Table, str] = {
    "holding": "holding registers",
    "input": "input registers",
    "coil": "coils",
    "discrete": "discrete inputs",
}

_log = logging.getLogger(__name__)


class WriteNotMade(Exception):
    """A write that was not made; the message has the reason and what to do."""


class _Write(NamedTuple):
    slave: int
    table: Table
    start: int
    registers: list[int]
    done: asyncio.Future[None]


class Answer(NamedTuple):
    """Result of one request: registers with their readings, or the problem."""

    polled: PolledMap
    block: RegisterBlock
    registers: Registers | None
    readings: list[SensorReading]
    problem: str = ""


class ModbusSource:
    """The readings of one bus. The state of each slave is a source of its own for the hub."""

    def __init__(self, settings: ModbusSettings, *, device: str) -> None:
        self.settings = settings
        name = settings.name or settings.default_name
        fields = {polled.metric(field): register for polled, field, register in _fields(settings)}
        rules = rules_of({"format": "modbus", "modbus": {"fields": fields, "frames": "bytes"}, "device": device})
        self.input = ForeignInput(rules, UTC)
        self.input.counts.format, self.input.counts.reason = "modbus", "the maps say so"
        self.health = SourceHealth(name, input=self.input)
        self.slaves = _slave_healths(settings, name, self.health)
        self._readings: dict[tuple[int, RegisterBlock], Reading] = {}
        self._writes: deque[_Write] = deque()
        self._wake = asyncio.Event()
        self._schedule: PollSchedule | None = None
        self._finder = PortFinder(settings.port)
        self._hold = PortHold()
        self.is_open = False
        """True while the bus takes requests."""
        self._absence = RepeatedWarning(_log, f"no connection to {settings.port}")
        self._silence = {
            slave: RepeatedWarning(_log, f"slave {slave} on {settings.port} does not answer") for slave in self.slaves
        }
        self._refusals = {
            slave: RepeatedWarning(_log, f"slave {slave} on {settings.port} refuses registers") for slave in self.slaves
        }

    async def readings(self) -> AsyncGenerator[SensorReading, None]:
        """Yield the values of each answer without end, none while the bus is absent."""
        self._schedule = schedule = self._schedule or self._new_schedule()
        attempt = 0
        while True:
            await self._hold.wait_free()
            try:
                async with self._opened() as bus:
                    attempt = 0
                    while True:
                        poll, due_s = schedule.next()
                        if await self._wait(bus, due_s):
                            async with aclosing(self._poll(bus, schedule, poll)) as answers:
                                async for answer in answers:
                                    for reading in answer.readings:
                                        yield reading
            except OSError as error:
                if not self._hold.was_requested:
                    self._record_absence(error)
            await self._hold.wait_request(
                full_jitter(attempt, first=RETRY_SECONDS, maximum=MAX_RETRY_SECONDS, random=random.random)
            )
            attempt += 1

    def uses(self, port: str) -> bool:
        """Return whether this is the setting, the path, or another name of the port of the bus."""
        return self._finder.is_port(port)

    def held(self, reason: str) -> AbstractAsyncContextManager[str]:
        """Release the port to another program meanwhile; return its path. The source reports the reason."""
        return self._hold.released(self._finder, self.health, reason)

    async def read_once(self) -> list[Answer]:
        """Read every map once, for a check; a slave that does not answer is asked again. Raises OSError."""
        schedule = self._new_schedule()
        found: list[Answer] = []
        async with self._opened() as bus:
            for poll in schedule.polls:
                answers: list[Answer] = []
                for _ in range(MISSES):
                    answers = [answer async for answer in self._poll(bus, schedule, poll)]
                    if not poll.misses.count or schedule.is_failing(poll):
                        break
                found += answers
        return found

    def _new_schedule(self) -> PollSchedule:
        now_s = asyncio.get_running_loop().time()
        return PollSchedule(self.settings.maps, timeout_s=self.settings.timeout_s, now_s=now_s)

    async def write(self, slave: int, field: str, value: Value) -> None:
        """Write the value of a field of a map to its slave, before the next poll; return when the slave confirms it.

        `field` is the name in the map or the metric. Raises WriteNotMade.
        """
        polled, register = self._writable(slave, field)
        try:
            registers = _written(polled, register, value)
        except FrameRefused as error:
            raise WriteNotMade(f"{field} of slave {slave}: {error.reason}; nothing was written") from None
        if not self.is_open:
            raise WriteNotMade(f"{self.settings.port} is not connected; nothing was written")
        if len(self._writes) >= MAX_WRITES:
            raise WriteNotMade(f"{MAX_WRITES} writes wait for {self.settings.port} already; nothing was written")
        write = _Write(slave, polled.table, register.address, registers, asyncio.get_running_loop().create_future())
        self._writes.append(write)
        self._wake.set()
        await write.done

    def slave_of(self, field: str) -> int:
        """Return the slave that has a field of a map. Raises WriteNotMade."""
        for polled, name, _ in _fields(self.settings):
            if field in (name, polled.metric(name)):
                return polled.slave
        raise WriteNotMade(f"no map has the field {field}; nothing was written")

    def _writable(self, slave: int, field: str) -> tuple[PolledMap, Register]:
        for polled, name, register in _fields(self.settings):
            if polled.slave == slave and field in (name, polled.metric(name)):
                if polled.table in ("input", "discrete"):
                    raise WriteNotMade(
                        f"{field} of slave {slave} is in the {TABLE_NAMES[polled.table]}: they are read only"
                    )
                return polled, register
        raise WriteNotMade(f"no map has the field {field} of slave {slave}; nothing was written")

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[Bus, None]:
        """Open the bus; close it at the end, and refuse the writes that wait for it then."""
        line = await self._hold.opened(open_line(self.settings, self._finder))
        bus = Bus(line, self.settings, self._wake.set)
        _log.info("polling %s", self.settings.port)
        self._absence.record_success()
        self.health.recover("port")
        self.is_open = True
        self.health.on_open()
        try:
            yield bus
        finally:
            self.is_open = False
            for write in self._writes:
                if not write.done.done():
                    write.done.set_exception(WriteNotMade(f"{self.settings.port} was lost; nothing was written"))
            self._writes.clear()
            await bus.close()

    async def _wait(self, bus: Bus, due_s: float) -> bool:
        """Wait until the next poll is due and return True; return False after something else. Raises BusLost."""
        loop = asyncio.get_running_loop()
        self._wake.clear()
        await self._perform_writes(bus)
        bus.check()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due_s):
                await self._wake.wait()
        return loop.time() >= due_s

    async def _poll(self, bus: Bus, schedule: PollSchedule, poll: Poll) -> AsyncGenerator[Answer, None]:
        """Read the registers of one map. Raises BusLost."""
        clock = asyncio.get_running_loop().time
        polled = poll.polled
        waiting = poll.wanted(clock())[::-1]
        while waiting:
            await self._perform_writes(bus)
            block = waiting.pop()
            try:
                registers = await bus.read(polled.slave, polled.table, block.start, block.size)
            except (NoAnswer, ExceptionAnswer) as error:
                if isinstance(error, NoAnswer) or error.code in NO_ANSWER_CODES:
                    self._miss(schedule, poll, block, str(error), clock())
                    yield Answer(polled, block, None, [], str(error))
                    return
                if error.code in SPLIT_CODES and (parts := poll.split(block)) is not None:
                    waiting += reversed(parts)
                    continue
                if error.code in LASTING_CODES:
                    poll.refuse(block, clock())
                self._refuse(poll, block, str(error))
                yield Answer(polled, block, None, [], str(error))
            else:
                yield Answer(polled, block, registers, self._interpret(polled, block, registers))
        schedule.answered(poll, clock())
        self._record_answer(schedule, poll)

    def _interpret(self, polled: PolledMap, block: RegisterBlock, registers: Registers) -> list[SensorReading]:
        reading = self._reading(polled, block)
        raw = struct.pack(f">{len(registers.values)}H", *registers.values)
        result = self.input.count(reading, lambda: reading.message(raw, registers.arrived_ns))
        self.input.counts.lines += 1
        if result.refusals:
            self.health.on_refused(result.refusals)
        return sensor_readings(reading, result, registers.arrived_ns)

    def _reading(self, polled: PolledMap, block: RegisterBlock) -> Reading:
        key = self.settings.maps.index(polled), block
        reading = self._readings.get(key)
        if reading is None:
            layout = polled.layout({name: polled.fields[name] for name in block.fields}, block.start)
            rules = msgspec.structs.replace(self.input.rules, modbus=layout)
            reading = Reading(rules, UTC, window=1, known_type=self.input.known_type)
            self._readings[key] = reading
        return reading

    async def _perform_writes(self, bus: Bus) -> None:
        """Make the writes that wait, in their order; a caller that gave up is left out. Raises BusLost."""
        while self._writes:
            write = self._writes.popleft()
            if write.done.done():
                continue
            where = f"{TABLE_NAMES[write.table].removesuffix('s')} {write.start} of slave {write.slave}"
            try:
                await bus.write(write.slave, write.table, write.start, write.registers)
            except NoAnswer as error:
                failure = WriteNotMade(f"{where}: {error}; whether the value was written is not known: read it")
            except ExceptionAnswer as error:
                failure = WriteNotMade(f"{where}: {error}; nothing was written")
            except BusLost:
                self._writes.appendleft(write)
                raise
            else:
                if not write.done.done():
                    write.done.set_result(None)
                continue
            if not write.done.done():
                write.done.set_exception(failure)

    def _miss(self, schedule: PollSchedule, poll: Poll, block: RegisterBlock, reason: str, now_s: float) -> None:
        """Record a request without an answer, and the state of the slave if it fails."""
        schedule.missed(poll, now_s)
        text = f"{reason} to {_registers(poll.polled, block)}"
        self._silence[poll.slave].record_failure(text)
        if schedule.slaves[poll.slave].is_failing:
            self._fail(poll.slave, "answers", text)
        elif poll.misses.is_failing:
            self._fail(poll.slave, poll.polled.table, text)

    def _record_answer(self, schedule: PollSchedule, poll: Poll) -> None:
        health = self.slaves[poll.slave]
        self._silence[poll.slave].record_success()
        if not schedule.slaves[poll.slave].is_failing:
            health.recover(f"slave {poll.slave} answers")
        health.recover(f"slave {poll.slave} {poll.polled.table}")
        health.recover("port")
        health.announce()

    def _refuse(self, poll: Poll, block: RegisterBlock, reason: str) -> None:
        """Report an exception for each field of a request."""
        polled = poll.polled
        where = f"{_registers(polled, block)} of slave {polled.slave}"
        refusals = [
            RefusedInput(
                0, where.encode(), "register", f"{reason} for {where}", polled.metric(field),
                setting=f"address or table of {polled.metric(field)}",
            )
            for field in block.fields
        ]  # fmt: skip
        self.input.counts.refused += len(refusals)
        self._refusals[polled.slave].record_failure(refusals[0].reason, times=len(refusals))
        self.health.on_refused(refusals)

    def _fail(self, slave: int, aspect: str, reason: str) -> None:
        health = self.slaves[slave]
        health.fail(f"slave {slave} {aspect}", f"slave {slave}: {reason}" if health is self.health else reason)

    def _record_absence(self, error: OSError) -> None:
        reason = reason_of(error)
        self._absence.record_failure(reason)
        self.health.fail("port", f"no connection: {reason}")
        for health in self.slaves.values():
            if health is not self.health:
                health.fail("port", "the bus is not connected")


def _fields(settings: ModbusSettings) -> Iterator[tuple[PolledMap, str, Register]]:
    for polled in settings.maps:
        for name, register in polled.fields.items():
            yield polled, name, register


def _slave_healths(settings: ModbusSettings, name: str, bus: SourceHealth) -> dict[int, SourceHealth]:
    """Return the health of each slave. Those for which an agent has no room are part of the health of the bus."""
    healths: dict[int, SourceHealth] = {}
    for polled in settings.maps:
        if polled.slave not in healths:
            label = f" ({polled.name})" if polled.name else ""
            is_own = len(healths) < MAX_SOURCES - 1
            healths[polled.slave] = bus.part(f"{name} slave {polled.slave}{label}") if is_own else bus
    return healths


def _registers(polled: PolledMap, block: RegisterBlock) -> str:
    name = TABLE_NAMES[polled.table]
    if block.size == 1:
        return f"{name.removesuffix('s')} {block.start}"
    return f"{name} {block.start} to {block.start + block.size - 1}"


def _written(polled: PolledMap, register: Register, value: Value) -> list[int]:
    """Return the registers to write. Raises FrameRefused."""
    if polled.table in BIT_TABLES:
        if not isinstance(value, bool) and value not in (0, 1):
            raise FrameRefused("type", "a coil is true or false")
        return [int(bool(value))]
    return registers_of(register, value, polled.layout({}, register.address))
