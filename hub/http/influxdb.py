"""The write side of InfluxDB's API, versions 1 and 2: parameters of requests, and the forms of answers. Pure.

After InfluxDB's references "API v2" and "InfluxDB 1.x HTTP API": writers decide by these statuses and bodies whether
they send lines again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs

import msgspec
from starlette.responses import Response
from starlette.types import Scope

from formats.record import refusal_text, setting_text
from hub.http.access import header_values
from wire.plain import RefusedReading
from wire.text import plural

Version = Literal[1, 2]

COMPATIBLE_VERSION = "2.7.12"
"""Version of InfluxDB that the hub answers like. Some writers choose their API by it."""

HEADERS = {"X-Influxdb-Build": "telemetry-hub", "X-Influxdb-Version": f"v{COMPATIBLE_VERSION}"}

PRECISIONS: Mapping[Version, Mapping[str, tuple[str, int]]] = {
    1: {
        "n": ("ns", 1), "ns": ("ns", 1), "u": ("us", 1), "µ": ("us", 1), "us": ("us", 1), "ms": ("ms", 1),
        "s": ("s", 1), "m": ("s", 60), "h": ("s", 3_600),
    },
    2: {unit: (unit, 1) for unit in ("ns", "us", "ms", "s")},
}  # fmt: skip
"""Precisions of timestamps: the unit in the words of formats.rules, and the units of one count."""

MAX_NAMES = 100
"""Names of databases and buckets that are remembered for those who look them up. Beyond it the oldest is dropped."""

MAX_NAME = 256

MAX_STATEMENTS = 100
"""Statements of one query that are answered."""

MAX_HEADER = 500
"""Characters of an error in a header."""

DEFAULT_NAME = "telemetry"
"""The bucket, database and organisation that exist before anybody has written."""

FIRST_TIME = "2020-01-01T00:00:00Z"
"""The time of creation of every bucket: clients need one."""

STATEMENTS = "CREATE DATABASE, CREATE and ALTER RETENTION POLICY, SHOW DATABASES and SHOW RETENTION POLICIES"

MAX_LISTED = 5
"""Refused lines that a message names; the quarantine has all of them."""

V2_CODES = {
    HTTPStatus.BAD_REQUEST: "invalid",
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not found",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request too large",
    HTTPStatus.TOO_MANY_REQUESTS: "too many requests",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal error",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}
"""Codes of version 2; other statuses have "invalid"."""

_STATEMENT = re.compile(
    r"(create\s+database|create\s+retention\s+policy|alter\s+retention\s+policy|show\s+databases"
    r"|show\s+retention\s+policies)\b(?:\s+(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\";]+)))?",
    re.IGNORECASE,
)


class WriteRefused(Exception):
    """A request that is refused: the status, a sentence that says what to do, and the number of the first bad line."""

    def __init__(
        self, status: HTTPStatus, message: str, *, line: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.line = line
        self.headers = headers


class WriteParameters(NamedTuple):
    """Parameters of a write: the bucket or database, and the unit of the timestamps, of which a count has so many."""

    bucket: str = ""
    unit: str = "ns"
    per_count: int = 1


def write_parameters(query: Mapping[str, str], version: Version) -> WriteParameters:
    """Return the parameters of a write. Raises WriteRefused. Unknown ones are ignored, as InfluxDB does."""
    precisions = PRECISIONS[version]
    precision = query.get("precision") or "ns"
    if precision not in precisions:
        words = "ns, us, ms and s" if version == 2 else "n, u, ms, s, m and h"
        raise WriteRefused(
            HTTPStatus.BAD_REQUEST, f"invalid precision {precision[:MAX_NAME]!r}; valid precisions are {words}"
        )
    bucket = query.get("bucket", "") if version == 2 else query.get("db", "")
    if len(bucket) > MAX_NAME:
        raise WriteRefused(HTTPStatus.BAD_REQUEST, f"the name of the bucket has more than {MAX_NAME} characters")
    return WriteParameters(bucket, *precisions[precision])


def is_gzip(encoding: str) -> bool:
    """Return whether a Content-Encoding is gzip. Raises WriteRefused for an unknown one."""
    match encoding.strip().lower():
        case "" | "identity":
            return False
        case "gzip" | "x-gzip":
            return True
    raise WriteRefused(
        HTTPStatus.BAD_REQUEST, f"unsupported Content-Encoding {encoding[:MAX_NAME]!r}: use gzip or identity"
    )


def is_version_1(path: str) -> bool:
    """Return whether a path, with or without that of the public URL, is one of version 1."""
    return path.endswith(("/write", "/query")) and not path.endswith("/api/v2/write")


def with_token(scope: Scope) -> Scope:
    """Return the scope with its token in the form that the hub reads.

    Writers of version 1 may send it as the password in the query, `u=…&p=TOKEN`, and those of version 2 that speak to
    an older InfluxDB as `Token USER:TOKEN`.
    """
    headers = scope["headers"]
    given = header_values(scope, b"authorization")
    if len(given) == 1:
        scheme, _, rest = given[0].strip().partition(" ")
        token = rest.partition(":")[2].strip() if scheme.lower() == "token" else ""
    elif given or not is_version_1(scope["path"]):
        return scope
    else:
        token = parse_qs(scope["query_string"].decode("latin-1")).get("p", [""])[-1]
    if not token:
        return scope
    others = [header for header in headers if header[0] != b"authorization"]
    return {**scope, "headers": [*others, (b"authorization", b"Token " + token.encode("latin-1", "replace"))]}


def error_response(refused: WriteRefused, version: Version) -> Response:
    """Return an error in the form of a version of InfluxDB."""
    headers = {**HEADERS, **(refused.headers or {})}
    body: dict[str, Any]
    if version == 1:
        body = {"error": refused.message}
        headers["X-Influxdb-Error"] = _header_text(refused.message)
    else:
        code = V2_CODES.get(refused.status, "invalid")
        body = {"code": code, "message": refused.message}
        if refused.line is not None:
            body["line"] = refused.line
        headers["X-Platform-Error-Code"] = code
    return _json(body, refused.status, headers)


def no_content() -> Response:
    """Return the answer for lines whose readings are durable, and for a ping."""
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=HEADERS)


def ping_answer(*, is_verbose: bool = False) -> Response:
    """Return the answer to a ping."""
    return _json({"version": f"v{COMPATIBLE_VERSION}"}, HTTPStatus.OK, HEADERS) if is_verbose else no_content()


def refused_lines(refused: Sequence[RefusedReading], *, count: int, stored: int, version: Version) -> WriteRefused:
    """Return the answer for a request of which `count` lines or values are refused, and `stored` readings are durable.

    `refused` are the first of them, in the order of their lines. The writer must not send the request again.
    """
    listed = "; ".join(f"line {each.line}: {_reason(each)}" for each in refused[:MAX_LISTED])
    more = f"; and {count - MAX_LISTED} more" if count > MAX_LISTED else ""
    outcome = f"{plural(stored, 'reading')} stored, {plural(count, 'refusal')} in quarantine"
    # Writers look for these words: they do not send a partial write again.
    dropped = f" dropped={count}" if version == 1 else ""
    words = "partial write: " if stored else ""
    message = f"{words}unable to parse {listed}{more}. {outcome}{dropped}"
    return WriteRefused(HTTPStatus.BAD_REQUEST, message, line=refused[0].line if refused else None)


def _reason(refused: RefusedReading) -> str:
    """Return the reason of a refusal as a part of a sentence, with what changes it in parentheses."""
    reason = refusal_text(refused.metric, refused.reason)
    return f"{reason} ({setting_text(refused.setting)})" if refused.setting else reason


# Lookups of writers.


def health_answer(version: str, problem: str = "") -> Response:
    """Return the state of the hub as InfluxDB's clients read it: 503 with the `problem` if it accepts no writes."""
    body: dict[str, object] = {
        "name": "influxdb",
        "message": problem or "ready for writes of line protocol; this is Telemetry Hub",
        "status": "fail" if problem else "pass",
        "checks": [],
        "version": f"v{COMPATIBLE_VERSION}",
        "commit": version,
    }
    return _json(body, HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK, HEADERS)


class KnownNames:
    """Names of buckets and databases that writers use, for those who look them up. Any name can be written to."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {DEFAULT_NAME: None}

    def __iter__(self) -> Iterator[str]:
        return iter([*self._names])

    def add(self, name: str) -> None:
        """Remember a name."""
        if not name or len(name) > MAX_NAME:
            return
        self._names.pop(name, None)
        self._names[name] = None
        if len(self._names) > MAX_NAMES:
            del self._names[next(iter(self._names))]


def query_answer(text: str, names: KnownNames) -> Response:
    """Return the answer to statements of InfluxQL: those that writers need, and an error for every other one.

    A database exists as soon as somebody writes to it, so there is nothing to create.
    """
    statements = [part for part in text.split(";") if part.strip()][:MAX_STATEMENTS]
    if not statements:
        return error_response(WriteRefused(HTTPStatus.BAD_REQUEST, 'missing required parameter "q"'), 1)
    results = [{"statement_id": number, **_result(part, names)} for number, part in enumerate(statements)]
    return _json({"results": results}, HTTPStatus.OK, HEADERS)


def _result(statement: str, names: KnownNames) -> dict[str, Any]:
    match = _STATEMENT.match(statement.strip())
    if match is None:
        return {"error": f"the hub answers {STATEMENTS}; read history with GET /api/v1/history"}
    words = match[1].lower().split()
    name = (match[2] or match[3] or "").replace('\\"', '"')
    if words[1] == "databases":
        return _series("databases", ["name"], [[known] for known in names])
    if words[0] == "show":
        return _series(
            "",
            ["name", "duration", "shardGroupDuration", "replicaN", "default"],
            [["autogen", "0s", "168h0m0s", 1, True]],
        )
    if words[1] == "database":
        names.add(name)
    return {}


def _series(name: str, columns: Sequence[str], values: Sequence[Sequence[object]]) -> dict[str, Any]:
    series: dict[str, Any] = {"columns": columns, "values": values}
    return {"series": [{"name": name, **series} if name else series]}


def bucket_answer(name: str) -> dict[str, Any]:
    """Return a bucket as version 2 describes it."""
    return {
        "id": _id(name),
        "orgID": _id(DEFAULT_NAME),
        "type": "user",
        "name": name,
        "retentionRules": [],
        "createdAt": FIRST_TIME,
        "updatedAt": FIRST_TIME,
        "labels": [],
    }


def buckets_answer(name: str, names: KnownNames) -> Response:
    """Return the bucket with a name, or all known ones."""
    found = [name[:MAX_NAME]] if name else [*names]
    return _json({"buckets": [*map(bucket_answer, found)]}, HTTPStatus.OK, HEADERS)


def created_bucket(body: bytes, names: KnownNames) -> Response:
    """Return the answer to the creation of a bucket. Raises WriteRefused."""
    try:
        name = msgspec.json.decode(body, type=dict[str, Any]).get("name")
    except msgspec.DecodeError as error:
        raise WriteRefused(HTTPStatus.BAD_REQUEST, f"the body is not an object of JSON: {error}") from None
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise WriteRefused(HTTPStatus.BAD_REQUEST, f"a bucket needs a name of at most {MAX_NAME} characters")
    names.add(name)
    return _json(bucket_answer(name), HTTPStatus.CREATED, HEADERS)


def organizations_answer(name: str) -> Response:
    """Return the organisation with a name: the hub has all, and ignores them."""
    known = name[:MAX_NAME] or DEFAULT_NAME
    organization = {"id": _id(DEFAULT_NAME), "name": known, "status": "active"}
    return _json({"orgs": [organization]}, HTTPStatus.OK, HEADERS)


def _id(name: str) -> str:
    """Return an id in the form of InfluxDB's."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _header_text(text: str) -> str:
    """Return a text that a header can have."""
    return text.encode("ascii", "replace").decode().replace("\n", " ").replace("\r", " ")[:MAX_HEADER]


def _json(body: object, status: HTTPStatus, headers: Mapping[str, str]) -> Response:
    return Response(msgspec.json.encode(body), status, {**headers, "Cache-Control": "no-store"}, "application/json")
