"""Files to import, and what is read from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from importer.records import FileRow, Line, RejectedRecord
from importer.survey import FileSurvey

SECOND_NS = 1_000_000_000


def lines(text: str | bytes) -> list[Line]:
    """The lines of a text."""
    raw = text if isinstance(text, bytes) else text.encode()
    return [Line(number, line) for number, line in enumerate(raw.splitlines(keepends=True), 1)]


def surveyed(path: Path, content: str | bytes, **options: Any) -> tuple[FileSurvey, list[RejectedRecord]]:
    """A file with this content after its first reading, and what was refused."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    survey = FileSurvey(path, options)
    refused: list[RejectedRecord] = []
    survey.read(refused.append, lambda position: None)
    return survey, refused


def rows_of(survey: FileSurvey) -> list[FileRow]:
    """The rows of its batches, as the second reading gives them, in order of the file."""
    rows = [row for slice in survey.batches() for device in slice for batch in device for row in batch.rows]
    return sorted(rows, key=lambda row: row.line)


def reasons(refused: Sequence[RejectedRecord]) -> list[tuple[int, str]]:
    """Return the line and the reason of each rejected record."""
    return [(refusal.line, refusal.why) for refusal in refused]
