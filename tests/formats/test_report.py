"""The report of a check, as text and as facts."""

from __future__ import annotations

from datetime import UTC

from formats.reading import Reading
from formats.report import MAX_SHOWN_READINGS, MAX_SHOWN_REFUSALS, Trial, aligned
from formats.rules import rules_of


def trial_of(data: bytes, *, container: str = "", **rules: object) -> Trial:
    reading = Reading(rules_of(rules), UTC)
    trial = Trial(reading, container=container)
    trial.add(reading.feed(data, 0))
    trial.add(reading.finish(0))
    return trial


def test_the_text_has_everything_in_order() -> None:
    """The format with its reason, the readings, the refusals with a setting, the counts, the rules, the settings."""
    text = trial_of(b'{"t":1.5,"n":"x"}\n{"t":"on"}\n{"t":null}\n', container="gzip", device="d").text()
    assert text.split("\n") == [
        "format    json in gzip: 3 of 3 lines are JSON",
        "",
        "line  time (UTC)  device  metric  value  unit  type",
        "   1  arrival     d       t       1.5          float",
        '   1  arrival     d       n       "x"          string',
        "",
        "refused",
        '  line 2, t: on is not a number [type]; set no_value = ["on"] or types.t = "string"',
        "",
        "2 readings in 1 row; 3 lines; 1 without a value; 1 refused",
        "",
        "decided by",
        "  format    3 of 3 lines are JSON",
        "",
        "settings to copy",
        'format = "json"',
        'device = "d"',
    ]


def test_the_facts_are_the_same() -> None:
    """They contain the rows and the refusals themselves."""
    facts = trial_of(b'{"t":1.5}\n{"t":"on"}\n').facts()
    assert (facts["format"], facts["readings"], facts["refused"]) == ("json", 1, {"type": 1})
    assert facts["first_rows"][0]["values"] == {"t": 1.5}
    assert (facts["refusals"][0]["raw"], facts["refusals"][0]["metric"]) == ('{"t":"on"}', "t")


def test_long_results_are_cut_and_counted() -> None:
    """The text stays on a few screens."""
    text = trial_of(b'{"t":1}\n' * 100 + b'{"t":"x"}\n' * 100).text()
    assert text.count(" t  ") == MAX_SHOWN_READINGS
    assert f"… and {100 - MAX_SHOWN_READINGS} more readings" in text
    assert f"… and {100 - MAX_SHOWN_REFUSALS} more; --json has up to 1,000" in text


def test_number_marks_that_others_decided_are_named() -> None:
    """1.204 is 1204 because of its neighbour, and the zone that nobody set is no setting."""
    trial = trial_of(b"time;v\n2026-01-01 10:00;1.204\n2026-01-01 10:01;1.204,5\n")
    assert "numbers   in numbers, ',' is the decimal mark and '.' separates thousands" in trial.text()
    assert "zone" not in trial.facts()["settings"]
    assert "numbers" not in {note["code"] for note in trial_of(b"v=1.5\n").facts()["notes"]}


def test_columns_are_aligned_by_what_a_terminal_shows() -> None:
    """Wide letters need two columns, combining ones none, and control characters are escapes."""
    assert aligned([("1", "温", "x"), ("10", "e\u0301", "x"), ("2", "\x1b", "x")]) == [
        " 1  温    x",
        "10  e\u0301     x",
        " 2  \\x1b  x",
    ]
