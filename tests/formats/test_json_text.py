"""JSON and SenML."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.json_text import documents, is_senml, split_documents
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
    content = read('{"a":1e999,"b":-1.5e400,"c":nan,"d":21.5,"e":12345678901234567890}\n')
    assert content.values == [{"d": 21.5, "e": 12345678901234567890.0}]
    assert [(r.metric, r.code, r.value) for r in content.refusals] == [
        ("a", "number", "1e999"), ("b", "number", "-1.5e400"),
    ]  # fmt: skip
    assert content.reading.interpreter.no_values == 1
