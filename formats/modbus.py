"""Modbus registers: a block of registers to fields, by a map that the user declares.

Modbus defines registers of 16 bits and nothing above them: types, scales and the order of bytes and words come from
the manual of the device. In "big" order the first byte and the first register are the most significant ones.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct

from formats.framing import decode_text
from formats.record import Entry, FrameRefused, InputRecord, RefusedInput, Schema, TextFrame, refusal_of, shown
from wire.limits import MAX_METRICS, MAX_UNIT
from wire.model import MetricType, Value

MAX_REGISTERS = 65_536
"""Registers of a device: addresses have 16 bits."""

MAX_TEXT_REGISTERS = 125
"""Registers of one text, as many as one response contains."""

RegisterType = Literal["u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "bit", "string"]
Order = Literal["big", "little"]

_CODES = {"u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q", "i64": "q", "f32": "f", "f64": "d"}
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]{1,4}|[0-9]{1,5}")
_BETWEEN = re.compile(r" ?[,;] ?| ")


class Register(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One field: its first register and type. The value is the number × `scale` + `offset`.

    `bit` is the number of the bit for the type bit, `length` the registers of a string. `no_value` is the number,
    before the scale, by which the device says that it has none, such as 0x8000 in an i16.
    """

    address: Annotated[int, Meta(ge=0, lt=MAX_REGISTERS)]
    type: RegisterType = "u16"
    scale: Annotated[float, Meta(gt=-1e300, lt=1e300)] = 1.0
    offset: Annotated[float, Meta(gt=-1e300, lt=1e300)] = 0.0
    unit: Annotated[str, Meta(max_length=MAX_UNIT)] = ""
    bit: Annotated[int, Meta(ge=0, le=15)] = 0
    length: Annotated[int, Meta(ge=1, le=MAX_TEXT_REGISTERS)] = 1
    no_value: int | None = None

    @property
    def count(self) -> int:
        """Return the number of registers of the field."""
        if self.type == "string":
            return self.length
        return 1 if self.type == "bit" else struct.calcsize("=" + _CODES[self.type]) // 2

    @property
    def metric_type(self) -> MetricType:
        """Return the type of the metric: a scaled number is a float."""
        if self.type == "bit":
            return "boolean"
        if self.type == "string":
            return "string"
        return "float" if self.type[0] == "f" or self.scale != 1 or self.offset else "integer"


class RegisterMap(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Meaning of a block of registers, the first of which has the address `first`.

    A frame is a text with a number for each register, such as [215, 402] or 0x00D7 0x0192, or, with
    `frames = "bytes"`, the bytes of the registers as a response has them, the most significant byte first.
    """

    fields: Annotated[dict[str, Register], Meta(min_length=1, max_length=MAX_METRICS)]
    first: Annotated[int, Meta(ge=0, lt=MAX_REGISTERS)] = 0
    frames: Literal["text", "bytes"] = "text"
    byte_order: Order = "big"
    word_order: Order = "big"


def modbus_reader(layout: RegisterMap) -> Callable[[Iterable[TextFrame]], Iterator[Entry]]:
    """Return the reader of blocks of registers. A field whose registers are missing is refused alone."""
    units = {name: field.unit for name, field in layout.fields.items() if field.unit}
    schema = Schema(units, {name: field.metric_type for name, field in layout.fields.items()}, typed=True)

    def read(frames: Iterable[TextFrame]) -> Iterator[Entry]:
        for frame in frames:
            try:
                data = _block(frame, layout)
            except FrameRefused as error:
                yield refusal_of(frame, error)
                continue
            values: dict[str, object] = {}
            for name, field in layout.fields.items():
                try:
                    values[name] = _value(field, data, layout)
                except FrameRefused as error:
                    yield RefusedInput(*refusal_of(frame, error)[:4], name, "", error.setting)
            yield InputRecord(frame.line, frame.raw, values, schema)

    return read


def registers_of(field: Register, value: Value, layout: RegisterMap) -> list[int]:
    """Return the registers that hold a value, in the orders of the map. Raises FrameRefused.

    A number is divided by the scale and rounded to the nearest whole number. A bit has no registers of its own.
    """
    if field.type == "bit":
        raise FrameRefused("type", "a bit shares its register with other bits, and cannot be written alone")
    if field.type == "string":
        raw = _text_bytes(field, value)
    else:
        raw = _number_bytes(field, value)
        if layout.word_order == "little":
            raw = _swapped_words(raw)
    if layout.byte_order == "little":
        raw = _swapped_bytes(raw)
    return [register for (register,) in struct.iter_unpack(">H", raw)]


def _text_bytes(field: Register, value: Value) -> bytes:
    if not isinstance(value, str):
        raise FrameRefused("type", f"{shown(value)} is not a text")
    raw = value.encode("latin-1", errors="replace")
    if len(raw) > 2 * field.length:
        raise FrameRefused("size", f"the text has {len(raw)} characters, and the registers hold {2 * field.length}")
    return raw.ljust(2 * field.length, b"\0")


def _number_bytes(field: Register, value: Value) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        raise FrameRefused("type", f"{shown(value)} is not a number")
    number: float | int = value
    if field.scale != 1 or field.offset:
        if not field.scale:
            raise FrameRefused("number", "the scale is 0: no register has this value")
        exact = (Decimal(repr(value)) - Decimal(repr(field.offset))) / Decimal(repr(field.scale))
        number = float(exact) if field.type[0] == "f" else round(exact)
    elif field.type[0] != "f":
        number = round(value)
    try:
        return struct.pack(">" + _CODES[field.type], number)
    except (struct.error, OverflowError):
        raise FrameRefused("number", f"{shown(value)} does not fit into a register of type {field.type}") from None


def _block(frame: TextFrame, layout: RegisterMap) -> bytes:
    """Return the bytes of the registers of a frame. Raises FrameRefused."""
    if layout.frames == "bytes":
        if len(frame.raw) % 2:
            raise FrameRefused("syntax", f"the frame has {len(frame.raw)} bytes, and each register has two")
        return frame.raw
    text = " ".join((decode_text(frame.raw) or "").split())
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1].strip()
    numbers = _BETWEEN.split(text)
    if len(numbers) > MAX_REGISTERS or not all(map(_NUMBER.fullmatch, numbers)):
        setting = 'frames = "bytes" in [modbus]'
        raise FrameRefused("syntax", "the frame is no list of registers such as [215, 402] or 0x00D7 0x0192", setting)
    registers = [int(number, 16 if number[:2] in ("0x", "0X") else 10) for number in numbers]
    if (largest := max(registers)) > 0xFFFF:
        raise FrameRefused("number", f"{largest:,} is no register: a register has 16 bits")
    return struct.pack(f">{len(registers)}H", *registers)


def _value(field: Register, data: bytes, layout: RegisterMap) -> object:
    """Return the value of a field, None for no value. Raises FrameRefused."""
    start = 2 * (field.address - layout.first)
    raw = data[start : start + 2 * field.count] if start >= 0 else b""
    if len(raw) < 2 * field.count:
        last = layout.first + len(data) // 2 - 1
        raise FrameRefused(
            "cells",
            f"the frame has the registers {layout.first} to {last}, without {field.address} to "
            f"{field.address + field.count - 1}",
            "first or address in [modbus]",
        )
    if layout.byte_order == "little":
        raw = _swapped_bytes(raw)
    if field.type == "string":
        # The order of words is that of numbers; texts begin in the first register.
        text = decode_text(raw, "latin-1") or ""
        return text.partition("\0")[0].strip()
    if layout.word_order == "little":
        raw = _swapped_words(raw)
    if field.type == "bit":
        return bool(int.from_bytes(raw) >> field.bit & 1)
    (number,) = struct.unpack(">" + _CODES[field.type], raw)
    return _scaled(field, number)


def _swapped_bytes(raw: bytes) -> bytes:
    return b"".join(raw[place + 1 : place + 2] + raw[place : place + 1] for place in range(0, len(raw), 2))


def _swapped_words(raw: bytes) -> bytes:
    return b"".join(raw[place : place + 2] for place in range(len(raw) - 2, -2, -2))


def _scaled(field: Register, number: float | int) -> float | int | None:
    """Return the value of a number, None for no value. Raises FrameRefused."""
    if number == field.no_value or number - number != 0:
        return None
    if field.metric_type == "integer" or (field.scale == 1 and not field.offset):
        return number
    # In decimal arithmetic 215 × 0.1 is 21.5; in floats 3 × 0.1 is 0.30000000000000004.
    value = float(Decimal(repr(number)) * Decimal(repr(field.scale)) + Decimal(repr(field.offset)))
    if value - value != 0:
        raise FrameRefused("number", f"{shown(number)} with its scale is too large for a number")
    return value
