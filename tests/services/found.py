"""Finding the real programs that tests need on this machine."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

VERSION_TIMEOUT_S = 30
"""A browser's first start on a busy machine takes seconds; past this the program counts as broken."""


@dataclass(frozen=True)
class Service:
    """A program that tests start: what it is called, and how a person gets it.

    `variable` is the environment variable that names the program's path and wins over the search for
    `commands` on the PATH.
    """

    name: str
    commands: tuple[str, ...]
    variable: str
    advice: str


@dataclass(frozen=True)
class FoundService:
    """What the search for one service gave: `path` with its `version`, or a `reason` why there is none."""

    service: Service
    path: Path | None
    version: str
    reason: str


CHROMIUM = Service(
    name="chromium",
    commands=("chromium", "chromium-browser", "google-chrome-stable", "google-chrome"),
    variable="HUB_TEST_CHROMIUM",
    advice="install the distribution's package chromium",
)

SERVICES = (CHROMIUM,)


@functools.cache
def find_service(service: Service) -> FoundService:
    """Look for a service once per run: its variable first, then each of its commands on the PATH."""
    named = os.environ.get(service.variable)
    path = shutil.which(named) if named else _first_on_path(service.commands)
    if path is None:
        missing = f"{service.variable}={named} is no program" if named else f"no {service.commands[0]} on the PATH"
        return FoundService(service, None, "", f"{missing}: {service.advice}, or name it in {service.variable}")
    try:
        asked = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return FoundService(service, None, "", f"{path} does not start: {error}")
    return FoundService(service, Path(path), asked.stdout.strip(), "")


def service_table() -> list[str]:
    """One line per service: its name, its version and path, or why it is missing."""
    width = max(len(service.name) for service in SERVICES)
    lines = []
    for found in map(find_service, SERVICES):
        state = f"{found.version}  ({found.path})" if found.path else f"missing: {found.reason}"
        lines.append(f"  {found.service.name:<{width}}  {state}")
    return lines


def _first_on_path(commands: tuple[str, ...]) -> str | None:
    return next(filter(None, map(shutil.which, commands)), None)
