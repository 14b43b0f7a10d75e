"""Meaning of a skipped test: a note on a developer's machine, a failure in continuous integration (CI=true).

As a program it applies the rule to the report of the TypeScript tests: `python -m tests.skips FILE`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def skips_are_forbidden() -> bool:
    """Return whether CI is set to true, where every test must run."""
    return os.environ.get("CI", "").lower() in ("true", "1")


NO_DISK_TO_CUT = "a power cut needs root, /dev/fuse and loop devices, which this machine does not have"

ACCEPTED = (NO_DISK_TO_CUT,)
"""Reasons that no installation removes: a container has no loop devices. They are accepted everywhere."""


def is_forbidden(reason: str) -> bool:
    """Return whether a skip with this reason is a failure here."""
    return skips_are_forbidden() and not any(accepted in reason for accepted in ACCEPTED)


def skipped_tests(report: dict[str, Any]) -> list[str]:
    """Return the full names of the tests that a Vitest JSON report lists and that did not run."""
    return [
        f"{Path(file['name']).name}: {test['fullName']}"
        for file in report["testResults"]
        for test in file["assertionResults"]
        if test["status"] not in ("passed", "failed")
    ]


def main(path: Path) -> int:
    """Print the TypeScript tests that did not run; return 1 where that is forbidden or the report is missing."""
    try:
        report = json.loads(path.read_bytes())
    except FileNotFoundError:
        print(f"the TypeScript tests wrote no {path}", file=sys.stderr)
        return 1
    skipped = skipped_tests(report)
    for name in skipped:
        print(f"skipped {name}", file=sys.stderr)
    if skipped and skips_are_forbidden():
        print("CI=true forbids skipped tests", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
