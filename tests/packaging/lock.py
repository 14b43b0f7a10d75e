"""Reader of requirements/dev.txt, and of the part that one kind of installation needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parent.parent.parent
PYTHON_LOCK = ROOT / "requirements" / "dev.txt"
HUB_LOCK = ROOT / "requirements" / "hub.txt"
"""Locks of an image: the packages of the hub, and those that build its wheel. Both are parts of PYTHON_LOCK."""
BUILD_LOCK = ROOT / "requirements" / "build.txt"
FUZZ_LOCK = ROOT / "requirements" / "fuzz.txt"
NODE_LOCK = ROOT / "requirements" / "node.txt"
NPM_LOCK = ROOT / "dashboards" / "web" / "package-lock.json"

Lock = dict[NormalizedName, list[str]]
"""Entries of each locked distribution by name: the pinned version, its marker and the hashes. Most have one entry; a
distribution whose newest version dropped an older Python has one for each side."""


def read_lock(path: Path) -> Lock:
    """Return the distributions that a lock written by `make lock` pins."""
    lock: Lock = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", path.read_text()):
        lock.setdefault(canonicalize_name(entry.partition("==")[0]), []).append(entry)
    return lock


def needed_by(
    requirements: Iterable[Requirement], *, not_installed: Mapping[str, list[str]] | None = None
) -> set[NormalizedName]:
    """Return the distributions that these requirements need on this machine, with indirect dependencies.

    The needs of a distribution are read from the environment that runs the tests, which has the whole lock installed.
    For a distribution that it does not have, `not_installed` holds the requirement lines under its name.
    """
    lines_of = not_installed or {}
    names: set[NormalizedName] = set()
    seen: set[tuple[NormalizedName, frozenset[str]]] = set()
    open_requirements = list(requirements)
    while open_requirements:
        requirement = open_requirements.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        names.add(name)
        lines = lines_of[name] if name in lines_of else metadata.requires(name) or []
        open_requirements += wanted_on_this_machine(lines, extras)
    return names


def wanted_on_this_machine(lines: Iterable[str], extras: frozenset[str]) -> Iterator[Requirement]:
    """Return the requirement lines of a distribution whose marker holds here, with these extras."""
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement
