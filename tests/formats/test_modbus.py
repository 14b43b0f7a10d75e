"""Modbus: registers to values of all types, in all orders of bytes and words."""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.modbus import RegisterMap, registers_of
from formats.record import FrameRefused
from formats.rules import RulesError, rules_of, rules_text
from tests.formats.reading_of import read, read_messages
from wire.model import Value

LAYOUTS = {"u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q", "i64": "q", "f32": "f", "f64": "d"}


def fields(**registers: dict[str, Any]) -> dict[str, Any]:
    return {"format": "modbus", "modbus": {"fields": registers}}


@pytest.mark.parametrize(
    ("registers", "field", "value"),
    [
        ("[215]", {"scale": 0.1}, 21.5),
        ("3", {"scale": 0.1}, 0.3),
        ("0xFF85", {"type": "i16", "scale": 0.1, "offset": 5}, -7.3),
        ("65535", {}, 65535),
        ("65535", {"type": "i16"}, -1),
        ("1 2", {"type": "u32"}, 65538),
        ("0xFFFF,0xFFFE", {"type": "i32"}, -2),
        ("0;0;1;0", {"type": "u64"}, 65536),
        ("[ 16812, 0 ]", {"type": "f32"}, 21.5),
        ("0x4035 0x8000 0 0", {"type": "f64"}, 21.5),
        ("5", {"type": "bit", "bit": 2}, True),
        ("5", {"type": "bit", "bit": 1}, False),
        ("0x4142 0x4300", {"type": "string", "length": 2}, "ABC"),
    ],
)
def test_a_field_has_the_value_of_its_type(registers: str, field: dict[str, Any], value: object) -> None:
    """Scales are decimal: 215 × 0.1 is 21.5. A number without a scale is an integer."""
    content = read(registers, **fields(x={"address": 0, **field}))
    assert (content.values, content.refusals) == ([{"x": value}], [])
    assert type(content.values[0]["x"]) is type(value)


@given(
    st.data(), st.sampled_from(sorted(LAYOUTS)), st.sampled_from(["big", "little"]), st.sampled_from(["big", "little"])
)
@settings(max_examples=200)
def test_every_order_of_bytes_and_words_is_read_back(data: st.DataObject, type: str, bytes_: str, words: str) -> None:
    """Numbers that are packed in an order, behind two other registers, are read in that order."""
    code = LAYOUTS[type]
    if type[0] == "f":
        number = data.draw(st.floats(allow_nan=False, allow_infinity=False, width=32 if type == "f32" else 64))
    else:
        bits = int(type[1:])
        low = -(2 ** (bits - 1)) if type[0] == "i" else 0
        number = data.draw(st.integers(low, min(low + 2**bits, 2**63) - 1))
    packed = [byte for (byte,) in struct.iter_unpack("c", struct.pack(">" + code, number))]
    pairs = [packed[place : place + 2] for place in range(0, len(packed), 2)]
    ordered = [pair if bytes_ == "big" else pair[::-1] for pair in (pairs if words == "big" else pairs[::-1])]
    raw = b"\x12\x34\x56\x78" + b"".join(byte for pair in ordered for byte in pair)
    layout = {
        "fields": {"x": {"address": 102, "type": type}}, "first": 100, "frames": "bytes", "byte_order": bytes_,
        "word_order": words,
    }  # fmt: skip
    content = read_messages([raw], format="modbus", modbus=layout)
    assert content.values == [{"x": number}]


def test_a_field_without_its_registers_is_refused_alone() -> None:
    """The reason names the registers of the frame and those that are missing."""
    content = read("[215, 402]", **fields(a={"address": 0}, b={"address": 1, "type": "f32"}, c={"address": 1}))
    assert content.values == [{"a": 215, "c": 402}]
    assert [(r.metric, r.code) for r in content.refusals] == [("b", "cells")]
    assert "registers 0 to 1, without 1 to 2" in content.refusals[0].reason


def test_no_value_is_no_reading() -> None:
    """The number that a device declares, before its scale, and a float that is not a number."""
    content = read(
        "0x8000 0x7FC0 0\n215 16812 0",
        **fields(a={"address": 0, "type": "i16", "scale": 0.1, "no_value": -32768}, b={"address": 1, "type": "f32"}),
    )
    assert content.values == [{"a": 21.5, "b": 21.5}]
    assert content.reading.interpreter.no_values == 2


@pytest.mark.parametrize("raw", ["", "x", "[1", "1]", "[1,,2]", "70000", "0x12345", "[1.5]", "1," * 40, "-1", "[]"])
def test_other_texts_are_refused(raw: str) -> None:
    """A block is a list of numbers with 16 bits."""
    content = read_messages([raw.encode()], **fields(x={"address": 0}))
    assert content.rows == []
    assert len(content.refusals) == 1


def test_an_odd_number_of_bytes_is_refused() -> None:
    """Each register has two bytes."""
    layout = {"fields": {"x": {"address": 0}}, "frames": "bytes"}
    content = read_messages([b"\0", b"\1\2", b""], format="modbus", modbus=layout)
    assert content.values == [{"x": 258}]
    assert [r.code for r in content.refusals] == ["syntax", "cells"]


def test_the_map_is_written_and_read_as_toml() -> None:
    """Units come from the map, and the settings to copy contain it."""
    content = read("[215]", **fields(**{"Vorlauf °C": {"address": 0, "scale": 0.1, "unit": "°C"}}))
    text = rules_text(content.reading.settings())
    assert text == (
        'format = "modbus"\n\n[modbus]\n\n[modbus.fields]\n\n[modbus.fields."Vorlauf °C"]\n'
        'address = 0\nscale = 0.1\nunit = "°C"\n'
    )
    assert content.reading.interpreter.metrics[""]["Vorlauf °C"].unit == "°C"


@pytest.mark.parametrize(
    ("rules", "word"),
    [
        ({"format": "modbus"}, "[modbus]"),
        ({"modbus": {"fields": {"x": {"address": 0}}}}, "[modbus]"),
        (fields(x={"address": 65536}), "address"),
        (fields(x={"address": 0, "type": "u8"}), "type"),
        (fields(x={"address": 0, "bit": 16}), "bit"),
        (fields(x={"address": 0, "scale": float("nan")}), "scale"),
        (fields(), "fields"),
    ],
)
def test_a_map_that_cannot_be_right_is_refused(rules: dict[str, Any], word: str) -> None:
    """The message names the setting."""
    with pytest.raises(RulesError) as caught:
        rules_of(rules)
    assert word in str(caught.value)


@given(
    st.data(), st.sampled_from(sorted(LAYOUTS)), st.sampled_from(["big", "little"]), st.sampled_from(["big", "little"])
)
@settings(max_examples=200)
def test_a_written_value_is_read_back(data: st.DataObject, type: str, bytes_: str, words: str) -> None:
    """The registers of a value have this value again, in every type, order and decimal scale."""
    scale = data.draw(st.sampled_from([1, 0.1, 0.01, 2, 1e3]))
    offset = data.draw(st.sampled_from([0, -40, 0.5]))
    number = data.draw(st.integers(0 if type[0] == "u" else -(2**15), 2**15 - 1))
    value = float(Decimal(number) * Decimal(repr(scale)) + Decimal(repr(offset)))
    field = {"address": 7, "type": type, "scale": scale, "offset": offset}
    layout = msgspec.convert(
        {"fields": {"x": field}, "first": 7, "byte_order": bytes_, "word_order": words}, RegisterMap
    )
    registers = registers_of(layout.fields["x"], value, layout)
    content = read(str(registers), format="modbus", modbus=msgspec.to_builtins(layout))
    (row,) = content.values
    assert row["x"] == (pytest.approx(value, rel=1e-6, abs=1e-4) if type == "f32" else value)


@pytest.mark.parametrize(
    ("field", "value", "registers"),
    [
        ({"type": "string", "length": 2}, "ABC", [0x4142, 0x4300]),
        ({"type": "string", "length": 1}, "ABC", "3 characters"),
        ({"type": "string"}, 1, "not a text"),
        ({}, 65_536, "does not fit"),
        ({}, -1, "does not fit"),
        ({"type": "f32"}, 1e300, "does not fit"),
        ({}, "hot", "not a number"),
        ({}, True, "not a number"),
        ({"scale": 0}, 1, "the scale is 0"),
        ({"type": "bit"}, True, "shares its register"),
        ({"scale": 0.1}, 21.46, [215]),
    ],
)
def test_a_value_that_the_registers_cannot_hold_is_refused(
    field: dict[str, Any], value: Value, registers: list[int] | str
) -> None:
    """Nothing is cut or wrapped; a number is rounded to the steps of its scale."""
    layout = msgspec.convert({"fields": {"x": {"address": 0, **field}}}, RegisterMap)
    if isinstance(registers, list):
        assert registers_of(layout.fields["x"], value, layout) == registers
    else:
        with pytest.raises(FrameRefused, match=registers):
            registers_of(layout.fields["x"], value, layout)
