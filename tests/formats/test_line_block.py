"""Tests of blocks of line protocol: the same readings as line by line, and which lines are in a block."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.interpretation import Interpreter
from formats.line_block import MAX_PLANS, LineBlockReader
from formats.line_protocol import LineProtocolReader
from formats.record import RefusedInput, Row, TextFrame
from formats.rules import Rules

NOW_NS = 1_800_000_000_000_000_000
TIME_NS = 1_700_000_000_000_000_000


class Lines:
    """Readings of lines by one set of rules, with blocks or without."""

    def __init__(self, rules: Rules = Rules(), *, has_blocks: bool = True) -> None:  # noqa: B008 - immutable
        self.interpreter = Interpreter(rules, UTC, device="own")
        self.one_by_one = LineProtocolReader("ns", rules.measurements)
        self.blocks = LineBlockReader(self.interpreter) if has_blocks else None
        self.in_blocks = 0

    def read(self, lines: Sequence[bytes]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Return the readings and the refusals of these lines, in a fixed order."""
        found = []
        places: Sequence[int] = range(len(lines))
        if self.blocks is not None:
            blocks, places = self.blocks.read(lines, 1, NOW_NS)
            for block in blocks:
                self.in_blocks += len(block.lines)
                for metric, values in block.columns.items():
                    times: Sequence[int | None] = block.times or [None] * len(values)
                    found += [
                        (block.device, metric, time_ns, value)
                        for time_ns, value, _ in zip(times, values, block.lines, strict=True)
                    ]
        frames = [TextFrame(place, lines[place]) for place in places]
        rows, refusals = self.interpreter.interpret([*self.one_by_one.feed(frames), *self.one_by_one.finish()], NOW_NS)
        found += [readings for row in rows for readings in _readings(row)]
        return sorted(found, key=repr), sorted(map(_refused, refusals), key=repr)


def _readings(row: Row) -> list[tuple[Any, ...]]:
    return [(row.device, metric, row.time_ns, value) for metric, value in row.values.items()]


def _refused(refusal: RefusedInput) -> tuple[Any, ...]:
    return refusal.line, refusal.code, refusal.metric, refusal.raw


names = st.sampled_from(["a", "b", "usage_idle", "host", "time", "é", "}", "0"])
values = st.sampled_from(
    ["1", "2.5", "-3", "4i", "1e3", "1e400", "9007199254740993", "9007199254740993i", "0.12345678901234567", "t", "NaN",
     '"text"', "", "1:2", "01", "+5", "5.", "99999999999999999999i", "3u", "null"]
)  # fmt: skip
fields = st.lists(st.tuples(names, values), min_size=1, max_size=3).map(
    lambda pairs: ",".join(f"{name}={value}" for name, value in pairs)
)
keys = st.sampled_from(["m", "m,host=h1", "m,host=h2", "m,host=h1,disk=c", "n,host=h\\ 3", "m,host=h1,host=h2", "#m"])
times = st.sampled_from([f" {TIME_NS}", f" {TIME_NS + 1}", "", " 5", " -5", f" {NOW_NS * 2}", " x", "  7", " 07"])
any_lines = st.lists(st.builds(lambda key, text, time: f"{key} {text}{time}".encode(), keys, fields, times), max_size=8)


@given(st.lists(any_lines, max_size=3), st.booleans(), st.sampled_from([Rules(), Rules(device="{host|a}"), Rules(
    metric="{measurement}.{field}", columns={"a": "A", "b": "b"}), Rules(measurements=("m",))]))  # fmt: skip
def test_blocks_have_the_readings_of_their_lines(inputs: list[list[bytes]], repeats: bool, rules: Rules) -> None:
    """Whatever was read before, and in whatever order: each line has the same readings and refusals as by itself."""
    with_blocks, without = Lines(rules), Lines(rules, has_blocks=False)
    for lines in [each for part in inputs for each in ([part, part] if repeats else [part])]:
        assert with_blocks.read(lines) == without.read(lines)


def line(host: str, text: str, time_ns: int = TIME_NS) -> bytes:
    return f"cpu,host={host} {text} {time_ns}".encode()


def test_lines_like_earlier_ones_are_in_blocks() -> None:
    """One block for each combination of tags, also if integers, floats and the order of the fields are mixed."""
    lines = Lines()
    batch = [line(f"h{n % 3}", f"idle={n}.5,count={n}i", TIME_NS + n) for n in range(9)]
    lines.read(batch)
    assert lines.in_blocks == 0
    readings, refusals = lines.read([*batch, line("h0", "count=99i,idle=1", TIME_NS + 99)])
    assert not refusals
    assert lines.in_blocks == 10
    assert len(readings) == 20
    assert ("h0", "cpu.count", TIME_NS + 99, 99) in readings
    assert {type(value) for _, metric, _, value in readings if metric == "cpu.count"} == {int}
    assert {type(value) for _, metric, _, value in readings if metric == "cpu.idle"} == {float}


@pytest.mark.parametrize(
    "other",
    [
        line("h1", "idle=nan"),
        line("h1", 'idle=1,note="x"'),
        line("h1", "idle=1,new=2"),
        line("h1", "idle=1,idle=2"),
        line("new", "idle=1"),
        b"cpu,host=h1 idle=1",
        line("h1", "idle=1", 5),
        line("h1", "idle=9007199254740993"),
        b"",
        b"# comment",
    ],
)
def test_another_line_costs_itself_only(other: bytes) -> None:
    """Its neighbours of other tags stay in their blocks, and it is read by itself."""
    lines = Lines()
    usual = [line("h1", "idle=1.5"), line("h2", "idle=2.5"), line("h2", "idle=3.5", TIME_NS + 1)]
    lines.read(usual)
    without = Lines(has_blocks=False)
    without.read(usual)
    assert lines.read([*usual, other]) == without.read([*usual, other])
    assert lines.in_blocks >= 2


def test_a_changed_type_ends_the_plan() -> None:
    """After an integer became a float, its lines are read one by one until the types are known again."""
    lines = Lines()
    lines.read([line("h1", "count=1i")])
    lines.read([line("h1", "count=2i")])
    assert lines.in_blocks == 1
    readings, _ = lines.read([line("h1", "count=2.5"), line("h1", "count=3i", TIME_NS + 1)])
    assert sorted(value for *_, value in readings) == [2.5, 3.0]
    assert lines.in_blocks == 1
    lines.interpreter.forget("h1", "cpu.count")
    assert lines.read([line("h1", 'count="now a text"')])[0] == [("h1", "cpu.count", TIME_NS, "now a text")]


def test_the_memory_of_plans_is_bounded() -> None:
    """Beyond the bound the plans are learned again."""
    lines = Lines()
    assert lines.blocks is not None
    for start in range(0, MAX_PLANS + 2_000, 1_000):
        batch = [line(f"h{number}", "idle=1") for number in range(start, start + 1_000)]
        lines.read(batch)
        lines.read(batch)
        assert len(lines.blocks._plans) <= MAX_PLANS
    assert lines.in_blocks >= MAX_PLANS


def test_times_are_counts_of_units() -> None:
    """A second is as exact as a nanosecond."""
    interpreter = Interpreter(Rules(), UTC)
    reader = LineProtocolReader("ns", per_count=60 * 10**9)
    lines = [b"m,host=h a=1 28333333"]
    assert interpreter.interpret(reader.feed([TextFrame(1, lines[0])]), NOW_NS)[0][0].time_ns == 28333333 * 60 * 10**9
    (block,), others = LineBlockReader(interpreter).read(lines, 60 * 10**9, NOW_NS)
    assert (block.times, others) == ([28333333 * 60 * 10**9], [])
