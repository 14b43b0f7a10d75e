"""Files to import, and what is read from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from formats.interpretation import KnownType
from formats.record import Row
from importer.mapping import import_rules
from importer.records import RejectedLines
from importer.survey import FileSurvey

SECOND_NS = 1_000_000_000


def opened(path: Path, content: str | bytes, known_type: KnownType | None = None, **options: Any) -> FileSurvey:
    """Return a file with this content before its first reading."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    rules = import_rules(options)
    return FileSurvey(path, rules, ZoneInfo(rules.zone) if rules.zone else None, known_type)


def surveyed(
    path: Path, content: str | bytes, known_type: KnownType | None = None, **options: Any
) -> tuple[FileSurvey, list[RejectedLines]]:
    """Return a file with this content after its first reading, and what was rejected."""
    survey = opened(path, content, known_type, **options)
    rejected: list[RejectedLines] = []
    survey.read(rejected.append, lambda position: None)
    return survey, rejected


def rows_of(survey: FileSurvey) -> list[Row]:
    """Return the rows of its batches, as the second reading gives them, in order of the file."""
    rows: list[Row] = []
    for portion in survey.batches():
        for batch in (batch for device in portion for batch in device):
            part = batch.rows
            if isinstance(part, list):
                rows += part
                continue
            for place, (line, time_ns) in enumerate(zip(part.line_numbers, part.times, strict=True)):
                values = {name: column[place] for name, column in part.columns.items()}
                rows.append(Row(line, b"", batch.device, time_ns, {**values}))
    return sorted(rows, key=lambda row: row.line)


def reasons(rejected: Sequence[RejectedLines]) -> list[tuple[int, str]]:
    """Return the line and the reason of each rejected line."""
    return [(lines.line, lines.why) for lines in rejected]
