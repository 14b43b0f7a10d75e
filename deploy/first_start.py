"""Create the secrets that the services of docker-compose.yml share; existing secrets stay unchanged.

    first_start.py secrets   before anything runs: passwords, and InfluxDB's first token
    first_start.py tokens    after InfluxDB has started: a token for the hub, and one with which Grafana reads it
    first_start.py show      prints the sign-in data for people

It runs as root in a container of its own, with the volumes of the secrets under SECRETS (/secrets), and needs only
Python's standard library. Each volume is mounted read-only into the one service that uses it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

PASSWORD_BYTES = 24
"""192 random bits; InfluxDB accepts passwords of 8 to 72 characters."""

MQTT_USER = "telemetry"

MOSQUITTO_ITERATIONS = 10_000
"""Iterations of PBKDF2. The password is random and long, so slowness protects nothing, and each connection costs the
broker this time."""

ANSWER_S = 30.0
"""Time limit of an answer of InfluxDB, which is healthy when it is queried."""


class SecretOwner(NamedTuple):
    """User that a service runs as in its image; only this user can read the service's secrets."""

    folder: str
    uid: int


HUB = SecretOwner("hub", 10001)
INFLUXDB = SecretOwner("influxdb", 1000)
GRAFANA = SecretOwner("grafana", 472)
MOSQUITTO = SecretOwner("mosquitto", 1883)


class StartError(Exception):
    """The secrets cannot be created; the message says what to do."""


def make_secrets(root: Path) -> list[str]:
    """Create the passwords and InfluxDB's first token; return the new files."""
    made = [
        _make(root, INFLUXDB, "admin-password", _password),
        _make(root, INFLUXDB, "admin-token", _password),
        _make(root, GRAFANA, "admin-password", _password),
        _make(root, MOSQUITTO, "password", _password),
    ]
    password = (root / MOSQUITTO.folder / "password").read_text()
    made.append(_make(root, MOSQUITTO, "users", lambda: f"{MQTT_USER}:{mosquitto_hash(password)}\n"))
    return [name for name in made if name]


def make_tokens(root: Path, url: str, org: str, bucket: str) -> list[str]:
    """Create the two tokens where they are missing or unknown to InfluxDB; return the written files."""
    admin = (root / INFLUXDB.folder / "admin-token").read_text()
    try:
        found = _ask(url, admin, f"/api/v2/buckets?{urllib.parse.urlencode({'org': org, 'name': bucket})}")
    except StartError as error:
        if _status(error) != HTTPStatus.NOT_FOUND:
            raise
        raise StartError(
            f"InfluxDB has no bucket {bucket!r} in {org!r}: INFLUXDB_ORG and INFLUXDB_BUCKET count when its volume is "
            "made, and name what is there afterwards"
        ) from error
    place = found["buckets"][0]
    made = []
    for owner, actions in ((HUB, ("read", "write")), (GRAFANA, ("read",))):
        path = root / owner.folder / "influxdb-token"
        if path.exists() and _is_known(url, path.read_text()):
            continue
        permissions = [
            {"action": action, "resource": {"type": "buckets", "id": place["id"], "orgID": place["orgID"]}}
            for action in actions
        ]
        body = {"orgID": place["orgID"], "description": f"telemetry-hub: {owner.folder}", "permissions": permissions}
        token = _ask(url, admin, "/api/v2/authorizations", body)["token"]
        _write(path, token, owner.uid)
        made.append(str(path.relative_to(root)))
    return made


def show(root: Path) -> list[str]:
    """Return the sign-in data for people, one line for each service."""
    return [
        f"Grafana: user admin, password {(root / GRAFANA.folder / 'admin-password').read_text()}",
        f"InfluxDB: user admin, password {(root / INFLUXDB.folder / 'admin-password').read_text()}",
        f"MQTT: user {MQTT_USER}, password {(root / MOSQUITTO.folder / 'password').read_text()}",
    ]


def mosquitto_hash(password: str, salt: bytes | None = None) -> str:
    """Return a password as Mosquitto's password file stores it: PBKDF2 with SHA-512, type `$7$`."""
    salt = salt or secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, MOSQUITTO_ITERATIONS)
    return f"$7${MOSQUITTO_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)


def _make(root: Path, owner: SecretOwner, name: str, content: Any) -> str:
    path = root / owner.folder / name
    if path.exists():
        return ""
    _write(path, content(), owner.uid)
    return str(path.relative_to(root))


def _write(path: Path, content: str, uid: int) -> None:
    """Write the file completely or not at all: first to a neighbour on disk, then under its name."""
    beside = path.with_name(f".{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if os.geteuid() == 0:
        os.chown(beside, uid, uid)
    beside.rename(path)


def _is_known(url: str, token: str) -> bool:
    """Return False where InfluxDB does not know the token, for example after its volume was created anew."""
    try:
        _ask(url, token, "/api/v2/buckets?limit=1")
    except StartError as error:
        if _status(error) == HTTPStatus.UNAUTHORIZED:
            return False
        raise
    return True


def _status(error: StartError) -> int | None:
    """Return InfluxDB's answer, where it was reached."""
    return error.__cause__.code if isinstance(error.__cause__, urllib.error.HTTPError) else None


def _ask(url: str, token: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Send one request to InfluxDB's HTTP API; a body makes it a POST."""
    request = urllib.request.Request(
        url.rstrip("/") + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Token {token}", "Content-Type": "application/json"},
    )
    try:
        # Bypass any proxy that Docker is configured with: InfluxDB is a neighbour.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=ANSWER_S) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        words = error.read().decode(errors="replace").strip()
        raise StartError(f"InfluxDB at {url} refused {path.partition('?')[0]}: {error.code} {words}") from error
    except OSError as error:
        raise StartError(f"InfluxDB at {url} cannot be reached: {error}") from error


def main(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name."""
    root = Path(os.environ.get("SECRETS", "/secrets"))
    try:
        match arguments:
            case ["secrets"]:
                lines = [f"made {name}" for name in make_secrets(root)]
            case ["tokens"]:
                variables = (os.environ[name] for name in ("INFLUXDB_URL", "INFLUXDB_ORG", "INFLUXDB_BUCKET"))
                lines = [f"made {name}" for name in make_tokens(root, *variables)]
            case ["show"]:
                lines = show(root)
            case _:
                print("usage: first_start.py secrets|tokens|show", file=sys.stderr)
                return 2
    except (StartError, OSError) as error:
        print(f"first_start: {error}", file=sys.stderr)
        return 1
    except KeyError as error:
        print(f"first_start: {error.args[0]} is not set", file=sys.stderr)
        return 2
    print("\n".join(lines) if lines else "everything is there")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
