"""The report of one reading of a bus."""

from __future__ import annotations

from pathlib import Path

import msgspec

from device_agent.sources.modbus.settings import ModbusSettings
from device_agent.sources.modbus.trial import BusTrial
from tests.device_agent.modbus_bus import pty_bus, slave


async def test_registers_are_shown_with_their_meaning(tmp_path: Path) -> None:
    """A register of a map has its value; one without a type has every meaning that it may have."""
    maps = [
        {
            "slave": 3, "name": "meter",
            "fields": {
                "voltage": {"address": 0, "type": "f32", "unit": "V"},
                "temperature": {"address": 2, "type": "i16", "scale": 0.1, "no_value": -32768},
            },
        },
        {"slave": 3, "fields": {"r0": {"address": 0}, "r1": {"address": 1}, "r9": {"address": 9}}},
        {"slave": 4, "name": "pump", "fields": {"running": {"address": 0}}},
    ]  # fmt: skip
    settings = msgspec.convert({"port": str(tmp_path / "bus"), "maps": maps, "timeout_s": 0.3}, ModbusSettings)
    async with pty_bus(tmp_path / "bus", slave(3, [0x435C, 0x8000, 0x8000])) as bus:
        trial = await BusTrial.of(settings)
    assert trial.has_problems
    guesses = ["i16 17244; i32 1130135552", "f32 220.5; i32 -2147466404", "f32 -2.4164e-41 with word_order = little"]
    assert trial.text().splitlines() == [
        "slave 3 (meter), holding registers",
        "  0 to 1         435C 8000  meter.voltage = 220.5 V",
        "  2              8000       meter.temperature = no value",
        "",
        "slave 3, holding registers",
        f"  0              435C  r0 = 17244   (or {', '.join(guesses)})",
        "  1              8000  r1 = 32768   (or i16 -32768)",
        "  9              exception 2 (illegal data address)",
        "",
        "slave 4 (pump), holding registers",
        "  0              no answer within 0.3 s",
    ]
    assert bus.slaves().count(4) == 2
    assert trial.facts()["requests"][0] == {
        "slave": 3, "table": "holding", "first": 0, "count": 3, "registers": [0x435C, 0x8000, 0x8000],
        "values": {"meter.voltage": 220.5}, "problem": "",
    }  # fmt: skip
