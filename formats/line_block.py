"""Blocks of line protocol: many lines of numbers like earlier ones, read at once. Line by line they cost ten times as
much.

A block has exactly the readings that its lines have one by one: it only uses what the interpreter decided before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from formats.interpretation import Interpreter, LinePlace
from formats.values import EXACT

MAX_PLANS = 10_000
"""Combinations of measurement and tags whose fields are remembered: 10 MB. When it is full, all are dropped."""

MAX_LAYOUTS = 1_000
"""Sequences of fields that are remembered; programs have one or a few for each measurement."""

MARKS = (b'"', b"\\", b"#", b"\t", b"\r", b"\0")
"""Quotes, escapes, comments, and bytes around a line: lines with them are read one by one."""

_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b" \n")
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG = b"0" * len(str(int(EXACT)))
"""Digits of the first whole number that a float may change; a fraction can have as many."""

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(i?)")

_decode_times = msgspec.json.Decoder(list[int]).decode


class LineBlock(NamedTuple):
    """Readings of one device: a list of values for each metric, one value a line.

    Without `times` the readings have the time of their arrival. `lines` are the places of the lines in what was read.
    """

    device: str
    columns: dict[str, list[float] | list[int]]
    times: list[int] | None
    lines: Sequence[int]

    @property
    def rows(self) -> int:
        """The number of lines."""
        return len(self.lines)

    @property
    def readings(self) -> int:
        """The number of values."""
        return len(self.lines) * len(self.columns)

    def parts(self, rows: int) -> Iterator[LineBlock]:
        """Yield the block in parts of at most so many rows."""
        if len(self.lines) <= rows:
            yield self
            return
        for start in range(0, len(self.lines), rows):
            part = slice(start, start + rows)
            columns = {metric: values[part] for metric, values in self.columns.items()}
            yield LineBlock(self.device, columns, self.times[part] if self.times else None, self.lines[part])


class LineBlocks(NamedTuple):
    """Blocks of some lines, and the places of the others, which have to be read one by one."""

    blocks: list[LineBlock]
    others: list[int]


class _Layout:
    """The fields of lines, read as objects of JSON: a class with these fields has the decoder do all checks."""

    def __init__(self, names: Sequence[str], integers: Sequence[bool]) -> None:
        attributes = [f"field_{place}" for place in range(len(names))]
        types = [int if is_integer else float for is_integer in integers]
        row = msgspec.defstruct(
            "LineFields",
            [*zip(attributes, types, strict=True)],
            rename=dict(zip(attributes, names, strict=True)),
            forbid_unknown_fields=True,
            gc=False,
        )
        # All fields of a class are required.
        self._decode = msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type]
        self._getters = [attrgetter(attribute) for attribute in attributes]
        self._has_integers = any(integers)

    def columns(self, fields: Sequence[bytes]) -> list[list[Any]] | None:
        """Return the values of each field of these lines; None if one of them has other fields, or another value."""
        text = b"\n".join(fields)
        # JSON has the last one of two fields with the same name.
        if text.count(b"=") != len(fields) * len(self._getters):
            return None
        digits = text.translate(_ZEROS)
        if self._has_integers:
            text = (text + b"\n").replace(b"i,", b",").replace(b"i\n", b"\n")[:-1]
        # A line has no quotes, so none of its names can end the text of a name.
        json = text.replace(b"=", b'":').replace(b",", b',"').replace(b"\n", b'},{"')
        try:
            rows = self._decode(b'[{"' + json + b"}]")
        except msgspec.DecodeError:
            return None
        columns = [[*map(get, rows)] for get in self._getters]
        if _LONG in digits and not all(-EXACT < min(column) <= max(column) < EXACT for column in columns):
            # A float does not keep every whole number.
            return None
        return columns


class _Plan(NamedTuple):
    """The device and the metrics of the lines with one measurement and one set of tags. None: it is not stored."""

    layout: _Layout
    device: str
    metrics: Sequence[str | None]
    revision: int


class LineBlockReader:
    """Reader of blocks; `interpreter` is the one that reads the other lines of the same input."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._plans: dict[bytes, _Plan] = {}
        self._layouts: dict[tuple[tuple[str, ...], tuple[bool, ...]], _Layout] = {}

    def read(self, lines: Sequence[bytes], ns_per_count: int, now_ns: int) -> LineBlocks:
        """Return the blocks of these lines. A time is a count of units of so many nanoseconds."""
        places, others = _plain_lines(lines)
        chosen = lines if len(places) == len(lines) else [lines[place] for place in places]
        if not chosen:
            return LineBlocks([], others)
        parts = b" ".join(chosen).split(b" ")
        keys, fields = parts[0::3], parts[1::3]
        try:
            times = _decode_times(b"[" + b",".join(parts[2::3]) + b"]")
        except msgspec.DecodeError:
            return LineBlocks([], [*range(len(lines))])
        if ns_per_count != 1:
            times = [time * ns_per_count for time in times]
        earliest_ns, latest_ns = self._interpreter.times.plain_range(now_ns)
        is_odd = not earliest_ns <= min(times) <= max(times) <= latest_ns
        numbers_of: dict[bytes, list[int]] = {}
        for number, key in enumerate(keys):
            if is_odd and not earliest_ns <= times[number] <= latest_ns:
                others.append(places[number])
            elif (numbers := numbers_of.get(key)) is not None:
                numbers.append(number)
            else:
                numbers_of[key] = [number]
        blocks: list[LineBlock] = []
        for layout, members in self._grouped(numbers_of, fields).items():
            if layout is None:
                others += [places[number] for _, _, numbers in members for number in numbers]
                continue
            for key, block in self._blocks(layout, members, fields, times, places):
                if block.columns:
                    blocks.append(block)
                else:
                    del self._plans[key]
                    others += block.lines
        self._interpreter.readings += sum(block.readings for block in blocks)
        return LineBlocks(blocks, sorted(others))

    def _grouped(
        self, numbers_of: Mapping[bytes, list[int]], fields: Sequence[bytes]
    ) -> dict[_Layout | None, list[tuple[bytes, _Plan | None, list[int]]]]:
        """Return the lines of each layout by their keys; those of None have no plan."""
        groups: dict[_Layout | None, list[tuple[bytes, _Plan | None, list[int]]]] = {}
        revision = self._interpreter.series.revision
        for key, numbers in numbers_of.items():
            plan = self._plans.get(key)
            if plan is None or plan.revision != revision:
                plan = self._plan(key, fields[numbers[0]])
            layout = None if plan is None else plan.layout
            groups.setdefault(layout, []).append((key, plan, numbers))
        return groups

    def _blocks(
        self,
        layout: _Layout,
        members: Sequence[tuple[bytes, _Plan | None, list[int]]],
        fields: Sequence[bytes],
        times: Sequence[int],
        places: Sequence[int],
    ) -> list[tuple[bytes, LineBlock]]:
        """Return the block of each key; it has no columns if its lines have to be read one by one."""
        columns = layout.columns([fields[number] for _, _, numbers in members for number in numbers])
        if columns is None and len(members) > 1:
            # The lines of one key may have changed.
            return [*chain.from_iterable(self._blocks(layout, (member,), fields, times, places) for member in members)]
        found = []
        start = 0
        for key, plan, numbers in members:
            assert plan is not None
            end = start + len(numbers)
            kept: dict[str, list[float] | list[int]] = {}
            if columns is not None:
                kept = {
                    metric: column[start:end]
                    for metric, column in zip(plan.metrics, columns, strict=True)
                    if metric is not None
                }
            lines = [places[number] for number in numbers]
            found.append((key, LineBlock(plan.device, kept, [times[number] for number in numbers], lines)))
            start = end
        return found

    def _plan(self, key: bytes, fields: bytes) -> _Plan | None:
        """Return the plan for lines like one with these fields; None if they cannot be in a block."""
        names: list[str] = []
        integers: list[bool] = []
        try:
            for field in fields.decode().split(","):
                name, _, value = field.partition("=")
                match = _NUMBER.fullmatch(value)
                if match is None or not name:
                    return None
                names.append(name)
                integers.append(bool(match[1]))
            place = self._interpreter.line_place(key.decode(), names)
        except UnicodeDecodeError:
            return None
        if place is None or len(set(names)) < len(names) or not _has_types(place, integers):
            return None
        shape = (tuple(names), tuple(integers))
        layout = self._layouts.get(shape)
        if layout is None:
            if len(self._layouts) >= MAX_LAYOUTS:
                self._layouts.clear()
                self._plans.clear()
            layout = self._layouts[shape] = _Layout(names, integers)
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        metrics = [None if series is None else series.metric for series in place.series]
        plan = _Plan(layout, place.device, metrics, self._interpreter.series.revision)
        self._plans[key] = plan
        return plan


def _plain_lines(lines: Sequence[bytes]) -> tuple[Sequence[int], list[int]]:
    """Return the places of lines that have three parts and none of MARKS, and those of the others."""
    content = b"\n".join(lines)
    count = len(lines)
    marks = [mark for mark in MARKS if mark in content]
    if not marks and content.translate(None, _NOT_STRUCTURE) == b"\n".join([b"  "] * count):
        return range(count), []
    chosen: list[int] = []
    others: list[int] = []
    for place, line in enumerate(lines):
        is_plain = line.count(b" ") == 2 and not any(mark in line for mark in marks)
        (chosen if is_plain else others).append(place)
    return chosen, others


def _has_types(place: LinePlace, integers: Sequence[bool]) -> bool:
    """Return whether the values of the fields have the types of their series, and at least one is stored."""
    types = ["integer" if is_integer else "float" for is_integer in integers]
    return any(place.series) and all(
        series is None or series.type == type for series, type in zip(place.series, types, strict=True)
    )
