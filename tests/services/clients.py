"""Build of the client programs that tests run: a copy of each with its libraries, compiled where needed.

The versions are those of its lock file. A built program stays in the user's cache folder, for all checkouts.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.services.built import HERE, BuildError, alone, cache_folder, run_step

REPOSITORY = HERE.parents[1]
SOURCES = REPOSITORY / "docs" / "clients"
BOARD = REPOSITORY / "tests" / "docs" / "arduino"

PATH = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{REPOSITORY / 'build' / 'node' / 'bin'}"
"""Folders of the tools. The Makefile installs Node into the last one on a machine without it."""

GENERATED = {"node_modules", "target"}
"""Folders that the programs' own commands leave behind."""


@dataclass(frozen=True)
class ClientProgram:
    """A client program. `steps` build it in a copy of its folder, and `command` runs it there.

    `tools` are the programs that this needs, each with its origin. `parts` is a folder that belongs to the build. The
    program's folder is in `docs/clients`, or in `parent`.
    """

    name: str
    tools: Mapping[str, str]
    steps: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]
    parts: Path | None = None
    parent: Path | None = None

    @property
    def source(self) -> Path:
        """Return the folder of the source."""
        return (self.parent or SOURCES) / self.name

    @property
    def folder(self) -> Path:
        """Return the folder of the built program; its name holds the hash of all that it was built from."""
        digest = hashlib.sha256(repr((self.steps, self.command)).encode())
        for root in (self.source, self.parts):
            for file in _files(root):
                digest.update(f"{file.name}\0".encode() + file.read_bytes())
        return cache_folder() / f"client-{self.name}-{digest.hexdigest()[:12]}"

    def is_built(self) -> bool:
        """Return whether the program is ready to run."""
        return self.folder.is_dir()

    @property
    def advice(self) -> str:
        """Return why a test that needs the program is skipped."""
        return f"the client {self.name} is not built: run `python -m tests.services`"


_MAVEN = {"mvn": "install the distribution's package maven", "javac": "install a JDK, version 17 or newer"}
_NODE = {"node": "install Node 20 or newer", "npm": "install npm"}
_NPM = (("npm", "ci", "--no-audit", "--no-fund"),)
_COMPILED = ("g++", "-std=c++17", "-O1", "-I", ".", "-include", "Arduino.h", "-x", "c++")

CLIENTS = (
    ClientProgram(
        "arduino",
        {"g++": "install the distribution's package g++"},
        ((*_COMPILED, "telemetry.ino", "board.cpp", "-o", "board"),),
        ("./board",),
        parts=BOARD,
    ),
    ClientProgram(
        "go",
        {"go": "install Go 1.24 or newer (go.dev/dl)"},
        (("go", "build", "-o", "telemetry", "."),),
        ("./telemetry",),
    ),
    ClientProgram(
        "java",
        _MAVEN,
        (("mvn", "--batch-mode", "--quiet", "compile"),),
        ("java", "-cp", "target/classes:target/lib/*", "Telemetry"),
    ),
    ClientProgram(
        "java-server",
        _MAVEN,
        (("mvn", "--batch-mode", "--quiet", "compile"),),
        ("java", "-cp", "target/classes:target/lib/*", "TelemetryServer"),
    ),
    ClientProgram("node", _NODE, _NPM, ("node", "telemetry.mjs")),
)
"""The programs of docs/clients that need a build."""

INFLUXDB_CLIENT_JS = ClientProgram("influxdb_client_js", _NODE, _NPM, ("node", "writer.mjs"), parent=HERE)
"""A program that writes with the official JavaScript client of InfluxDB, in the version of its lock file."""


def build_client(program: ClientProgram) -> Path:
    """Return the folder of the built program; build it first if it is missing. Raise BuildError."""
    folder = program.folder
    if folder.is_dir():
        return folder
    for tool, advice in program.tools.items():
        if shutil.which(tool, path=PATH) is None:
            raise BuildError(f"no {tool} on the PATH: {advice}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_suffix(".lock")):
        if not folder.is_dir():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(program.source, unfinished, ignore=shutil.ignore_patterns(*GENERATED))
            for file in _files(program.parts):
                shutil.copy(file, unfinished)
            for step in program.steps:
                run_step([*step], unfinished, {"PATH": PATH}, folder.with_suffix(".log"))
            unfinished.rename(folder)
    return folder


def _files(root: Path | None) -> Iterator[Path]:
    if root is None:
        return
    for file in sorted(root.rglob("*")):
        if file.is_file() and not GENERATED & set(file.relative_to(root).parts):
            yield file
