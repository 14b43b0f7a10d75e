"""Real InfluxDB servers for tests: 1.8 with users and databases, 2.7 with a token, an organisation and buckets."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, Self

import httpx

from tests.services.server import START_TIMEOUT_S, Server

SHARD_DAYS = 7
"""InfluxDB's own default where readings are kept without a limit."""

USER = "tester"


@dataclass(frozen=True)
class Access:
    """Access to one bucket of 2.x (`token`, `org`, `bucket`) or one database of 1.x (`user`, `password`, `bucket`).

    `major` is 1 or 2.
    """

    major: int
    url: str
    bucket: str
    org: str = ""
    token: str = ""
    user: str = ""
    password: str = ""

    def settings(self) -> str:
        """Return the settings of a hub that has its store here."""
        names = ("url", "token", "org", "bucket", "user", "password")
        given = {name: getattr(self, name) for name in names if getattr(self, name)}
        return "[store]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items())


class _Version(Protocol):
    """Differences of the versions. Both create their first user once."""

    name: str

    def command(self, program: Path, folder: Path, port: int) -> list[str]:
        """Return the command that starts the server with its data in `folder`."""

    def set_up(self, http: httpx.Client) -> None:
        """Create the first user of a new server."""

    def make(self, http: httpx.Client, bucket: str, shard_days: int) -> Access:
        """Create an empty bucket or database."""


class InfluxdbServer(Server):
    """A server on a free port of 127.0.0.1.

    It lives for the whole run: a test that stops it uses `down`, which starts it again.
    """

    def __init__(self, program: Path, folder: Path, version: _Version) -> None:
        super().__init__(folder)
        self.name = version.name
        self._program = program
        self._version = version
        self._names = itertools.count(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        super().__enter__()
        with self._http() as http:
            self._version.set_up(http)
        return self

    def fresh(self, *, shard_days: int = SHARD_DAYS) -> Access:
        """Return an empty bucket or database, with files for this number of days each."""
        with self._http() as http:
            return self._version.make(http, f"test-{next(self._names)}-{secrets.token_hex(3)}", shard_days)

    def command(self) -> Sequence[str]:
        return self._version.command(self._program, self.folder, self.port)

    def environment(self) -> dict[str, str]:
        """The settings of the user who runs the tests are not for this server."""
        own = {name: value for name, value in super().environment().items() if not name.startswith("INFLUX")}
        return {**own, "HOME": str(self.folder)}

    def is_listening(self, line: str) -> bool:
        return "Listening" in line and f":{self.port}" in line

    def _http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=START_TIMEOUT_S, trust_env=False)


class Influxdb1:
    """InfluxDB 1.8 with authentication. `max_body_bytes` is the largest request that it accepts."""

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
        # Without any user the server lets every client create the first one.
        _ask(http, f"CREATE USER {USER} WITH PASSWORD '{self._password}' WITH ALL PRIVILEGES")

    def make(self, http: httpx.Client, bucket: str, shard_days: int) -> Access:
        http.auth = httpx.BasicAuth(USER, self._password)
        _ask(http, f'CREATE DATABASE "{bucket}" WITH SHARD DURATION {shard_days}d')
        return Access(1, str(http.base_url), bucket, user=USER, password=self._password)


class Influxdb2:
    """InfluxDB 2.7 with the token of its first user, who has every right in its organisation.

    `options` are its own options, without the dashes.
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
            raise RuntimeError(f"{statement.split()[0]} was rejected: {result['error']}")
