"""Messages: every payload gives rows or refusals, and the fast way gives what the general way gives."""

from __future__ import annotations

import gzip
import json
from datetime import UTC
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats import message as module
from formats.message import MAX_PLANS, MessageReader, MessageSource
from formats.record import Origin
from formats.rules import rules_of
from tests.formats.reading_of import NOW_NS, at

ORIGIN = Origin("dev", {"site": "x"})


class Read(NamedTuple):
    """The readings of a message, its refusals, and whether the fast way read it."""

    rows: list[tuple[str, int | None, dict[str, Any]]]
    refusals: list[tuple[str, str]]
    is_plain: bool = False


def source_of(origin: Origin = ORIGIN, **rules: Any) -> MessageSource:
    """Return the source of messages that these rules apply to."""
    return MessageReader(rules_of(rules), UTC).source(origin)


def general(source: MessageSource, payload: bytes) -> Read:
    """Read a message the general way."""
    rows, refusals = source.read(payload, NOW_NS)
    return Read(
        [(row.device, row.time_ns, row.values) for row in rows],
        [(refusal.metric, refusal.code) for refusal in refusals],
    )


def either(source: MessageSource, payload: bytes) -> Read:
    """Read a message the way a door does: the fast way first."""
    plain = source.read_plain(payload, NOW_NS)
    if plain is None:
        return general(source, payload)
    return Read([(plain.device, plain.time_ns, plain.values)], [], is_plain=True)


TIMES = (
    1_795_879_800, 1_795_879_800_123, 1_795_879_800_123_456, 1_795_879_800_123_456_789, 5, -1, 10**19, 1.5, True, "",
    "2026-11-28T15:30:00Z", "2026-11-28T15:30:00.123456789+01:00", "2026-11-28 15:30:00", "x", "1795879800", None,
)  # fmt: skip
NUMBERS: st.SearchStrategy[Any] = st.integers(-5, 5) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
OTHERS = st.sampled_from((True, None, "1", "21.5", "x", "", "nan", "ON", [1], {"a": 1}, 10**400))
FIELDS = ("a", "b", "value", "a.a", "device", "site", "uptime_ms", "")
OBJECTS = st.builds(
    lambda numbers, other, time: numbers | other | time,
    st.dictionaries(st.sampled_from(FIELDS), NUMBERS, max_size=4),
    st.just({}) | st.dictionaries(st.sampled_from(FIELDS), OTHERS, max_size=1),
    st.just({}) | st.dictionaries(st.sampled_from(("time", "ts", "uptime_ms")), st.sampled_from(TIMES), max_size=2),
)
RULES: tuple[dict[str, Any], ...] = (
    {}, {"types": {"a": "integer"}}, {"columns": {"a": "A"}}, {"device": "{site}-{device}"}, {"device": "fixed"},
    {"metric": "{site}.{field}"}, {"metric": "{b}.{field}"}, {"time": ["a"]}, {"time": ["ts"], "time_format": "ms"},
    {"decimal": ","}, {"numbers": "text"}, {"columns": {"a": "a", "b": "a"}},
)  # fmt: skip
ORIGINS = (ORIGIN, Origin("dev", {}, "m"), Origin("", {"site": "x"}), Origin())


@settings(max_examples=1000)
@given(
    st.sampled_from(RULES), st.sampled_from(ORIGINS), st.sampled_from(("json", "auto")),
    st.lists(st.tuples(OBJECTS, st.booleans()), min_size=1, max_size=5),
)  # fmt: skip
def test_the_fast_way_reads_objects_like_the_general_way(
    rules: dict[str, Any], origin: Origin, format: str, contents: list[tuple[dict[str, Any], bool]]
) -> None:
    """Readings, refusals, counts and types agree after every message, whatever came before."""
    fast, slow = source_of(origin, format=format, **rules), source_of(origin, format=format, **rules)
    for content, is_repeated in contents:
        for _ in range(1 + 2 * is_repeated):
            payload = json.dumps(content).encode()
            assert either(fast, payload)[:2] == general(slow, payload)[:2]
            assert fast._interpreter.readings == slow._interpreter.readings
    assert {
        series.metric: series.type for known in fast._interpreter.metrics.values() for series in known.values()
    } == {series.metric: series.type for known in slow._interpreter.metrics.values() for series in known.values()}


VALUES = st.sampled_from((
    "21.5", "21", "-1e3", " 7 ", "1,5", "1.234", "21.5 °C", "22 °C", "nan", "", "x", "on", "1_000", "٣", "1e999",
    "0012", "12.5\0", "inf", "'5'", "2026-11-28",
)) | st.floats(allow_nan=False).map(str)  # fmt: skip


@settings(max_examples=500)
@given(st.sampled_from(RULES), st.lists(VALUES, min_size=1, max_size=6))
def test_the_fast_way_reads_bare_values_like_the_general_way(rules: dict[str, Any], texts: list[str]) -> None:
    """The first value decides the type; the fast way only reads what is a number then."""
    origin = Origin("dev", {"site": "x"}, "t")
    fast, slow = source_of(origin, format="value", **rules), source_of(origin, format="value", **rules)
    for text in texts:
        assert either(fast, text.encode())[:2] == general(slow, text.encode())[:2], text


@given(st.sampled_from(("auto", "json", "senml", "line", "csv", "pairs", "plotter", "nmea", "value")), st.binary())
def test_every_payload_gives_readings_or_refusals(format: str, payload: bytes) -> None:
    """No payload is an error of the program."""
    source = source_of(format=format)
    for _ in range(2):
        either(source, payload)


def test_a_flat_object_of_numbers_is_read_the_fast_way_from_the_second_on() -> None:
    """Also with a time, and with fields that are not stored."""
    either_rules: tuple[dict[str, Any], ...] = ({}, {"columns": {"a": "A"}})
    for rules in either_rules:
        source = source_of(format="json", **rules)
        payload = b'{"ts": 1795879800123, "a": 1, "b": 2.5}'
        first, second = either(source, payload), either(source, payload)
        assert (first.is_plain, second.is_plain) == (False, True)
        assert first.rows == second.rows
        assert second.rows[0][1] == 1_795_879_800_123_000_000
    source = source_of(Origin("d", {}, "t"), format="value")
    assert [either(source, b"21.5").is_plain for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    ("payload", "outcome"),
    [
        (b'{"ts":1795879800,"a":1,"a":2}', ([{"a": 1.0}], [("a", "ambiguous")])),
        (b'{"ts":"2026-11-28T15:30:00Z","a" :1,"a":2}', ([{"a": 1.0}], [("a", "ambiguous")])),
        (b'{"ts":1795879800,"a":9007199254740993}', ([], [("a", "number")])),
        (b'{"ts":"garbage","a":1}', ([], [("", "time")])),
    ],
)
def test_the_fast_way_leaves_what_may_be_refused_to_the_general_way(payload: bytes, outcome: object) -> None:
    """Messages like it came before."""
    source = source_of(format="json")
    for _ in range(2):
        assert either(source, b'{"ts":"2026-11-28T15:30:00Z","a":1}').rows
        found = either(source, payload)
        assert ([values for _, _, values in found.rows], found.refusals) == outcome


def test_the_shapes_of_a_source_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound of shapes, or of all their fields, all are dropped and learned again."""
    source = source_of(format="json")
    for number in range(3 * MAX_PLANS):
        either(source, json.dumps({f"m{number}": 1}).encode())
        assert len(source._plans) <= MAX_PLANS
    monkeypatch.setattr(module, "MAX_PLANNED_FIELDS", 3)
    for count in (2, 1, 2, 4):
        either(source, json.dumps({f"n{number}": 1 for number in range(count)}).encode())
        assert sum(map(len, source._plans)) <= 3


def test_a_changed_type_ends_the_fast_way() -> None:
    """An integer of the settings that widens is a float from then on; what was learned can be discarded."""
    reader = MessageReader(rules_of({"format": "json"}), UTC)
    source = reader.source(ORIGIN)
    either(source, b'{"a": 1}')
    assert either(source, b'{"a": 1}').is_plain
    reader.interpreter.forget("dev", "a")
    assert not either(source, b'{"a": 1}').is_plain


@pytest.mark.parametrize(
    ("format", "payload", "rows"),
    [
        ("json", gzip.compress(b'{"a": 1}', mtime=0), [(None, {"a": 1.0})]),
        ("json", b'{"a": 21.5}\0', [(None, {"a": 21.5})]),
        ("json", b'{"a": 1}\n{"a": 2}', [(None, {"a": 1.0}), (None, {"a": 2.0})]),
        ("line", b"m a=1 5\nm a=NaN 6\nm a=3 7", [(5, {"m.a": 1.0}), (7, {"m.a": 3.0})]),
        ("csv", b"time,a\n2026-11-28T15:00:00Z,1\n2026-11-28T15:00:01Z,2", [
            (at("2026-11-28T15:00:00Z"), {"a": 1.0}), (at("2026-11-28T15:00:01Z"), {"a": 2.0})
        ]),
        ("auto", b"temp=21.5 hum=40", [(None, {"temp": 21.5, "hum": 40.0})]),
        ("auto", b'{\n "a": {"b": 1}\n}', [(None, {"a.b": 1.0})]),
        ("auto", b"\0 ", []),
        ("json", '{"a": 1}'.encode("utf-16"), [(None, {"a": 1.0})]),
    ],
)  # fmt: skip
def test_a_message_may_contain_several_records(
    format: str, payload: bytes, rows: list[tuple[int | None, dict[str, float]]]
) -> None:
    """A message is one frame, or a frame for each line; it may be compressed."""
    assert general(source_of(format=format), payload).rows == [("dev", *row) for row in rows]


@pytest.mark.parametrize(
    ("format", "payload", "code"),
    [
        ("auto", b"\xff\xfe\x80", "format"),
        ("json", gzip.compress(b'{"a": 1}', mtime=0)[:-9], "container"),
        ("json", b"{", "syntax"),
    ],
)
def test_a_message_that_cannot_be_read_is_refused(format: str, payload: bytes, code: str) -> None:
    """The whole message has one reason."""
    assert [code for _, code in general(source_of(format=format), payload).refusals] == [code]


@given(
    st.sampled_from(["json", "csv", "pairs", "line"]),
    st.lists(st.sampled_from([b'{"t":1}', b"t=1", b"a,b", b"1,2", b"m t=1", b"x", b"m t="]), max_size=30),
)
def test_steps_give_what_one_call_gives(format: str, lines: list[bytes]) -> None:
    """Wherever the steps end: nothing is read twice or left out."""
    payload = b"\n".join(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STEP_RECORDS", 3)
        patch.setattr(module, "STEP_VALUES", 4)
        steps = source_of(format=format).read_in_steps(payload, NOW_NS)
        count = 0
        while True:
            try:
                next(steps)
            except StopIteration as end:
                assert end.value == source_of(format=format).read(payload, NOW_NS)
                assert count >= len(end.value[0]) // 3
                return
            count += 1


def test_of_a_message_of_too_many_lines_the_first_ones_are_read() -> None:
    """The bound is that of the input; without one there is none. The other lines are one refusal with their number."""
    source = MessageReader(rules_of({"format": "pairs"}), UTC, max_lines=3).source(ORIGIN)
    assert len(source.read(b"t=1\nt=2\nt=3", NOW_NS)[0]) == 3
    rows, [refusal] = source.read(b"t=1\nt=2\nt=3\nt=4\nt=5", NOW_NS)
    assert (len(rows), refusal.code, refusal.values, refusal.raw) == (3, "limit", 2, b"t=4")
    assert "the last 2 are not stored" in refusal.reason


@pytest.mark.parametrize("is_list", [True, False])
def test_of_too_many_values_the_first_ones_are_read(is_list: bool) -> None:
    """A list and objects in lines follow the same rule: what is stored and what is refused is what was sent."""
    items = [json.dumps({"time": 1_769_860_800 + n, "m": n, "k": n, "s": None}) for n in range(4_000)]
    payload = f"[{','.join(items)}]" if is_list else "\n".join(items)
    rows, [refusal] = source_of(format="json").read(payload.encode(), NOW_NS)
    assert (len(rows), refusal.code, refusal.values) == (2_500, "limit", 3_000)
    assert "the last 3,000 are not stored" in refusal.reason


def test_of_too_many_lines_with_values_the_first_ones_are_read() -> None:
    """The bound on values is that of every format."""
    rows, [refusal] = source_of(format="line").read(b"m t=1\n" * 10_002, NOW_NS)
    assert (len(rows), refusal.code, refusal.values) == (10_000, "limit", 2)


def test_an_object_of_too_many_values_is_refused_with_their_number() -> None:
    """It has one time, so that it cannot be stored in part."""
    payload = json.dumps({f"m{n}": n for n in range(10_001)}).encode()
    rows, [refusal] = source_of(format="json").read(payload, NOW_NS)
    assert (rows, refusal.code, refusal.values) == ([], "limit", 10_001)
