"""Line protocol: what agents of InfluxDB write becomes rows, and invalid records are rejected with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from importer.line_protocol import read_line_protocol
from importer.mapping import LineMapping
from importer.records import FileRow, MappingError, RejectedRecord
from tests.importer.files import lines, reasons, rows_of, surveyed


def test_types_stay_what_they_are(tmp_path: Path) -> None:
    """Floats, integers, unsigned ones, booleans and texts; the metric is the field's name where there is one kind of
    line."""
    content = 'plant,device=a f=1,i=2i,u=3u,b=t,s="x y" 1700000000000000000\n'
    survey, refused = surveyed(tmp_path / "a.lp", content)
    (row,) = rows_of(survey)
    assert refused == []
    assert row.device == "a"
    assert row.values == {"f": 1.0, "i": 2, "u": 3, "b": True, "s": "x y"}
    assert [type(value) for value in row.values.values()] == [float, int, int, bool, str]
    assert row.time_ns == 1_700_000_000_000_000_000


def test_kinds_of_lines_are_kept_apart(tmp_path: Path) -> None:
    """With several measurements their names are part of the metrics'; a field that is called value says nothing."""
    content = "cpu,host=a user=1 1700000000\nmem,host=a used=2 1700000000\n"
    survey, _ = surveyed(tmp_path / "a.lp", content)
    assert set(survey.catalogue.devices["a"]) == {"cpu.user", "mem.used"}
    survey, _ = surveyed(tmp_path / "b.lp", "temperature,host=a value=1 1700000000\n")
    assert set(survey.catalogue.devices["a"]) == {"temperature.value"}


def test_a_kind_of_line_that_comes_late_is_not_mixed_with_the_first(tmp_path: Path) -> None:
    """The guess saw one measurement and left its name out: lines of another one are refused, and it is said how to
    take them."""
    content = "cpu,host=a user=1 1700000000\n" * 3000 + "mem,host=a user=2 1700000000\n"
    _, refused = surveyed(tmp_path / "a.lp", content)
    assert reasons(refused) == [(3001, "metric")]
    assert "--metric" in refused[0].message


def test_tags_that_tell_series_apart_become_part_of_the_name(tmp_path: Path) -> None:
    """Two disks of one host are two metrics; a tag that is always the same is not needed."""
    content = "disk,host=a,os=x,path=/ used=1 1700000000\ndisk,host=a,os=x,path=/home used=2 1700000000\n"
    survey, _ = surveyed(tmp_path / "a.lp", content)
    assert set(survey.catalogue.devices["a"]) == {"/.used", "/home.used"}


@pytest.mark.parametrize(
    ("digits", "precision"), [("1700000000", "s"), ("1700000000000", "ms"), ("1700000000000000", "us")]
)
def test_the_unit_of_times_is_seen_by_their_length(tmp_path: Path, digits: str, precision: str) -> None:
    """Ten digits are seconds, thirteen milliseconds, sixteen microseconds."""
    survey, _ = surveyed(tmp_path / "a.lp", f"m,device=a x=1 {digits}\n")
    assert survey.mapping.precision == precision  # type: ignore[union-attr]
    assert rows_of(survey)[0].time_ns == 1_700_000_000 * 10**9


MAPPING = LineMapping(device_tag="device", metric="{field}")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("m,device=a x=1", "time"),
        ("m,device=a x=1 -5", "time"),
        ("m x=1 5", "device"),
        ("m,device=a x=one 5", "syntax"),
        ("m,device=a x=1 5.5", "syntax"),
        ("no line protocol at all", "syntax"),
        (b'm,device=a x="\xff" 5', "encoding"),
        (b"m,device=a x=1 \0 5", "syntax"),
    ],
)
def test_a_bad_line_is_rejected_alone(line: str | bytes, why: str) -> None:
    """One bad line costs itself: those around it are taken."""
    bad = line if isinstance(line, bytes) else line.encode()
    found = list(read_line_protocol(lines(b"m,device=a x=1 5\n" + bad + b"\nm,device=a x=2 6\n"), MAPPING))
    assert [type(one) for one in found] == [FileRow, RejectedRecord, FileRow]
    refusal = found[1]
    assert isinstance(refusal, RejectedRecord)
    assert (refusal.line, refusal.why, refusal.raw) == (2, why, bad + b"\n")


def test_comments_blank_lines_and_carriage_returns_are_nothing() -> None:
    """As InfluxDB takes them."""
    found = list(read_line_protocol(lines("# hello\r\n\r\nm,device=a x=1 5\r\n \n"), MAPPING))
    assert [(row.line, row.time_ns) for row in found if isinstance(row, FileRow)] == [(3, 5)]
    assert len(found) == 1


def test_a_text_may_go_over_lines() -> None:
    """A line break in quotes is part of the text; a quote that is never closed costs its own line."""
    text = 'm,device=a s="one\ntwo\n\nthree",x=1 5\nm,device=a x=2 6\nm,device=a s="never 7\nm,device=a x=3 8\n'
    found = list(read_line_protocol(lines(text), MAPPING))
    assert [(one.line, type(one)) for one in found] == [(1, FileRow), (5, FileRow), (6, RejectedRecord), (7, FileRow)]
    first = found[0]
    assert isinstance(first, FileRow)
    assert first.values == {"s": "one\ntwo\n\nthree", "x": 1.0}
    assert first.raw.count(b"\n") == 4


def test_a_last_line_whose_time_is_cut_off_is_refused() -> None:
    """It would be a reading of 1970."""
    found = list(read_line_protocol(lines("m,device=a x=1 1700000000\nm,device=a x=2 17000"), MAPPING))
    assert isinstance(found[1], RejectedRecord)
    assert found[1].why == "cut off"
    whole = list(read_line_protocol(lines("m,device=a x=1 1700000000\nm,device=a x=2 1700000001"), MAPPING))
    assert isinstance(whole[1], FileRow)


def test_a_template_without_the_field_is_refused() -> None:
    """All fields of a line would be one metric."""
    with pytest.raises(MappingError, match="field"):
        list(read_line_protocol(lines("m,device=a x=1 5\n"), LineMapping(device_tag="device", metric="{measurement}")))
