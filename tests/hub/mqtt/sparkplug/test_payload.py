"""Payloads of Sparkplug B: any bytes are decoded or rejected, and encoded payloads round-trip."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.mqtt.message import Undecodable
from hub.mqtt.sparkplug.payload import (
    COMPRESSED,
    MAX_BODY_BYTES,
    METRIC_TYPES,
    PROTOBUF_PAYLOAD,
    DataType,
    Scalar,
    SparkplugMetric,
    SparkplugPayload,
    Unusable,
    decode,
    encode,
    from_wire,
    metric,
    to_wire,
)
from wire.limits import MAX_INTEGER, MAX_STRING_VALUE_BYTES

UINT64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
INTEGERS = {
    DataType.INT8: st.integers(-(2**7), 2**7 - 1),
    DataType.INT16: st.integers(-(2**15), 2**15 - 1),
    DataType.INT32: st.integers(-(2**31), 2**31 - 1),
    DataType.INT64: st.integers(-(2**63), 2**63 - 1),
    DataType.UINT8: st.integers(0, 2**8 - 1),
    DataType.UINT16: st.integers(0, 2**16 - 1),
    DataType.UINT32: st.integers(0, 2**32 - 1),
    DataType.UINT64: st.integers(0, MAX_INTEGER),
    DataType.DATETIME: st.integers(0, MAX_INTEGER),
}
VALUES: dict[DataType, st.SearchStrategy[Scalar]] = {
    **INTEGERS,
    DataType.FLOAT: st.floats(width=32, allow_nan=False, allow_infinity=False),
    DataType.DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
    DataType.BOOLEAN: st.booleans(),
    **dict.fromkeys((DataType.STRING, DataType.TEXT, DataType.UUID), TEXT),
}
TYPED = st.sampled_from(list(VALUES)).flatmap(lambda datatype: st.tuples(st.just(datatype), VALUES[datatype]))


@st.composite
def metrics(draw: st.DrawFn) -> SparkplugMetric:
    datatype, value = draw(TYPED)
    return metric(
        datatype,
        draw(st.none() | st.just(value)),
        name=draw(st.none() | TEXT),
        alias=draw(st.none() | UINT64),
        time_ms=draw(st.none() | UINT64),
        is_historical=draw(st.booleans()),
        is_transient=draw(st.booleans()),
        description=draw(TEXT),
        properties=draw(
            st.dictionaries(TEXT, TEXT | st.booleans() | INTEGERS[DataType.INT64] | VALUES[DataType.DOUBLE], max_size=3)
        ),
    )


PAYLOADS = st.builds(
    SparkplugPayload,
    time_ms=st.none() | UINT64,
    seq=st.none() | UINT64,
    metrics=st.lists(metrics(), max_size=4).map(tuple),
)


def _spoil(whole: bytes, at: int, byte: int) -> bytes:
    at = at % (len(whole) + 1)
    return whole[:at] + bytes([byte]) + whole[at + 1 :]


SPOILED = st.builds(_spoil, PAYLOADS.map(encode), st.integers(0, 200), st.integers(0, 255))


@given(PAYLOADS)
def test_an_encoded_payload_is_decoded_unchanged(payload: SparkplugPayload) -> None:
    """Nothing of a payload is lost or changed."""
    assert decode(encode(payload)) == payload


@given(TYPED)
def test_a_value_of_each_type_round_trips(typed: tuple[DataType, Scalar]) -> None:
    """The whole range of each type survives the unsigned fields."""
    datatype, value = typed
    returned = from_wire(datatype, *to_wire(datatype, value))
    assert returned == value
    assert type(returned) is type(value)


@given(st.binary(max_size=80) | SPOILED)
def test_any_bytes_are_a_payload_or_undecodable(data: bytes) -> None:
    """Nothing but Undecodable is raised, and every value can be read."""
    try:
        payload = decode(data)
    except Undecodable as refusal:
        assert refusal.code == "bad_payload"
        return
    for found in payload.metrics:
        for datatype in DataType:
            try:
                value = found.value(datatype)
            except Unusable:
                continue
            assert type(value) in (int, float, bool, str)


@pytest.mark.parametrize(
    ("datatype", "field", "raw", "value"),
    [
        (DataType.INT8, "int_value", 0xFF, -1),
        (DataType.INT8, "int_value", 0xFFFFFFFF, -1),
        (DataType.INT8, "long_value", 0xFFFFFFFFFFFFFF80, -128),
        (DataType.INT16, "int_value", 0x8000, -(2**15)),
        (DataType.INT32, "int_value", 0x80000000, -(2**31)),
        (DataType.INT32, "long_value", 0xFFFFFFFF, -1),
        (DataType.INT64, "long_value", 2**64 - 2, -2),
        (DataType.INT64, "int_value", 7, 7),
        (DataType.UINT32, "long_value", 2**32 - 1, 2**32 - 1),
        (DataType.DATETIME, "long_value", 1486144502122, 1486144502122),
        (DataType.FLOAT, "double_value", 0.1, 0.1),
    ],
)
def test_numbers_of_all_programs_are_understood(datatype: DataType, field: str, raw: Any, value: Scalar) -> None:
    """A sign may fill the size of the type or the whole field, and a number may be in the wider field of its kind."""
    assert from_wire(datatype, field, raw) == value


@pytest.mark.parametrize(
    ("datatype", "field", "raw", "reason"),
    [
        (DataType.INT8, "int_value", 300, "out_of_range"),
        (DataType.UINT8, "int_value", 256, "out_of_range"),
        (DataType.UINT64, "long_value", 2**63, "out_of_range"),
        (DataType.STRING, "string_value", "ä" * (MAX_STRING_VALUE_BYTES // 2 + 1), "out_of_range"),
        (DataType.DOUBLE, "double_value", float("nan"), "not_finite"),
        (DataType.FLOAT, "float_value", float("-inf"), "not_finite"),
        (DataType.BOOLEAN, "int_value", 1, "wrong_type"),
        (DataType.INT32, "double_value", 1.0, "wrong_type"),
        (DataType.STRING, "bytes_value", b"x", "wrong_type"),
        (DataType.DATASET, "dataset_value", b"", "unsupported_type"),
        (DataType.BYTES, "bytes_value", b"x", "unsupported_type"),
        (DataType.INT8_ARRAY, "bytes_value", b"x", "unsupported_type"),
        (99, "int_value", 1, "unsupported_type"),
    ],
)
def test_a_value_that_is_not_a_reading_has_a_reason(datatype: int, field: str, raw: Any, reason: str) -> None:
    """A value outside its type has another reason than a type that the hub cannot store."""
    with pytest.raises(Unusable) as refused:
        from_wire(datatype, field, raw)
    assert refused.value.reason == reason


def test_a_value_outside_its_type_is_not_encoded() -> None:
    """It is never truncated to fit."""
    for datatype, value in [
        (DataType.INT8, 128),
        (DataType.UINT8, -1),
        (DataType.FLOAT, 1e39),
        (DataType.INT64, 2**63),
    ]:
        with pytest.raises(Unusable, match="out_of_range"):
            to_wire(datatype, value)
    with pytest.raises(Unusable, match="wrong_type"):
        to_wire(DataType.DOUBLE, 1)


def test_field_numbers_are_those_of_the_specification() -> None:
    """The payload of this test is written byte by byte from the table of fields."""
    data = b"".join(
        [
            b"\x08\x05",  # timestamp 5
            b"\x12\x14",  # a metric of 20 bytes
            b"\x0a\x01m\x10\x07\x18\x06\x20\x0a\x28\x01",  # name m, alias 7, timestamp 6, datatype Double, historical
            b"\x69" + struct.pack("<d", 1.5),  # double_value 1.5
            b"\x18\x03",  # seq 3
        ]
    )
    expected = SparkplugMetric("m", 7, 6, DataType.DOUBLE, "double_value", 1.5, is_historical=True)
    assert decode(data) == SparkplugPayload(5, 3, (expected,))


def test_a_data_set_is_not_parsed() -> None:
    """Ignored content cannot make the rest of a message unreadable."""
    data = b"\x12\x06\x0a\x01d\x8a\x01\x00" + b"\x12\x08\x0a\x01d\x8a\x01\x02\xff\xff"
    assert [found.field for found in decode(data).metrics] == ["dataset_value", "dataset_value"]


def test_every_type_that_is_stored_has_values() -> None:
    """The strategies above cover every type."""
    assert set(VALUES) == set(METRIC_TYPES)


def compressed(algorithm: str, body: bytes, *, seq: int | None = 7) -> bytes:
    """Return a payload whose body is another one."""
    envelope = PROTOBUF_PAYLOAD(uuid=COMPRESSED, seq=seq, body=body)
    envelope.metrics.add(name="algorithm", datatype=DataType.STRING, string_value=algorithm)
    data: bytes = envelope.SerializeToString()
    return data


def raw_deflate(data: bytes) -> bytes:
    """Return deflated data without the header of zlib."""
    return zlib.compress(data)[2:-4]


@pytest.mark.parametrize(
    ("algorithm", "compress"),
    [("GZIP", gzip.compress), ("gzip", gzip.compress), ("DEFLATE", zlib.compress), ("DEFLATE", raw_deflate)],
)
def test_a_compressed_payload_is_opened(algorithm: str, compress: Callable[[bytes], bytes]) -> None:
    """The number of the message is that of the content, or else that of the envelope."""
    inner = SparkplugPayload(5, None, (metric(DataType.DOUBLE, 21.5, name="t"),))
    assert decode(compressed(algorithm, compress(encode(inner)))) == inner._replace(seq=7)
    assert decode(compressed(algorithm, compress(encode(inner._replace(seq=3))))).seq == 3


@pytest.mark.parametrize(
    ("algorithm", "body", "code"),
    [
        ("LZ4", b"", "bad_payload"),
        ("GZIP", gzip.compress(b"x", mtime=0)[:-9], "container"),
        ("DEFLATE", b"\xff\xff", "container"),
        ("GZIP", gzip.compress(bytes(MAX_BODY_BYTES + 1), mtime=0), "size"),
        ("GZIP", gzip.compress(b"\xff", mtime=0), "bad_payload"),
    ],
)
def test_a_compressed_payload_that_cannot_be_opened_is_undecodable(algorithm: str, body: bytes, code: str) -> None:
    """Its content is bounded."""
    with pytest.raises(Undecodable) as refused:
        decode(compressed(algorithm, body))
    assert refused.value.code == code
