"""Build of the real servers that no package has in the version that tests need.

Most have a Go module of their own in this folder, which pins the program and its dependencies by hash. The others are
built at their version, as their own module pins their parts. A built program stays in the user's cache folder, for all
checkouts.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

BUILD_TIMEOUT_S = 3600
"""Time limit of one build step; InfluxDB 2.7 takes 5 to 15 minutes without a cache."""

NICENESS = 5
"""Priority of builds: other work on the machine goes first."""

SHOWN_LINES = 5
"""Lines of a failed build's output; the rest is in its log."""

FORGIVING_COMPILER = '#!/bin/sh\nexec "$@" --cap-lints warn\n'
"""Wrapper that cargo calls with the Rust compiler's command. The libraries of InfluxDB 2.7 turn warnings into errors,
and a newer compiler has warnings that they do not know."""


class BuildError(Exception):
    """A server could not be built; the message says why and what to do."""


@dataclass(frozen=True)
class Source:
    """Origin of a server: the Go module `folder` beside this file, and the program `package` in it.

    `rust` says that parts of it are written in Rust, which Go reaches through the module's own pkg-config. `whole` says
    that there is no such folder: the program is a module of its own, and `go install` builds it as that module does.
    """

    folder: str
    package: str
    version: str
    tags: tuple[str, ...] = ()
    rust: bool = False
    whole: bool = False

    @property
    def tools(self) -> dict[str, str]:
        """Return the programs that a build needs, each with its origin."""
        needed = {"go": "install Go 1.24 or newer (go.dev/dl)", "cc": "install the distribution's package gcc"}
        if self.rust:
            needed |= {
                "cargo": "install Rust (rustup.rs)",
                "pkg-config": "install the distribution's package pkg-config",
            }
        return needed


INFLUXDB1 = Source("influxdb1", "github.com/influxdata/influxdb/cmd/influxd", "1.8.10")
INFLUXDB2 = Source(
    "influxdb2",
    "github.com/influxdata/influxdb/v2/cmd/influxd",
    "2.7.12",
    tags=("sqlite_foreign_keys", "sqlite_json"),
    rust=True,
)
COMPOSE = Source("compose", "telemetry-hub/tests/services/compose", "2.16.2")
"""A few lines around the library with which `docker compose` reads its files, in this version."""
INFLUXDB_CLIENT_GO = Source("influxdb_client_go", "telemetry-hub/tests/services/influxdb_client_go", "2.14.0")
"""A program that writes with the official Go client of InfluxDB, in this version."""

TELEGRAF = Source(
    "telegraf",
    "github.com/influxdata/telegraf/cmd/telegraf",
    "1.37.2",
    tags=(
        "custom",
        "inputs.mqtt_consumer",
        "inputs.tail",
        "outputs.influxdb",
        "outputs.influxdb_v2",
        "outputs.websocket",
        "parsers.influx",
        "parsers.json",
        "serializers.influx",
    ),
    whole=True,
)
"""Telegraf with the few plugins that tests and a comparison need; with all of them the build takes far longer."""


def built_path(source: Source) -> Path:
    """Return the path of the built program: the folder's name holds the version and the hashes of all its parts."""
    if source.whole:
        contents = repr(source).encode()
    else:
        module = HERE / source.folder
        files = [module / "go.mod", module / "go.sum", *sorted(module.glob("*.go"))]
        contents = b"".join(file.read_bytes() for file in files)
    parts = hashlib.sha256(contents).hexdigest()
    return cache_folder() / f"{source.folder}-{source.version}-{parts[:12]}" / source.package.rpartition("/")[2]


def build(source: Source) -> Path:
    """Return the program; build it first where it is missing, and wait for another process that builds it.

    Raise BuildError where a tool is missing or the build fails.
    """
    path = built_path(source)
    if path.exists():
        return path
    for tool, advice in source.tools.items():
        if shutil.which(tool) is None:
            raise BuildError(f"no {tool} on the PATH, which builds it: {advice}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.with_name("lock")):
        if not path.exists():
            _build(source, path)
    return path


def _build(source: Source, path: Path) -> None:
    log = path.with_name("build.log")
    log.unlink(missing_ok=True)
    environment = _with_rust(path.parent, log) if source.rust else {}
    unfinished = path.with_name("unfinished")
    options = [f"-tags={','.join(source.tags)}", f"-ldflags=-s -w -X main.version={source.version}"]
    if source.whole:
        place = {"GOBIN": str(unfinished)}
        run_step(["go", "install", *options, f"{source.package}@v{source.version}"], "", environment | place, log)
        unfinished = unfinished / path.name
    else:
        run_step(["go", "build", "-o", str(unfinished), *options, source.package], source.folder, environment, log)
    unfinished.rename(path)


def _with_rust(folder: Path, log: Path) -> dict[str, str]:
    """Return the environment in which Go finds the parts that are written in Rust."""
    pkg_config, compiler = folder / "pkg-config", folder / "compiler"
    run_step(["go", "build", "-o", str(pkg_config), "github.com/influxdata/pkg-config"], INFLUXDB2.folder, {}, log)
    compiler.write_text(FORGIVING_COMPILER)
    compiler.chmod(0o755)
    environment = {"PKG_CONFIG": str(pkg_config), "RUSTC_WRAPPER": str(compiler)}
    if shutil.which("rustup"):
        # The sources name an older compiler, which rustup would try to install.
        asked = subprocess.run(
            ["rustup", "show", "active-toolchain"], cwd=folder, capture_output=True, text=True, check=False
        )
        if asked.returncode or not asked.stdout.split():
            raise BuildError("rustup has no active toolchain: run `rustup default stable`")
        environment["RUSTUP_TOOLCHAIN"] = asked.stdout.split()[0]
    return environment


def run_step(command: list[str], folder: str | Path, environment: Mapping[str, str], log: Path) -> None:
    """Run a command of a build in a folder, which is below this one if it is relative. Raise BuildError."""
    with log.open("a+b") as output:
        try:
            ran = subprocess.run(
                command,
                cwd=HERE / folder,
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=BUILD_TIMEOUT_S,
                check=False,
                preexec_fn=functools.partial(os.nice, NICENESS),
            )
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"the build did not end in {BUILD_TIMEOUT_S} s, see {log}") from error
        if ran.returncode:
            output.seek(0)
            last_lines = output.read().decode(errors="replace").splitlines()[-SHOWN_LINES:]
            raise BuildError(f"the build failed, see {log}: {' | '.join(last_lines)}")


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process builds the same program; the lock ends with its process."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cache_folder() -> Path:
    """Return the folder for everything that was built, for all checkouts."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "telemetry-hub-tests"
