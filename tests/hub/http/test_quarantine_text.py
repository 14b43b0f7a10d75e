"""Tests of the text of quarantined messages: any bytes have a text, and that of a batch shows its content."""

from __future__ import annotations

import json
from array import array
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.http.quarantine_text import MAX_CHARACTERS, MAX_ITEMS, MAX_VALUES, readable, refused_content, remediation
from hub.model.batch import MESSAGE_CODES, SOURCE_REFUSED
from wire.codec import AGENT_MESSAGES, Format
from wire.device import Refused, SourceRefusal
from wire.errors import Code

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9)
)
contents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=9,
)
ENCODE = {"json": msgspec.json.encode, "msgpack": msgspec.msgpack.encode}


@given(contents.filter(lambda content: "inf" not in repr(content)), st.sampled_from(["json", "msgpack"]))
def test_a_short_message_is_complete(content: Any, format: Format) -> None:
    """The text is JSON with the same content, for either format."""
    text, shortened = readable(ENCODE[format](content), format)
    assert (json.loads(text), shortened) == (content, False)


@given(st.binary(max_size=200), st.sampled_from(["json", "msgpack"]))
def test_any_bytes_have_a_text(payload: bytes, format: Format) -> None:
    """The text can be encoded as UTF-8."""
    readable(payload, format).text.encode()


def test_the_values_of_a_part_are_listed_with_their_rows_and_times() -> None:
    """As they were sent; NaN and half of a surrogate pair have a text, too, and a long value is cut."""
    part = b'{"type":"data","seq":7,"time":[10,20],"values":{"a":[NaN,null],"b":["\\ud83d",{"x":[1]}]},"rows":[3,8]}'
    found = refused_content(part, "json")
    assert [(v.metric, v.value, v.row, v.time_ns, v.reason) for v in found.values] == [
        ("a", "nan", 3, 10, None),
        ("b", "\\ud83d", 3, 10, None),
        ("b", '{\n  "x": [1]\n}', 8, 20, None),
    ]
    assert (found.partial, found.readings, found.raw) == (True, 3, None)
    many = {"type": "data", "seq": 1, "time": [1], "values": {str(n): ["v" * 500] for n in range(150)}, "rows": [0]}
    found = refused_content(msgspec.msgpack.encode(many), "msgpack")
    assert (len(found.values), found.readings, found.values[0].value) == (MAX_VALUES, 150, "v" * 120 + "…")


def test_a_batch_that_is_refused_as_a_whole_lists_no_values() -> None:
    """Its text shows them; only their number is needed."""
    found = refused_content(b'{"type":"data","seq":7,"time":[10,20],"values":{"a":[1,null],"b":[2,3]}}', "json")
    assert (found.partial, found.values, found.readings) == (False, (), 3)


def test_the_message_of_a_broker_has_its_raw_text_and_its_refused_values() -> None:
    """Each with its reason; without them, the whole message is refused."""
    message: dict[str, Any] = {"topic": "t/a", "payload_base64": "eyJhIjogIkVSUiJ9"}
    assert refused_content(json.dumps(message).encode(), "json").raw == '{"a": "ERR"}'
    assert not refused_content(json.dumps(message).encode(), "json").partial
    message["refused"] = [{"metric": "a", "value": "ERR", "code": "number", "reason": "no number"}]
    found = refused_content(json.dumps(message).encode(), "json")
    assert (found.partial, found.readings) == (True, 1)
    assert [(v.metric, v.value, v.row, v.reason) for v in found.values] == [("a", "ERR", None, "no number")]


def test_the_report_of_a_source_has_its_examples() -> None:
    """The line of each reason, or the value of it that was refused, with the reason; all are counted."""
    line = SourceRefusal("checksum", 40, "the checksum is 1A, not 2B", raw="$GPGGA,1*2B")
    value = SourceRefusal("number", 2, "no number", raw="t=ERR", metric="t", value="ERR")
    report = AGENT_MESSAGES["msgpack"].encode(Refused(7, "/dev/ttyUSB0", 1, 2, [line, value]))
    found = refused_content(report, "msgpack")
    assert [(v.metric, v.value, v.reason) for v in found.values] == [
        ("", "$GPGGA,1*2B", "the checksum is 1A, not 2B"),
        ("t", "ERR", "no number"),
    ]
    assert (found.partial, found.readings, found.raw) == (False, 42, "$GPGGA,1*2B\nt=ERR")


@given(st.binary(max_size=200), st.sampled_from(["json", "msgpack"]))
def test_any_bytes_have_a_content(payload: bytes, format: Format) -> None:
    """A message that is none is described as well."""
    refused_content(payload, format)


def test_packed_columns_are_shown_as_numbers() -> None:
    """Times are integers, a NaN is null, an infinity has its name, and other bytes are hexadecimal."""
    batch = {
        "type": "data",
        "seq": 7,
        "time": array("q", [2**62 + 1, 2]).tobytes(),
        "values": {
            "level": array("d", [1.5, float("nan")]).tobytes(),
            "x": array("d", [float("inf")]).tobytes(),
            "y": b"ab",
        },
    }
    lines = [line.strip() for line in readable(msgspec.msgpack.encode(batch), "msgpack").text.splitlines()]
    assert lines == [
        "{",
        '"type": "data",',
        '"seq": 7,',
        '"time": [4611686018427387905, 2],',
        '"values": {',
        '"level": [1.5, null],',
        '"x": [inf],',
        '"y": "2 bytes: 61 62"',
        "}",
        "}",
    ]


@pytest.mark.parametrize(
    ("payload", "format", "says"),
    [
        (b'{"a": NaN}', "json", "nan"),
        (b'{"a": "\\ud800"}', "json", '"\\ud800"'),
        (b"{", "json", "{"),
        (b"\xff{", "json", "\ufffd{"),
        (b"\xc1\x02", "msgpack", "c1 02"),
        (msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"\x01")), "msgpack", '"extension 5: 01"'),
        (b"[" * 100 + b"]" * 100, "json", "…"),
        (b"[" * 200_000, "json", "[[["),
    ],
)
def test_invalid_content_is_shown_unchanged(payload: bytes, format: Format, says: str) -> None:
    """The error may be the reason for the quarantine."""
    assert says in readable(payload, format).text


@pytest.mark.parametrize(
    "content",
    [
        list(range(MAX_ITEMS + 5)),
        {str(number): 0 for number in range(MAX_ITEMS + 5)},
        array("d", range(MAX_ITEMS + 5)).tobytes(),
    ],
)
def test_a_long_message_states_the_omitted_items(content: object) -> None:
    """Rows beyond the bound are counted."""
    text, shortened = readable(msgspec.msgpack.encode(content), "msgpack")
    assert ("… 5 more" in text, shortened) == (True, True)


def test_no_message_is_longer_than_a_page_can_show() -> None:
    """Neither the largest message of an agent nor an endless string."""
    wide = {str(metric): [0.123456789] * MAX_ITEMS for metric in range(MAX_ITEMS)}
    for content in (wide, "x" * 10**6, [["y" * 3_000] * 90]):
        text, shortened = readable(msgspec.json.encode(content), "json")
        assert len(text) <= MAX_CHARACTERS + 1
        assert shortened


@pytest.mark.parametrize(
    "code",
    [
        Code.BAD_MESSAGE, Code.UNKNOWN_METRIC, Code.TYPE_CONFLICT, Code.WRONG_TYPE, Code.OUT_OF_RANGE, Code.NOT_FINITE,
        Code.LENGTH_MISMATCH, Code.EMPTY, Code.TOO_MANY,
    ],
)  # fmt: skip
def test_each_reason_of_the_device_protocol_has_its_own_remediation(code: Code) -> None:
    """Any other code comes from a store."""
    assert remediation(code.value) != remediation("whatever the store says")
    assert "store" in remediation("whatever the store says")


@pytest.mark.parametrize("code", sorted(MESSAGE_CODES))
def test_a_message_that_a_bridge_could_not_read_has_its_own_remediation(code: str) -> None:
    """Its codes are neither those of the device protocol nor a store's."""
    assert "hub mqtt check" in remediation(code)
    assert code not in [*Code]


def test_the_advice_says_that_a_retry_cannot_help() -> None:
    """A report of a source contains nothing to accept. A message of a broker is decoded again."""
    assert "A retry cannot help" in remediation(SOURCE_REFUSED)
    assert all("A retry cannot help" not in remediation(code) for code in MESSAGE_CODES)
