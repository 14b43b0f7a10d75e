"""What an answer of InfluxDB to a write means. Pure.

After the write handlers of InfluxDB 1.8 (services/httpd/handler.go), 2.7 (http/write_handler.go) and the errors of both
storage engines (tsdb/shard.go, coordinator/points_writer.go).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from wire.limits import MAX_MESSAGE

MAX_RETRY_AFTER_S = 600.0
"""However long a server asks for: after ten minutes it is asked again."""


class Target(NamedTuple):
    """Which bucket is written to. InfluxDB 1: an empty `org`, and `bucket` is DATABASE or DATABASE/RETENTION_POLICY."""

    url: str
    org: str
    bucket: str

    @property
    def database(self) -> str:
        """Of InfluxDB 1."""
        return self.bucket.partition("/")[0]

    @property
    def retention_policy(self) -> str:
        """Of InfluxDB 1; empty for the database's default."""
        return self.bucket.partition("/")[2]


class Stored(NamedTuple):
    """All points are stored."""


class Refused(NamedTuple):
    """Some points are not stored and never will be; `words` are the server's.

    `dropped` is how many it says it left out, None where it stored nothing. `points` is whether the words speak of
    points; where they do not, the request itself may be what is wrong.
    """

    words: str
    dropped: int | None
    points: bool


class TooLarge(NamedTuple):
    """Nothing is stored; in smaller parts it may be."""

    words: str


class Unavailable(NamedTuple):
    """Nothing may be stored until something changes: a sentence that says what to do, or just time passing."""

    trouble: str
    retry_after_s: float | None = None


Answer = Stored | Refused | TooLarge | Unavailable

_DROPPED = re.compile(r"partial write\b.*\bdropped=(\d+)", re.DOTALL)
_POINTS = re.compile(
    r"partial write|unable to parse|field type conflict|invalid (field|tag|measurement)|max key length|outside range"
    r"|beyond retention",
    re.IGNORECASE,
)


def judge(target: Target, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """What an answer to a write means."""
    if 200 <= status < 300:
        return Stored()
    words = words_of(status, body)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooLarge(words)
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
        dropped = _DROPPED.search(words)
        return Refused(words, int(dropped[1]) if dropped else None, bool(_POINTS.search(words)))
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500:
        return Unavailable(f"InfluxDB at {target.url} does not keep up: {words}", retry_after(headers))
    return Unavailable(f"{_advice(target, status)}. InfluxDB says: {words}")


def words_of(status: int, body: bytes) -> str:
    """What the server says, in one line: of {"error": …}, {"code": …, "message": …}, or of plain text."""
    text = body.decode(errors="replace").strip()
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        text = str(answer.get("message") or answer.get("error") or text)
    elif text.startswith("<"):
        # A page of something in between.
        text = ""
    return " ".join(text.split())[:MAX_MESSAGE] or f"{status} {_phrase(status)}"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After (RFC 9110, 10.2.3), within our bound; a date there is left alone."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return min(float(text), MAX_RETRY_AFTER_S) if text.isascii() and text.isdecimal() else None


def _advice(target: Target, status: int) -> str:
    bucket = target.bucket if not target.org else f"{target.bucket} of organisation {target.org}"
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return (
                f"InfluxDB at {target.url} does not accept the credentials: set store.token (InfluxDB 1: store.user, "
                f"store.password) to those of somebody who may write to {bucket}"
            )
        case HTTPStatus.FORBIDDEN:
            return (
                f"InfluxDB at {target.url} does not let these credentials write to {bucket}: give them permission to "
                "read and write it"
            )
        case HTTPStatus.NOT_FOUND:
            return f"InfluxDB at {target.url} has no {bucket}: `hub store setup` makes it, or correct store.bucket"
        case _:
            return f"InfluxDB at {target.url} does not take writes (status {status}): is store.url right?"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
