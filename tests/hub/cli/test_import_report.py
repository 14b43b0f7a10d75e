"""The report of `hub import`: the counts of a file, its refusals, and when the import is complete."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer import Exit

from hub.cli import import_report as module
from hub.cli.import_report import FileResult, ImportProgress, ImportReport, RejectsFile
from importer.records import RejectedLines
from tests.importer.files import surveyed
from wire import device as messages
from wire.errors import Code

TABLE = "time,device,level\n2024-03-01T00:00:00Z,a,1\n2024-03-01T00:00:01Z,a,2\n2024-03-01T00:00:02Z,b,3\n"


def result_of(directory: Path) -> FileResult:
    """Return the result of a file of three readings that is not sent yet."""
    survey, refused = surveyed(directory / "log.csv", TABLE)
    assert refused == []
    return FileResult(survey)


def report_of(*results: FileResult, as_json: bool = False) -> tuple[ImportReport, io.StringIO]:
    """Return a report and what it prints on stderr."""
    errors = io.StringIO()
    return ImportReport(as_json, Console(file=errors, width=400), list(results)), errors


def test_every_reading_is_counted_once(tmp_path: Path) -> None:
    """As stored by this run or before, and of those the ones in quarantine."""
    result = result_of(tmp_path)
    batch = next(
        batch for part in result.survey.batches() for device in part for batch in device if batch.device == "a"
    )
    result.store(2, before=False)
    result.store(1, before=True)
    result.reject(batch, messages.Reject(1, Code.TYPE_CONFLICT, "level is declared as string"))
    facts = result.facts
    assert (result.acknowledged, facts["stored"], facts["stored_before"], facts["quarantined"]) == (3, 0, 1, 2)
    assert (facts["readings"], facts["devices"], facts["from"], facts["to"]) == (
        3, 2, "2024-03-01T00:00:00.000Z", "2024-03-01T00:00:02.000Z"
    )  # fmt: skip
    assert facts["refused"] == {"hub": 2}
    assert facts["refusals"] == [
        {
            "line": 2, "to": 3, "why": "hub",
            "message": "a: level is declared as string (type_conflict); in the quarantine of the hub",
        }
    ]  # fmt: skip


def test_only_the_lines_of_the_values_that_the_hub_refused_are_listed(tmp_path: Path) -> None:
    """The other readings of the batch are stored."""
    result = result_of(tmp_path)
    batch = next(
        batch for part in result.survey.batches() for device in part for batch in device if len(batch.lines()) > 1
    )
    columns = [messages.RefusedColumn("level", Code.WRONG_TYPE, 1, [[1, 1]])]
    result.store(2, before=False)
    result.reject(batch, messages.Reject(1, Code.WRONG_TYPE, "level is text", True, 1, columns))
    facts = result.facts
    assert (facts["stored"], facts["quarantined"], facts["refused"]) == (1, 1, {"hub": 1})
    assert [(refusal["line"], refusal["to"]) for refusal in facts["refusals"]] == [(3, 3)]


def test_refusals_are_listed_up_to_a_bound_and_all_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of ten million wrong lines must not fill the memory or the terminal."""
    monkeypatch.setattr(module, "MAX_REFUSALS", 3)
    monkeypatch.setattr(module, "MAX_SHOWN", 2)
    result = result_of(tmp_path)
    for line in range(2, 7):
        result.refuse(RejectedLines(line, 1, "type", "[red]oops[/red]"))
    assert [refusal["line"] for refusal in result.facts["refusals"]] == [2, 3, 4]
    report, errors = report_of(result)
    report.print()
    assert errors.getvalue().splitlines() == [
        "log.csv, line 2: [red]oops[/red] [type]",
        "log.csv, line 3: [red]oops[/red] [type]",
        "log.csv: 5 lines or values were refused: 5 type",
    ]


def test_an_import_is_complete_when_every_line_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not when it was stopped, when something went wrong, or when a line was rejected."""
    result = result_of(tmp_path)
    result.store(3, before=False)
    result.complete = True
    report, errors = report_of(result)
    report.print()
    assert (report.ok, errors.getvalue()) == (True, "")
    assert capsys.readouterr().out == "log.csv: 3 readings of 2 devices on the disk of the hub\n"
    report.stopped = True
    assert not report.ok
    report.print()
    assert "the same command continues the import" in errors.getvalue()
    report, errors = report_of(result)
    report.trouble = "the hub does not answer"
    report.print()
    assert (report.ok, errors.getvalue()) == (False, "hub import: the hub does not answer\n")
    result.refuse(RejectedLines(2, 1, "type", "oops"))
    assert not report_of(result)[0].ok


def test_json_is_one_object_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the trouble, or null, and the facts of every file."""
    report, errors = report_of(result_of(tmp_path), as_json=True)
    report.print()
    printed = json.loads(capsys.readouterr().out)
    assert (printed["ok"], printed["trouble"], [file["format"] for file in printed["files"]]) == (True, None, ["csv"])
    assert errors.getvalue() == ""


def test_the_file_of_rejected_lines_exists_only_if_there_are_any(tmp_path: Path) -> None:
    """It begins with the header, so that it can be imported after a correction."""
    path = tmp_path / "rejects.csv"
    result = result_of(tmp_path)
    rejects = RejectsFile(path, tmp_path / "log.csv")
    rejects.write(result.survey, result.rejected)
    assert not path.exists()
    result.refuse(RejectedLines(3, 1, "type", "oops"))
    RejectsFile(None, tmp_path / "log.csv").write(result.survey, result.rejected)
    assert not path.exists()
    rejects.write(result.survey, result.rejected)
    assert path.read_text() == "time,device,level\n2024-03-01T00:00:01Z,a,2\n"


def test_rejected_lines_never_replace_the_source(tmp_path: Path) -> None:
    """Also through another name of the same file."""
    (tmp_path / "log.csv").write_text(TABLE)
    (tmp_path / "same.csv").symlink_to(tmp_path / "log.csv")
    with pytest.raises(Exit):
        RejectsFile(tmp_path / "same.csv", tmp_path / "log.csv")
    assert (tmp_path / "log.csv").read_text() == TABLE


def test_a_reason_to_wait_is_printed_once_without_a_terminal() -> None:
    """Until the import continues; then the next reason is printed."""
    errors = io.StringIO()
    with ImportProgress(Console(file=errors, width=400), "log.csv", 3) as progress:
        for sentence in ("no answer", "no answer", "", "full"):
            progress.show_trouble(sentence)
        progress.set_completed(3)
    assert errors.getvalue() == "hub import: no answer; waiting\nhub import: full; waiting\n"
