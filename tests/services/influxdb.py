"""Real InfluxDB servers for tests: 1.8 with users and databases, 2.7 with a token, an organisation and buckets."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import secrets
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

import httpx

START_TIMEOUT_S = 60
"""Until a server listens; it takes a second, more where the machine is busy."""

STOP_TIMEOUT_S = 30
"""Until a server that was asked to end has ended; then it is killed."""

TOLD_LINES = 20
"""Of what a server printed before it failed to start."""

TRIES = 3
"""To start on a port that was free; another process may take it first."""

SHARD_DAYS = 7
"""What InfluxDB takes itself where readings are kept for ever."""

USER = "tester"


@dataclass(frozen=True)
class Access:
    """How to reach one bucket of 2.x (`token`, `org`, `bucket`) or one database of 1.x (`user`, `password`, `bucket`).

    `major` is 1 or 2.
    """

    major: int
    url: str
    bucket: str
    org: str = ""
    token: str = ""
    user: str = ""
    password: str = ""


class _Version(Protocol):
    """What the versions do differently. Both make their first user themselves, once."""

    name: str

    def command(self, program: Path, folder: Path, port: int) -> list[str]:
        """The command that starts the server with its data in `folder`."""

    def set_up(self, http: httpx.Client) -> None:
        """Makes the first user of a new server."""

    def make(self, http: httpx.Client, bucket: str, shard_days: int) -> Access:
        """Makes an empty bucket or database."""


class InfluxdbServer:
    """A server on a free port of 127.0.0.1 with its data in `folder`; a context manager.

    It keeps its port and its data when it is stopped and started again. It belongs to the whole run: a test that stops
    it uses `down`, which starts it again.
    """

    def __init__(self, program: Path, folder: Path, version: _Version) -> None:
        self._program = program
        self._folder = folder
        self._version = version
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._names = itertools.count(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        for tries in range(1, TRIES + 1):
            self._port = _free_port()
            try:
                self.start()
            except RuntimeError:
                if tries == TRIES:
                    raise
            else:
                break
        with self._http() as http:
            self._version.set_up(http)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def fresh(self, *, shard_days: int = SHARD_DAYS) -> Access:
        """An empty bucket or database of its own, with files for so many days each."""
        with self._http() as http:
            return self._version.make(http, f"test-{next(self._names)}-{secrets.token_hex(3)}", shard_days)

    def start(self) -> None:
        """Starts the server on its port; returns when it listens. Raises RuntimeError with what it printed."""
        if self._process is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        # Settings of whoever runs the tests are not for this server.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INFLUX")}
        process = subprocess.Popen(
            self._version.command(self._program, self._folder, self._port),
            env={**environment, "HOME": str(self._folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        told: collections.deque[str] = collections.deque(maxlen=TOLD_LINES)
        known = threading.Event()
        listening = threading.Event()
        port = f":{self._port}"

        def read() -> None:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    text = line.decode(errors="replace")
                    told.append(text)
                    if "Listening" in text and port in text:
                        listening.set()
                        known.set()
            known.set()

        self._process = process
        self._reader = threading.Thread(target=read, name=f"{self._version.name}-output")
        self._reader.start()
        known.wait(START_TIMEOUT_S)
        if not listening.is_set():
            self.kill()
            raise RuntimeError(f"{self._version.name} did not start:\n{''.join(told)}")

    def stop(self) -> None:
        """Ends the server as an operator does (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server as a crash does (SIGKILL)."""
        self._end(signal.SIGKILL)

    @contextlib.contextmanager
    def down(self, *, kill: bool = False) -> Iterator[None]:
        """The server is down inside the block, and listens again at its end."""
        self.kill() if kill else self.stop()
        try:
            yield
        finally:
            self.start()

    def _end(self, how: signal.Signals) -> None:
        process, reader, self._process, self._reader = self._process, self._reader, None, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert reader is not None
        reader.join()

    def _http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=START_TIMEOUT_S, trust_env=False)


class Influxdb1:
    """InfluxDB 1.8 with authentication. `max_body_bytes` is the largest request that it takes."""

    name = "influxdb1"

    def __init__(self, *, max_body_bytes: int = 25_000_000) -> None:
        self._max_body_bytes = max_body_bytes
        self._password = secrets.token_urlsafe()

    def command(self, program: Path, folder: Path, port: int) -> list[str]:
        config = folder / "influxdb.conf"
        config.write_text(
            f"""
            reporting-disabled = true
            bind-address = "127.0.0.1:0"
            [meta]
            dir = "{folder}/meta"
            [data]
            dir = "{folder}/data"
            wal-dir = "{folder}/wal"
            query-log-enabled = false
            [monitor]
            store-enabled = false
            [http]
            bind-address = "127.0.0.1:{port}"
            auth-enabled = true
            log-enabled = false
            max-body-size = {self._max_body_bytes}
            """
        )
        return [str(program), "-config", str(config)]

    def set_up(self, http: httpx.Client) -> None:
        # Without any user the server lets everybody make the first one.
        _ask(http, f"CREATE USER {USER} WITH PASSWORD '{self._password}' WITH ALL PRIVILEGES")

    def make(self, http: httpx.Client, bucket: str, shard_days: int) -> Access:
        http.auth = httpx.BasicAuth(USER, self._password)
        _ask(http, f'CREATE DATABASE "{bucket}" WITH SHARD DURATION {shard_days}d')
        return Access(1, str(http.base_url), bucket, user=USER, password=self._password)


class Influxdb2:
    """InfluxDB 2.7 with the token of its first user, which may do everything in its organisation.

    `options` are its own, by their names without the dashes.
    """

    name = "influxdb2"

    def __init__(self, options: Mapping[str, str] = MappingProxyType({})) -> None:
        self._options = options
        self._org = "tests"
        self._token = secrets.token_urlsafe()

    def command(self, program: Path, folder: Path, port: int) -> list[str]:
        options = {
            "http-bind-address": f"127.0.0.1:{port}",
            "bolt-path": folder / "influxd.bolt",
            "sqlite-path": folder / "influxd.sqlite",
            "engine-path": folder / "engine",
            **self._options,
        }
        return [str(program), "--reporting-disabled", *(f"--{name}={value}" for name, value in options.items())]

    def set_up(self, http: httpx.Client) -> None:
        first = {"username": USER, "password": secrets.token_urlsafe(), "org": self._org, "bucket": "first"}
        http.post("/api/v2/setup", json={**first, "token": self._token}).raise_for_status()

    def make(self, http: httpx.Client, bucket: str, shard_days: int) -> Access:
        http.headers["Authorization"] = f"Token {self._token}"
        found = http.get("/api/v2/orgs", params={"org": self._org}).raise_for_status()
        org = found.json()["orgs"][0]["id"]
        rule = {"type": "expire", "everySeconds": 0, "shardGroupDurationSeconds": shard_days * 86_400}
        http.post("/api/v2/buckets", json={"orgID": org, "name": bucket, "retentionRules": [rule]}).raise_for_status()
        return Access(2, str(http.base_url), bucket, org=self._org, token=self._token)


def _ask(http: httpx.Client, statement: str) -> None:
    answer: dict[str, Any] = http.post("/query", data={"q": statement}).raise_for_status().json()
    for result in answer["results"]:
        if "error" in result:
            raise RuntimeError(f"{statement.split()[0]} was refused: {result['error']}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
