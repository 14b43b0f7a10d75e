"""Result of the examination of a file, for the commands that verify a data directory or a spool. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Finding(NamedTuple):
    """Result for one file, or for one damage of it. `file` is the name of the file within its directory.

    `intact` is None for a file that could not be examined. `what` is what was found, `consequence` what it means for
    the data, and `next_step` what to do; the last two are empty for an intact file.
    """

    file: str
    intact: bool | None
    what: str
    consequence: str = ""
    next_step: str = ""


INTACT, DAMAGED, NOT_EXAMINED = 0, 1, 2


def exit_code(findings: Iterable[Finding]) -> int:
    """Return DAMAGED if a file is damaged, else NOT_EXAMINED if one could not be examined, else INTACT."""
    states = {finding.intact for finding in findings}
    return DAMAGED if False in states else NOT_EXAMINED if None in states else INTACT
