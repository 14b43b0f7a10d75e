"""Finding the real programs that tests need on this machine."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.services.built import COMPOSE as COMPOSE_SOURCE
from tests.services.built import INFLUXDB1 as INFLUXDB1_SOURCE
from tests.services.built import INFLUXDB2 as INFLUXDB2_SOURCE
from tests.services.built import TELEGRAF as TELEGRAF_SOURCE
from tests.services.built import Source, built_path

VERSION_TIMEOUT_S = 30
"""A browser's first start on a busy machine takes seconds; past this the program counts as broken."""


@dataclass(frozen=True)
class Service:
    """A program that tests start: what it is called, and how a person gets it.

    `variable` is the environment variable that names the program's path and wins over the search for
    `commands` on the PATH; a service with a `source` is not searched for there, but built. `ask_version` is what makes
    it say its version and end with `exit_code`.
    """

    name: str
    commands: tuple[str, ...]
    variable: str
    advice: str
    source: Source | None = None
    ask_version: str = "--version"
    exit_code: int = 0


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


def _built(name: str, source: Source, ask_version: str) -> Service:
    """A service that no package has in the version that tests need."""
    return Service(
        name=name,
        commands=(),
        variable=f"HUB_TEST_{name.upper()}",
        advice="run `python -m tests.services`",
        source=source,
        ask_version=ask_version,
    )


COMPOSE = _built("compose", COMPOSE_SOURCE, "-help")
INFLUXDB1 = _built("influxdb1", INFLUXDB1_SOURCE, "version")
INFLUXDB2 = _built("influxdb2", INFLUXDB2_SOURCE, "version")

MOSQUITTO = Service(
    name="mosquitto",
    commands=("mosquitto", "/usr/sbin/mosquitto"),
    variable="HUB_TEST_MOSQUITTO",
    advice="install the distribution's package mosquitto",
    ask_version="-h",
    exit_code=3,
)

SERVICES = (CHROMIUM, COMPOSE, INFLUXDB1, INFLUXDB2, MOSQUITTO)

TELEGRAF = Service(
    name="telegraf",
    commands=(),
    variable="HUB_TEST_TELEGRAF",
    advice="run `python -m tests.services telegraf`",
    source=TELEGRAF_SOURCE,
)

OTHERS = (TELEGRAF,)
"""What no test needs: it is built where it is asked for by name."""


@functools.cache
def find_service(service: Service) -> FoundService:
    """Look for a service once per run: its variable first, then each of its commands on the PATH, or what was built."""
    named = os.environ.get(service.variable)
    if named:
        path, missing = shutil.which(named), f"{service.variable}={named} is no program"
    elif service.source is not None:
        path, missing = shutil.which(built_path(service.source)), f"version {service.source.version} is not built yet"
    else:
        path, missing = _first_on_path(service.commands), f"no {service.commands[0]} on the PATH"
    if path is None:
        return FoundService(service, None, "", f"{missing}: {service.advice}, or name it in {service.variable}")
    try:
        asked = subprocess.run(
            [path, service.ask_version], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return FoundService(service, None, "", f"{path} does not start: {error}")
    if asked.returncode != service.exit_code:
        return FoundService(service, None, "", f"{path} {service.ask_version} ended with {asked.returncode}")
    # One that does not tell its version was built from a source that does.
    told = asked.stdout.strip().partition("\n")[0] or (service.source.version if service.source else "")
    return FoundService(service, Path(path), told, "")


def service_table(
    reasons: Mapping[str, str] = MappingProxyType({}), services: Sequence[Service] = SERVICES
) -> list[str]:
    """One line per service: its name, its version and path, or why it is missing; `reasons` by name know better."""
    width = max(len(service.name) for service in services)
    lines = []
    for found in map(find_service, services):
        state = (
            f"{found.version}  ({found.path})"
            if found.path
            else f"missing: {reasons.get(found.service.name, found.reason)}"
        )
        lines.append(f"  {found.service.name:<{width}}  {state}")
    return lines


def _first_on_path(commands: tuple[str, ...]) -> str | None:
    return next(filter(None, map(shutil.which, commands)), None)
