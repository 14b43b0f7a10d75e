"""Payload formats: valid payloads are read, all others are rejected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.mqtt.decoders.formats import (
    TimeField,
    load_function,
    read_function,
    read_json,
    read_line,
    read_senml,
    read_value,
)
from hub.mqtt.decoders.record import MAX_DEPTH, MAX_VALUES, PayloadRecord, time_reader
from hub.mqtt.message import Undecodable

NOW_NS = 1_700_000_000_000_000_000
Read = Callable[[bytes], list[PayloadRecord]]
FORMS: dict[str, Read] = {
    "value": read_value,
    "json": read_json,
    "senml": lambda payload: read_senml(payload, NOW_NS),
    "line": read_line,
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.sampled_from("abt"), inner),
    max_leaves=20,
)
LABELS = ["bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vs", "vb", "vd", "s", "t", "x_"]
PACKS = st.lists(st.dictionaries(st.sampled_from(LABELS), JSON | st.integers() | st.just("a")), max_size=4)
LINES = st.text(st.sampled_from('m,=x1i.e" \\\n9'), max_size=30)
PAYLOADS = (
    st.binary(max_size=40)
    | JSON.map(lambda content: json.dumps(content).encode())
    | PACKS.map(lambda content: json.dumps(content).encode())
    | LINES.map(str.encode)
)


@pytest.mark.parametrize("form", FORMS)
@given(payload=PAYLOADS)
@example(payload=b"[" * 100_000)
@example(payload=b'{"a":' * 500 + b"1" + b"}" * 500)
@example(payload=b'{"a": ' + b"9" * 4000 + b"}")
@example(payload=b'{"time": 1e300, "a": 1}')
@example(payload=b'[{"n": "a", "v": 1, "t": 1e300}]')
@example(payload=b'[{"n": "a", "v": 1, "t": -1e300}]')
@example(payload=b"\xff\xfe")
@example(payload=b'm x="\n\n')
def test_any_bytes_give_records_or_are_undecodable(form: str, payload: bytes) -> None:
    """No other exception is raised: it would end the bridge."""
    try:
        records = FORMS[form](payload)
    except Undecodable as refused:
        assert refused.code
        assert refused.sentence
    else:
        for record in records:
            assert record.values
            assert all(type(value) in (float, int, bool, str) for value in record.values.values())


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"21.5", 21.5),
        (b" -4\n", -4.0),
        (b"1e3", 1000.0),
        (b".5", 0.5),
        (b"true", True),
        (b"OFF", False),
        (b"open", "open"),
        (b"1_000", "1_000"),
        ("21 °C".encode(), "21 °C"),
        (b"infinity", "infinity"),
    ],
)
def test_the_type_of_a_bare_value_follows_from_its_text(payload: bytes, value: object) -> None:
    """Every number is a float, also a bare integer.

    Words for true and false are booleans, everything else is a text.
    """
    (record,) = read_value(payload)
    assert record.values == {"value": value}
    assert type(record.values["value"]) is type(value)


@pytest.mark.parametrize("payload", [b"", b"nan", b"NaN", b"null", b"  "])
def test_a_payload_without_a_reading_has_no_record(payload: bytes) -> None:
    """Examples are a cleared topic and the words that devices send instead of a value."""
    assert read_value(payload) == []


def test_nested_names_are_joined() -> None:
    """Nested objects and lists become names with dots; null is no value."""
    payload = b'{"a": {"b": 1, "c": {"d": true}}, "l": [1, "x"], "n": null, "s": "t", "e": {}}'
    (record,) = read_json(payload)
    assert record.values == {"a.b": 1, "a.c.d": True, "l.0": 1, "l.1": "x", "s": "t"}


@pytest.mark.parametrize("payload", [b'{"a.b": 1, "a": {"b": 2}}', b'{"a": {"b": 2}, "a.b": 1}'])
def test_two_values_with_one_name_are_rejected(payload: bytes) -> None:
    """Neither of them can be the value."""
    with pytest.raises(Undecodable, match="two values"):
        read_json(payload)


def test_the_bounds_of_json_hold() -> None:
    """The largest allowed depth and count are accepted, one more is rejected."""
    deepest = b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH
    assert read_json(deepest)[0].values == {".".join("a" * MAX_DEPTH): 1}
    with pytest.raises(Undecodable, match="levels"):
        read_json(b'{"a":' + deepest + b"}")
    most = {str(number): 1 for number in range(MAX_VALUES)}
    assert len(read_json(json.dumps(most).encode())[0].values) == MAX_VALUES
    with pytest.raises(Undecodable, match="at most"):
        read_json(json.dumps([most, {"a": 1}]).encode())


@pytest.mark.parametrize(
    ("time", "time_ns"),
    [
        ("1700000000", NOW_NS),
        ("1700000000.123456789", NOW_NS + 123_456_717),  # a float has no more digits
        ("1700000000123", NOW_NS + 123_000_000),
        ("1700000000123456", NOW_NS + 123_456_000),
        ("1700000000123456789", NOW_NS + 123_456_789),
        ('"1700000000.123456789"', NOW_NS + 123_456_789),
        ('"2023-11-14T22:13:20Z"', NOW_NS),
        ('"2023-11-14T23:13:20.5+01:00"', NOW_NS + 500_000_000),
        ('"2023-11-14T22:13:20.123456789Z"', NOW_NS + 123_456_789),
        ('"2023-11-14 22:13:20"', NOW_NS),
    ],
)
def test_the_time_of_an_object_is_found(time: str, time_ns: int) -> None:
    """Its unit follows from its size, and it is not a value."""
    for name in ("ts", "time", "timestamp"):
        (record,) = read_json(f'{{"{name}": {time}, "a": 1}}'.encode())
        assert record.values == {"a": 1}
        assert record.time_ns is not None
        assert abs(record.time_ns - time_ns) < 200


def test_a_duration_with_the_name_of_a_time_stays_a_value() -> None:
    """A small number or another text is not recognized as a time."""
    assert read_json(b'{"time": 12.5}') == [PayloadRecord({"time": 12.5})]
    assert read_json(b'{"time": "fast enough"}') == [PayloadRecord({"time": "fast enough"})]


def test_a_configured_time_field_must_contain_the_time() -> None:
    """Messages without a valid time in this field are rejected."""
    field = TimeField("at.when", time_reader("ms"))
    assert read_json(b'{"at": {"when": 1700000000000}, "time": 1.0}', field) == [PayloadRecord({"time": 1.0}, NOW_NS)]
    for payload in (b'{"a": 1}', b'{"at": {"when": "soon"}}', b'{"at": {"when": -1}}', b'{"at": {"when": true}}'):
        with pytest.raises(Undecodable) as refused:
            read_json(payload, field)
        assert refused.value.code == "time"
    pattern = TimeField("t", time_reader("%d.%m.%Y %H:%M:%S"))
    assert read_json(b'{"t": "14.11.2023 22:13:20", "a": 1}', pattern) == [PayloadRecord({"a": 1}, NOW_NS)]


def test_senml_is_resolved() -> None:
    """Base name, time, unit and value apply to the records that follow."""
    payload = b"""[
      {"bn": "urn:dev:ow:10e2073a0108006:", "bt": 1.7e9, "bu": "A", "n": "voltage", "u": "V", "v": 120.1},
      {"n": "current", "t": -5, "v": 1.2}, {"n": "on", "vb": true}, {"n": "text", "vs": "x"},
      {"n": "energy", "bv": 10, "v": 1, "s": 7, "u": "J"}]"""
    voltage, current, on, text, energy, total = read_senml(payload, NOW_NS)
    base = {"base": "urn:dev:ow:10e2073a0108006:"}
    assert voltage == PayloadRecord({"voltage": 120.1}, NOW_NS, base, "V")
    assert current == PayloadRecord({"current": 1.2}, NOW_NS - 5 * 10**9, base, "A")
    assert (on.values, text.values) == ({"on": True}, {"text": "x"})
    assert (energy.values, total.values) == ({"energy": 11}, {"energy.sum": 7})


@pytest.mark.parametrize(
    ("record", "base", "metric"),
    [
        ({"n": "urn:dev:ow:10e2073a01080063"}, "urn:dev:ow:10e2073a01080063", "value"),
        ({"bn": "http://[2001:db8::1]/temperature"}, "http://[2001:db8::1]", "temperature"),
        ({"bn": "room/", "n": "temp"}, "room/", "temp"),
    ],
)
def test_a_senml_name_is_split(record: dict[str, object], base: str, metric: str) -> None:
    """The parts are the device and the metric."""
    payload = json.dumps([{**record, "v": 23.5, "u": "Cel"}]).encode()
    assert read_senml(payload, NOW_NS) == [PayloadRecord({metric: 23.5}, None, {"base": base}, "°C")]


@pytest.mark.parametrize(
    ("pack", "code"),
    [
        ([{"n": "a", "v": 1, "x_": 2}], "label"),
        ([{"bver": 11, "n": "a", "v": 1}], "version"),
        ([{"n": "a", "v": 1, "vs": "x"}], "shape"),
        ([{"v": 1}], "name"),
        ([{"n": "a", "v": "1"}], "type"),
        ([{"n": "a", "v": 1, "t": 1e12}], "time"),
        ({"n": "a", "v": 1}, "shape"),
    ],
)
def test_ambiguous_senml_is_rejected(pack: object, code: str) -> None:
    """Examples are a label that changes the meaning, a newer version, and more than one value."""
    with pytest.raises(Undecodable) as refused:
        read_senml(json.dumps(pack).encode(), NOW_NS)
    assert refused.value.code == code


def test_line_protocol_keeps_its_types() -> None:
    """Tags and the measurement are names, integers stay integers, and a text may span lines."""
    payload = b'cpu,host=a,core=0 user=1,n=2i,ok=t,s="x\ny" 1700000000\r\n# comment\nmem,host=b used=3\n'
    cpu, mem = read_line(payload, "s")
    names = {"host": "a", "core": "0", "measurement": "cpu"}
    assert cpu == PayloadRecord({"user": 1.0, "n": 2, "ok": True, "s": "x\ny"}, NOW_NS, names, typed=True)
    assert mem == PayloadRecord({"used": 3.0}, None, {"host": "b", "measurement": "mem"}, typed=True)


def test_one_invalid_line_rejects_the_message() -> None:
    """Half a message would be an unnoticed loss."""
    with pytest.raises(Undecodable, match="not line protocol"):
        read_line(b"m x=1\nm x=one\n")


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def test_a_user_function_decodes_payloads(tmp_path: Path) -> None:
    """It returns a dict like a JSON object, a list of dicts, or None."""
    path = write(
        tmp_path / "mine.py",
        "import struct\n"
        "def decode(topic, payload):\n"
        "    if not payload:\n"
        "        return None\n"
        "    low, high = struct.unpack('<hh', payload)\n"
        "    return [{'low': low, 'in': {'high': high / 10}, 'ts': 1700000000}, {'topic': topic}]\n",
    )
    decode = load_function(path)
    assert read_function(decode, "a/b", b"\x01\x00\x05\x00") == [
        PayloadRecord({"low": 1, "in.high": 0.5}, NOW_NS),
        PayloadRecord({"topic": "a/b"}),
    ]
    assert read_function(decode, "a/b", b"") == []
    with pytest.raises(Undecodable, match=r"struct\.error|unpack"):
        read_function(decode, "a/b", b"\x01")


@pytest.mark.parametrize("expression", ["5", "'x'", "{1: 2}", "{'a': object()}", "{'a': b'x'}", "itself()", "exit(3)"])
def test_an_invalid_result_of_a_function_rejects_the_message(tmp_path: Path, expression: str) -> None:
    """A mistake in the function costs its message and does not stop the hub."""
    path = write(
        tmp_path / "mine.py",
        "def itself():\n    a = {}\n    a['a'] = a\n    return a\n"
        f"def decode(topic, payload):\n    return {expression}\n",
    )
    with pytest.raises(Undecodable):
        read_function(load_function(path), "a", b"")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "file not found"),
        ("def decode(:", "SyntaxError"),
        ("x = 1", "does not define decode"),
        ("1 / 0", "Zero"),
        ("def decode(topic, payload): return {}\nSAMPLES = [('a', b'5', {'a': 5})]", "sample 1"),
    ],
)
def test_a_file_without_the_function_is_an_error_at_the_start(tmp_path: Path, content: str | None, why: str) -> None:
    """The error is one sentence."""
    path = tmp_path / "mine.py"
    if content is not None:
        write(path, content)
    with pytest.raises(ValueError, match=why):
        load_function(path)
