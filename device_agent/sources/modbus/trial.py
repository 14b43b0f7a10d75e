"""Report of one reading of a bus: the registers as they arrived, and what the maps make of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from device_agent.sources.modbus.settings import BIT_TABLES, ModbusSettings
from device_agent.sources.modbus.source import TABLE_NAMES, Answer, ModbusSource
from formats.modbus import Register
from wire.model import Value
from wire.text import escaped

NO_VALUE = "no value"


class BusTrial:
    """Answers of all maps of a bus, as text and as facts."""

    def __init__(self, answers: list[Answer]) -> None:
        self._answers = answers

    @classmethod
    async def of(cls, settings: ModbusSettings) -> BusTrial:
        """Read a bus once. Raises OSError."""
        return cls(await ModbusSource(settings, device="trial").read_once())

    @property
    def has_problems(self) -> bool:
        """Return whether a slave did not answer, or refused registers."""
        return any(answer.problem for answer in self._answers)

    def text(self) -> str:
        """Return a line for each field, and one for each request without an answer."""
        lines: list[str] = []
        head = ""
        for answer in self._answers:
            polled = answer.polled
            label = f" ({polled.name})" if polled.name else ""
            if head != (head := f"slave {polled.slave}{label}, {TABLE_NAMES[polled.table]}"):
                lines += ["", head] if lines else [head]
            if answer.problem:
                lines.append(f"  {_range(answer.block.start, answer.block.size):<14} {answer.problem}")
            rows = [*_rows(answer)]
            width = max((len(words) for _, words, _, _ in rows), default=0)
            for numbers, words, meaning, notes in rows:
                lines.append(f"  {numbers:<14} {words:<{width}}  {meaning}{notes}")
        return "\n".join(map(escaped, lines))

    def facts(self) -> dict[str, Any]:
        """Return the same for programs."""
        return {
            "requests": [
                {
                    "slave": answer.polled.slave,
                    "table": answer.polled.table,
                    "first": answer.block.start,
                    "count": answer.block.size,
                    "registers": answer.registers and answer.registers.values,
                    "values": dict(_values(answer)),
                    "problem": answer.problem,
                }
                for answer in self._answers
            ]
        }


def _values(answer: Answer) -> Mapping[str, Value]:
    return {name: value for reading in answer.readings for name, value in reading.values.items()}


def _rows(answer: Answer) -> Iterator[tuple[str, str, str, str]]:
    """Yield the numbers, the registers, the meaning and the other possible meanings of each field."""
    if answer.registers is None:
        return
    polled, block, values = answer.polled, answer.block, _values(answer)
    for name in block.fields:
        field = polled.fields[name]
        place = field.address - block.start
        words = answer.registers.values[place : place + field.count]
        metric = polled.metric(name)
        value = values.get(metric)
        shown = NO_VALUE if value is None else f"{value!r} {field.unit}".rstrip()
        is_bits = polled.table in BIT_TABLES
        digits = " ".join(f"{word:d}" if is_bits else f"{word:04X}" for word in words)
        notes = (
            "" if is_bits or field != Register(field.address) else _guesses(answer.registers.values[place : place + 2])
        )
        yield _range(field.address, field.count), digits, f"{metric} = {shown}", notes


def _guesses(words: list[int]) -> str:
    """Return what a register without a declared type may mean, alone and with the one behind it."""
    guesses = [f"i16 {struct.unpack('>h', struct.pack('>H', words[0]))[0]}"]
    if len(words) == 2:
        for name, order in (("", words), (" with word_order = little", words[::-1])):
            raw = struct.pack(">HH", *order)
            number, real = struct.unpack(">i", raw)[0], struct.unpack(">f", raw)[0]
            guesses.append(f"i32 {number}, f32 {real:.6g}{name}")
    return f"   (or {'; '.join(guesses)})"


def _range(first: int, count: int) -> str:
    return f"{first}" if count == 1 else f"{first} to {first + count - 1}"
