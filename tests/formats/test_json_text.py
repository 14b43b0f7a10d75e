"""JSON and SenML."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.json_text import documents, is_senml, split_documents
from formats.record import FrameRefused
from tests.formats.reading_of import NOW_NS, read

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=3), min_size=2, max_size=4))
def test_concatenated_values_are_split(values: list[object]) -> None:
    """Brackets in texts do not count."""
    raw = "".join(map(json.dumps, values)).encode()
    assert [json.loads(part) for part in split_documents(raw)] == values
    assert documents(raw) == values


def test_words_that_are_not_json_are_no_value() -> None:
    """Words in texts are left alone."""
    assert documents(b'{"a":NaN,"b":-Infinity,"c":None,"d":"nan"}') == [{"a": None, "b": None, "c": None, "d": "nan"}]


def test_a_broken_object_costs_its_line() -> None:
    """Its bytes are kept."""
    content = read('{"t":1}\n{"t":\n{"t":3}\n')
    assert content.column("t") == [1.0, 3.0]
    assert [(r.line, r.code, r.raw) for r in content.refusals] == [(2, "syntax", b'{"t":')]


def test_the_place_of_a_byte_that_is_no_utf_8_counts_from_the_start() -> None:
    """Not from the start of the text that contains it."""
    with pytest.raises(FrameRefused, match=r"the frame is not JSON: it is not UTF-8 \(byte 6\)"):
        documents(b'{"t":"\xff"}')


def test_items_of_a_list_are_named_by_what_they_offer() -> None:
    """The position is the last resort."""
    assert read('{"s":[{"name":"in","t":1},{"name":"out","t":2}]}').values == [{"s.in.t": 1.0, "s.out.t": 2.0}]
    assert read('{"s":[{"name":"x","t":1},{"name":"x","t":2}]}').column("s.1.t") == [2.0]


def test_deep_and_large_json_is_refused() -> None:
    """The bounds are 16 levels and 10,000 values."""
    assert read('{"a":' * 20 + "1" + "}" * 20).codes == [(1, "depth")]
    assert read("[" * 100_000, format="json").codes[0][1] in ("depth", "syntax")
    assert read(json.dumps([{"a": 1}] * 10_001)).codes == [(1, "limit")]


@pytest.mark.parametrize(
    ("pack", "code"),
    [
        ('[{"n":"a/t","v":1,"vs":"x"}]', "ambiguous"),
        ('[{"n":"a/t","v":"x"}]', "type"),
        ('[{"v":1}]', "metric"),
        ('[{"n":"a/t","v":1,"bver":11}]', "version"),
        ('[{"n":"a/t","v":1,"x_":1}]', "version"),
        ('{"n":"a","v":1}', "syntax"),
    ],
)
def test_senml_that_breaks_the_rfc_is_refused(pack: str, code: str) -> None:
    """RFC 8428, section 4."""
    assert read(pack, format="senml").codes == [(1, code)]


def test_senml_has_units_sums_and_relative_times() -> None:
    """A time below 2**28 is relative to now."""
    content = read('[{"bn":"dev/","bu":"Cel","n":"t","v":21.5,"s":3,"t":-10},{"n":"on","vb":true},{"n":"m","vs":"42"}]')
    assert content.values == [{"t": 21.5, "t.sum": 3.0}, {"on": True}, {"m": "42"}]
    assert content.times == [NOW_NS - 10 * 10**9, None, None]
    assert not is_senml([{"name": "a", "v": 1}])


def test_a_number_that_is_too_large_costs_itself() -> None:
    """Its neighbours are stored, also a missing value that JSON does not have."""
    content = read('{"a":1e999,"b":-1.5e400,"c":nan,"d":21.5,"e":12345678901234567000}\n')
    assert content.values == [{"d": 21.5, "e": 12345678901234567000.0}]
    assert [(r.metric, r.code, r.value) for r in content.refusals] == [
        ("a", "number", "1e999"), ("b", "number", "-1.5e400"),
    ]  # fmt: skip
    assert content.reading.interpreter.no_values == 1


@pytest.mark.parametrize(
    ("object", "values", "refused"),
    [
        ('{"v":1,"v":2,"w":3}', {"v": 1.0, "w": 3.0}, {"v": "2"}),
        ('{"v" :1,"v"\t:2}', {"v": 1.0}, {"v": "2"}),
        ('{"v":1,"\\u0076":2}', {"v": 1.0}, {"v": "2"}),
        ('{"v":1,"w":"a\\":b","v":nan,"v":1e999}', {"v": 1.0, "w": 'a":b'}, {"v": "1e999"}),
        ('{"a":{"x":1},"a":{"y":2},"b":3}', {"a.x": 1.0, "b": 3.0}, {"a.y": "2"}),
        ('{"a":{"x":1,"x":2}}', {"a.x": 1.0}, {"a.x": "2"}),
        ('{"a.b":1,"a":{"b":2,"c":3}}', {"a.b": 1.0, "a.c": 3.0}, {"a.b": "2"}),
        ('{"s":[{"id":"in","t":1,"t":2}]}', {"s.in.t": 1.0}, {"s.in.t": "2"}),
        ('{"o":{"x":1,"x":true},"time":"2026-11-28T15:00:00Z"}', {"o.x": 1.0}, {"o.x": "True"}),
    ],
)
def test_the_second_value_of_a_name_is_refused_alone(object: str, values: object, refused: dict[str, str]) -> None:
    """The first one and the neighbours are stored, also in one message among others."""
    for window in (1, 2000):
        content = read(f"{object}\n" * 2, format="json", window=window)
        assert content.values == [values] * 2
        assert {r.metric: r.value for r in content.refusals if r.value != "None"} == refused
        assert {r.code for r in content.refusals} == {"ambiguous"}
    assert read(object).values == [values]


def test_a_second_time_or_device_refuses_the_record() -> None:
    """Its place is not known."""
    assert read('{"time":1795878000,"time":1795878001,"v":1}').codes == [(1, "ambiguous")]
    assert read('{"device":"a","device":"b","v":1}').codes == [(1, "ambiguous")]


@pytest.mark.parametrize(
    ("format", "frame"),
    [
        ("senml", '[{"n":"a/t","v":1,"v":2}]'),
        ("auto", '[{"n":"a/t","v":1,"v":2}]'),
        ("signalk", '{"updates":[{"values":[]}],"updates":[{"values":[{"path":"a","value":1}]}]}'),
    ],
)
def test_a_repeated_name_in_a_fixed_structure_refuses_the_frame(format: str, frame: str) -> None:
    """The part that it means is not known."""
    content = read(frame, format=format)
    assert (content.values, content.codes) == ([], [(1, "ambiguous")])
