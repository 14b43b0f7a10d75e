"""Search for the real programs that tests need on this machine."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.services.built import COMPOSE as COMPOSE_SOURCE
from tests.services.built import INFLUXDB1 as INFLUXDB1_SOURCE
from tests.services.built import INFLUXDB2 as INFLUXDB2_SOURCE
from tests.services.built import INFLUXDB_CLIENT_GO as INFLUXDB_CLIENT_GO_SOURCE
from tests.services.built import TELEGRAF as TELEGRAF_SOURCE
from tests.services.built import Source, built_path

VERSION_TIMEOUT_S = 30
"""Time limit of a version query; the first start of a browser takes seconds on a busy machine."""


@dataclass(frozen=True)
class Service:
    """A program that tests start: its name, and how a person installs it.

    `variable` is the environment variable with the program's path; it overrides the search for `commands` on the PATH.
    A service with a `source` is built and not searched for. `ask_version` are the arguments with which it prints its
    version and ends with `exit_code`.
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
    """Result of the search for one service: `path` with its `version`, or a `reason` why there is none."""

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
    """Return a service that no package has in the version that tests need."""
    return Service(
        name=name,
        commands=(),
        variable=f"HUB_TEST_{name.upper()}",
        advice="run `python -m tests.services`",
        source=source,
        ask_version=ask_version,
    )


def _packaged(name: str, *, package: str, ask_version: str, exit_code: int = 0) -> Service:
    """Return a service from a package of the distribution, which puts servers where PATH often does not lead."""
    return Service(
        name=name,
        commands=(name, f"/usr/sbin/{name}"),
        variable=f"HUB_TEST_{name.upper()}",
        advice=f"install the distribution's package {package}",
        ask_version=ask_version,
        exit_code=exit_code,
    )


COMPOSE = _built("compose", COMPOSE_SOURCE, "-help")
INFLUXDB1 = _built("influxdb1", INFLUXDB1_SOURCE, "version")
INFLUXDB2 = _built("influxdb2", INFLUXDB2_SOURCE, "version")
INFLUXDB_CLIENT_GO = _built("influxdb_client_go", INFLUXDB_CLIENT_GO_SOURCE, "-help")
TELEGRAF = _built("telegraf", TELEGRAF_SOURCE, "--version")

MOSQUITTO = _packaged("mosquitto", package="mosquitto", ask_version="-h", exit_code=3)
NGINX = _packaged("nginx", package="nginx-light", ask_version="-v")
HAPROXY = _packaged("haproxy", package="haproxy", ask_version="-v")

CADDY = Service(
    name="caddy",
    commands=("caddy",),
    variable="HUB_TEST_CADDY",
    advice="install the distribution's package caddy",
    ask_version="version",
)

SERVICES = (CADDY, CHROMIUM, COMPOSE, HAPROXY, INFLUXDB1, INFLUXDB2, INFLUXDB_CLIENT_GO, MOSQUITTO, NGINX, TELEGRAF)


@functools.cache
def find_service(service: Service) -> FoundService:
    """Find a service once per run: its variable first, then each of its commands on the PATH, or the built program."""
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
        finished = subprocess.run(
            [path, service.ask_version], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return FoundService(service, None, "", f"{path} does not start: {error}")
    if finished.returncode != service.exit_code:
        return FoundService(service, None, "", f"{path} {service.ask_version} ended with {finished.returncode}")
    # A program without a version output was built from a source with a known version.
    version = finished.stdout.strip().partition("\n")[0] or (service.source.version if service.source else "")
    return FoundService(service, Path(path), version, "")


def service_table(reasons: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Return one line per service: its name, version and path, or why it is missing; `reasons` by name override."""
    width = max(len(service.name) for service in SERVICES)
    lines = []
    for found in map(find_service, SERVICES):
        state = (
            f"{found.version}  ({found.path})"
            if found.path
            else f"missing: {reasons.get(found.service.name, found.reason)}"
        )
        lines.append(f"  {found.service.name:<{width}}  {state}")
    return lines


def _first_on_path(commands: tuple[str, ...]) -> str | None:
    return next(filter(None, map(shutil.which, commands)), None)
