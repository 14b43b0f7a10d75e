"""The table of a campaign, in Markdown. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.damage.campaign import Result
from tests.damage.kinds import PLACES, Kind
from tests.damage.outcome import SILENT, Outcome


def table(results: Iterable[Result]) -> str:
    """Return a row for each file and kind of damage, with the number of trials of each outcome."""
    counts: dict[tuple[str, Kind], Counter[Outcome]] = {}
    for result in results:
        counts.setdefault((result.file, result.kind), Counter())[result.outcome] += 1
    outcomes = list(Outcome)
    lines = [
        "| file | damage | trials | " + " | ".join(outcomes) + " |",
        "| --- | --- | " + " | ".join("--:" for _ in range(len(outcomes) + 1)) + " |",
    ]
    kinds = list(PLACES)
    for (file, kind), of_file in sorted(counts.items(), key=lambda row: (row[0][0], kinds.index(row[0][1]))):
        owner, _, name = file.partition("/")
        lines.append(_line(f"{owner}: `{name}`", kind, of_file))
    whole = sum(counts.values(), Counter[Outcome]())
    lines.append(_line("**all**", "", whole))
    return "\n".join(lines) + "\n"


def _line(file: str, kind: str, counts: Counter[Outcome]) -> str:
    cells = ["0" if outcome in SILENT and not counts[outcome] else str(counts[outcome] or "") for outcome in Outcome]
    return f"| {file} | {kind} | {counts.total()} | " + " | ".join(cells) + " |"
