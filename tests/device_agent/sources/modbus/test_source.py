"""Slaves on a real tty and on TCP: readings, a dead neighbour, exceptions, writes, unplugging."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import serial
from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType

from device_agent.source_state import SourceHealth
from device_agent.sources import SensorReading
from device_agent.sources.modbus.settings import ModbusSettings
from device_agent.sources.modbus.source import MAX_WRITES, ModbusSource, WriteNotMade
from formats.record import RefusedInput
from tests.device_agent.modbus_bus import Request, pty_bus, slave, tcp_slaves

FAST: dict[str, Any] = {"interval_s": 0.01}
"""A map that is due again when the bus is free."""


def source_of(port: object, *maps: dict[str, Any], **settings: Any) -> ModbusSource:
    fields = {"port": str(port), "maps": maps, "timeout_s": 10, "baud": 115_200, **settings}
    return ModbusSource(msgspec.convert(fields, ModbusSettings), device="plant")


def registers(number: int, *addresses: int, **settings: Any) -> dict[str, Any]:
    return {
        "slave": number,
        "name": f"u{number}",
        "fields": {f"r{address}": {"address": address} for address in addresses},
        **FAST,
        **settings,
    }


@asynccontextmanager
async def reading_from(source: ModbusSource) -> AsyncIterator[AsyncGenerator[SensorReading, None]]:
    async with aclosing(source.readings()) as readings:
        yield readings


async def test_registers_become_readings(tmp_path: Path) -> None:
    """The time of a reading is that of its answer, and the unit and the type come from the map."""
    polled = {
        "slave": 3, "name": "meter", "max_gap": 1,
        "fields": {
            "voltage": {"address": 0, "type": "f32", "unit": "V"},
            "temperature": {"address": 2, "type": "i16", "scale": 0.1, "unit": "°C"},
            "on": {"address": 4, "type": "bit", "bit": 1},
        },
    }  # fmt: skip
    source = source_of(tmp_path / "bus", polled)
    async with pty_bus(tmp_path / "bus", slave(3, [0x435C, 0x8000, 0xFF85, 0, 2])) as bus:
        before = time.time_ns()
        async with reading_from(source) as readings:
            values, time_ns, metrics, _ = await anext(readings)
    assert values == {"meter.voltage": 220.5, "meter.temperature": -12.3, "meter.on": True}
    assert time_ns is not None
    assert before < time_ns < time.time_ns()
    assert [(metric.name, metric.type, metric.unit) for metric in metrics] == [
        ("meter.voltage", "float", "V"), ("meter.temperature", "float", "°C"), ("meter.on", "boolean", ""),
    ]  # fmt: skip
    assert bus.requests == [Request(3, 3, 0, 5)]
    assert [health.error for health in (source.health, *source.slaves.values())] == [None, None]


async def test_a_dead_neighbour_does_not_slow_the_others(tmp_path: Path) -> None:
    """It is asked twice, and then rarely, between many polls of the others, which share the bus; its state says so."""
    source = source_of(tmp_path / "bus", registers(1, 0), registers(2, 0), registers(3, 0), timeout_s=0.3)
    async with pty_bus(tmp_path / "bus", slave(1, [11]), slave(3, [33])) as bus, reading_from(source) as readings:
        async for _ in readings:
            if bus.slaves().count(2) == 3:
                break
        places = [place for place, number in enumerate(bus.slaves()) if number == 2]
        between = [later - earlier - 1 for earlier, later in pairwise(places)]
        assert min(between[1:]) >= 4, bus.slaves()
        counts = Counter(bus.slaves())
        assert counts[3] > counts[1] // 2
        assert source.slaves[2].error == "no answer within 0.3 s to holding register 0"
        assert source.slaves[1].error is None
        assert source.health.error is None


async def test_a_slave_that_answers_again_is_polled_again(tmp_path: Path) -> None:
    """One that is switched on is seen at the next try, and works from then on."""
    source = source_of(tmp_path / "bus", registers(1, 0), timeout_s=0.2)
    async with pty_bus(tmp_path / "bus", slave(1, [7])) as bus, reading_from(source) as readings:
        bus.alter = lambda answer: []
        states: list[str | None] = []

        def record(health: SourceHealth) -> None:
            states.append(health.error)
            bus.alter = lambda answer: [answer]

        source.health.on_change = record
        assert (await anext(readings)).values == {"u1.r0": 7}
        await anext(readings)
    assert states[0] == "no answer within 0.2 s to holding register 0"
    assert states[-1] is None


async def test_exceptions_are_reported_by_register(tmp_path: Path) -> None:
    """A request that is refused is halved until the register is found; the others are read, in fewer requests."""
    source = source_of(tmp_path / "bus", registers(1, *range(12)))
    refused: list[RefusedInput] = []
    source.health.on_refused = refused.extend

    async def no_sixth(*request: Any) -> ExcCodes | None:
        _, _, address, count, *_ = request
        return ExcCodes.ILLEGAL_ADDRESS if address <= 6 < address + count else None

    found: dict[str, object] = {}
    device = slave(1, range(12), action=no_sixth)
    async with pty_bus(tmp_path / "bus", device) as bus, reading_from(source) as readings:
        while len(found) < 11:
            found |= (await anext(readings)).values
        splitting = len(bus.requests)
        for _ in range(6):
            await anext(readings)
    assert found == {f"u1.r{address}": address for address in range(12) if address != 6}
    assert [(refusal.metric, refusal.code) for refusal in refused] == [("u1.r6", "register")]
    assert refused[0].reason == "exception 2 (illegal data address) for holding register 6 of slave 1"
    assert all(not request.address <= 6 < request.address + request.size for request in bus.requests[splitting:])
    assert source.slaves[1].error is None


async def test_a_slave_that_is_busy_is_asked_again_at_the_next_poll(tmp_path: Path) -> None:
    """The exception is about this moment and not about the registers."""
    source = source_of(tmp_path / "bus", registers(1, 0, 1))
    refused: list[RefusedInput] = []
    source.health.on_refused = refused.extend
    answers = iter([ExcCodes.DEVICE_BUSY, None])

    async def busy_once(*request: Any) -> ExcCodes | None:
        return next(answers, None)

    async with pty_bus(tmp_path / "bus", slave(1, [5, 6], action=busy_once)), reading_from(source) as readings:
        assert (await anext(readings)).values == {"u1.r0": 5, "u1.r1": 6}
    assert [refusal.metric for refusal in refused] == ["u1.r0", "u1.r1"]


async def test_answers_may_arrive_in_pieces_and_among_noise(tmp_path: Path) -> None:
    """Bytes that belong to no answer are left out; a frame with a wrong checksum is no answer."""
    source = source_of(tmp_path / "bus", registers(1, 0, 1), timeout_s=0.5)
    async with pty_bus(tmp_path / "bus", slave(1, [515, 516])) as bus, reading_from(source) as readings:
        bus.alter = lambda answer: [b"\xff\xfe", *(answer[place : place + 1] for place in range(len(answer)))]
        assert (await anext(readings)).values == {"u1.r0": 515, "u1.r1": 516}
        damaged = iter([True, False])
        bus.alter = lambda answer: [answer[:-1] + bytes([answer[-1] ^ next(damaged, False)])]
        asked = len(bus.requests)
        assert (await anext(readings)).values == {"u1.r0": 515, "u1.r1": 516}
        assert len(bus.requests) == asked + 2


async def test_an_adapter_that_returns_what_it_sends(tmp_path: Path) -> None:
    """With `echo`, a request is not taken for its answer: nobody confirms a write to a slave that is absent."""
    source = source_of(tmp_path / "bus", registers(1, 0), registers(2, 0, interval_s=3600), echo=True, timeout_s=0.5)
    async with pty_bus(tmp_path / "bus", slave(1, [9])) as bus, reading_from(source) as readings:
        bus.is_echoing = True
        assert (await anext(readings)).values == {"u1.r0": 9}
        writing = asyncio.create_task(source.write(1, "r0", 10))
        while (await anext(readings)).values != {"u1.r0": 10}:
            pass
        await writing
        writing = asyncio.create_task(source.write(2, "r0", 10))
        while not writing.done():
            await anext(readings)
        assert "no answer within" in str(writing.exception())


async def test_a_late_answer_is_not_taken_for_another(tmp_path: Path) -> None:
    """It arrives while no request waits for it, and the next one has an answer of its own."""
    source = source_of(tmp_path / "bus", registers(1, 0), registers(1, 100, name="v"), timeout_s=0.5)
    loop = asyncio.get_running_loop()
    slave_ = slave(1, [*range(200)])
    async with pty_bus(tmp_path / "bus", slave_) as bus, reading_from(source) as readings:

        def delay(answer: bytes) -> list[bytes]:
            bus.alter = lambda answer: [answer]
            loop.call_later(0.6, bus.send, answer)
            return []

        bus.alter = delay
        for _ in range(6):
            values = (await anext(readings)).values
            assert values in ({"u1.r0": 0}, {"v.r100": 100})


async def test_a_write_is_made_between_polls(tmp_path: Path) -> None:
    """It has the scale and the order of its map, is confirmed by the slave, and read back by the next poll."""
    maps = {
        "slave": 1, "interval_s": 3600,
        "fields": {"setpoint": {"address": 0, "type": "i16", "scale": 0.5}, "limit": {"address": 1, "type": "u32"}},
    }  # fmt: skip
    source = source_of(tmp_path / "bus", maps, registers(1, 0, 1, 2))
    async with pty_bus(tmp_path / "bus", slave(1, [0, 0, 0])) as bus, reading_from(source) as readings:
        await anext(readings)
        writes = [
            asyncio.create_task(source.write(1, "setpoint", -20.5)),
            asyncio.create_task(source.write(1, "limit", 65_538)),
        ]
        while (await anext(readings)).values != {"u1.r0": 65_495, "u1.r1": 1, "u1.r2": 2}:
            pass
        await asyncio.gather(*writes)
    assert [request for request in bus.requests if request.function != 3] == [
        Request(1, 6, 0, 65_495),
        Request(1, 16, 1, 2),
    ]


async def test_a_write_does_not_wait_for_the_end_of_a_long_poll(tmp_path: Path) -> None:
    """It is made before the next request of the poll."""
    source = source_of(tmp_path / "bus", registers(1, 0, 10, 20, 30, interval_s=3600))
    async with pty_bus(tmp_path / "bus", slave(1, [0] * 40)) as bus, reading_from(source) as readings:
        await anext(readings)
        writing = asyncio.create_task(source.write(1, "r30", 9))
        await asyncio.sleep(0)
        values = [(await anext(readings)).values for _ in range(3)]
        await writing
    assert [request.function for request in bus.requests] == [3, 6, 3, 3, 3]
    assert values == [{"u1.r10": 0}, {"u1.r20": 0}, {"u1.r30": 9}]


async def test_a_write_that_is_not_made_says_so(tmp_path: Path) -> None:
    """The number of those that wait is bounded; one that the slave refuses has its exception."""
    source = source_of(tmp_path / "bus", registers(1, 0), registers(1, 9, table="input", name="in"))
    with pytest.raises(WriteNotMade, match="is not connected; nothing was written"):
        await source.write(1, "r0", 1)
    async with pty_bus(tmp_path / "bus", slave(1, [0], first=5)), reading_from(source) as readings:
        waiting = asyncio.create_task(anext(readings))
        await asyncio.sleep(0)
        for number, field, value, message in (
            (2, "r0", 1, "no map has the field r0 of slave 2"),
            (1, "r9", 1, "they are read only"),
            (1, "r0", 70_000, "does not fit"),
        ):
            with pytest.raises(WriteNotMade, match=message):
                await source.write(number, field, value)
        while True:  # until the bus is open
            try:
                await source.write(1, "r0", 1)
            except WriteNotMade as error:
                if "exception 2 (illegal data address)" in str(error):
                    break
            await asyncio.sleep(0)
        writes = [asyncio.create_task(source.write(1, "r0", 1)) for _ in range(MAX_WRITES + 1)]
        with pytest.raises(WriteNotMade, match=f"{MAX_WRITES} writes wait"):
            await writes[-1]
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    results = await asyncio.gather(*writes[:-1], return_exceptions=True)
    assert all(isinstance(result, WriteNotMade) for result in results)


async def test_an_adapter_that_is_unplugged_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bus and slaves report it, and polling continues when it is plugged in again."""
    monkeypatch.setattr("device_agent.sources.modbus.source.RETRY_SECONDS", 0.01)
    source = source_of(tmp_path / "bus", registers(1, 0), registers(2, 0, interval_s=60))
    async with pty_bus(tmp_path / "bus", slave(1, [4]), slave(2, [5])) as bus, reading_from(source) as readings:
        for _ in range(3):
            await anext(readings)
        coming = asyncio.ensure_future(anext(readings))
        await bus.pull()
        lost = asyncio.Event()
        source.health.on_change = lambda health: lost.set() if health.error else None
        while True:
            if source.slaves[2].error:
                break
            await lost.wait()
            lost.clear()
        assert source.health.error is not None
        assert source.health.error.startswith("no connection: ")
        assert source.slaves[1].error == "the bus is not connected"
        await bus.plug_in()
        await coming
        while source.slaves[1].error:
            await anext(readings)
        assert source.health.error is None


async def test_two_sources_cannot_use_one_port(tmp_path: Path) -> None:
    """Two masters would destroy each other's frames: the second one reports the owner."""
    one, two = (source_of(tmp_path / "bus", registers(1, 0)) for _ in range(2))
    async with pty_bus(tmp_path / "bus", slave(1, [4])), reading_from(one) as first, reading_from(two) as second:
        await anext(first)
        failed = asyncio.Event()
        two.health.on_change = lambda health: failed.set()
        waiting = asyncio.ensure_future(anext(second))
        await failed.wait()
        assert two.health.error == "no connection: another program uses the port"
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_another_program_gets_the_port_meanwhile(tmp_path: Path) -> None:
    """The bus is polled on afterwards, and the state says who had it."""
    source = source_of(tmp_path / "bus", registers(1, 0))
    async with pty_bus(tmp_path / "bus", slave(1, [4])), reading_from(source) as readings:
        await anext(readings)
        assert source.uses(str(tmp_path / "bus"))
        coming = asyncio.ensure_future(anext(readings))
        async with source.held("held for a vendor's tool") as path:
            assert path == str(tmp_path / "bus")
            assert source.health.error == "held for a vendor's tool"
            serial.Serial(path, exclusive=True).close()
        await coming
        await anext(readings)
        error = source.health.error
    assert error is None


@pytest.mark.parametrize(("scheme", "framer"), [("tcp", FramerType.SOCKET), ("socket", FramerType.RTU)])
async def test_tcp_and_a_dead_slave_behind_the_gateway(scheme: str, framer: FramerType) -> None:
    """Modbus TCP, and the frames of a line on TCP. The gateway's exception is no answer of the slave."""

    async def unreachable(*request: Any) -> ExcCodes:
        return ExcCodes.GATEWAY_NO_RESPONSE

    async with tcp_slaves(slave(1, [1, 2]), slave(9, [0], action=unreachable), framer=framer) as port:
        source = source_of(f"{scheme}://127.0.0.1:{port}", registers(1, 0, 1), registers(9, 0), timeout_s=0.5)
        async with reading_from(source) as readings:
            while source.slaves[9].error is None:
                assert (await anext(readings)).values == {"u1.r0": 1, "u1.r1": 2}
        assert "exception 11 (the gateway got no answer from the device)" in source.slaves[9].error


async def test_bits_are_read_from_their_tables() -> None:
    """A coil is a boolean without a type in the map, and can be written."""
    from pymodbus.simulator import DataType, SimData, SimDevice

    bits = [SimData(0, values=[True, False, True, True], datatype=DataType.BITS)]
    words = [SimData(0, values=[0], datatype=DataType.REGISTERS)]
    device = SimDevice(1, (bits, bits, words, words))
    async with tcp_slaves(device) as port:
        source = source_of(
            f"tcp://127.0.0.1:{port}",
            registers(1, 0, 1, table="coil", name="c"),
            registers(1, 2, 3, table="discrete", name="d"),
        )
        async with reading_from(source) as readings:
            assert (await anext(readings)).values == {"c.r0": True, "c.r1": False}
            assert (await anext(readings)).values == {"d.r2": True, "d.r3": True}
            writing = asyncio.create_task(source.write(1, "c.r1", True))
            while {"c.r1"} - {name for name, value in (await anext(readings)).values.items() if value}:
                pass
            await writing
