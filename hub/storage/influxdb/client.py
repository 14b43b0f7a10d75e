"""HTTP client of an InfluxDB server, and the meaning of its answers to writes.

The interpretation of answers follows the write handlers of InfluxDB 1.8 (services/httpd/handler.go) and 2.7
(http/write_handler.go) and the errors of both storage engines (tsdb/shard.go, coordinator/points_writer.go). Only the
HTTP part of influxdb-client is used: its batching drops what a server refuses, and its queries parse CSV in Python.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.client import responses
from typing import Any, NamedTuple, Self

import aiohttp
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync

from hub.model.store import StoreError, StoreUnavailable
from hub.storage.influxdb.state import BucketAddress
from wire.limits import MAX_MESSAGE

CONNECT_S = 10.0
"""Timeout of a connection. A server in the same network answers in milliseconds."""

SILENCE_S = 60.0
"""Timeout between two parts of an answer. A query over years keeps a server busy for a long time; a write never does.
"""

MAX_CONNECTIONS = 16
"""Maximum open connections: those of writes and some of reads."""

MAX_ANSWER_BYTES = 1 << 20
"""Maximum bytes of an answer if the caller sets no limit. Answers to writes are sentences."""

GZIP_LEVEL = 1
"""A fifth of the work of the client's level 9, for nearly the same size."""

LINES = "text/plain; charset=utf-8"

_MAJOR = re.compile(r"v?(\d+)\.")

MAX_RETRY_AFTER_S = 600.0
"""Maximum pause that a server can request."""


class WriteAccepted(NamedTuple):
    """All points are stored."""


class PointsRefused(NamedTuple):
    """Some points are not stored and never will be. `message` is the server's text.

    `dropped` is the number of points that the server left out, None if it stored nothing. If not `describes_points`,
    the text does not concern points, and the request itself may be wrong.
    """

    message: str
    dropped: int | None
    describes_points: bool


class RequestTooLarge(NamedTuple):
    """Nothing is stored. Smaller requests may succeed."""

    message: str


WriteAnswer = WriteAccepted | PointsRefused | RequestTooLarge

_DROPPED = re.compile(r"partial write\b.*\bdropped=(\d+)", re.DOTALL)
_POINTS = re.compile(
    r"partial write|unable to parse|field type conflict|invalid (field|tag|measurement)|max key length|outside range"
    r"|beyond retention",
    re.IGNORECASE,
)


def interpret_answer(target: BucketAddress, status: int, headers: Mapping[str, str], body: bytes) -> WriteAnswer:
    """Return the meaning of an answer to a write. Raises StoreUnavailable if nothing may be stored now."""
    if 200 <= status < 300:
        return WriteAccepted()
    message = error_text(status, body)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return RequestTooLarge(message)
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
        dropped = _DROPPED.search(message)
        return PointsRefused(message, int(dropped[1]) if dropped else None, bool(_POINTS.search(message)))
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500:
        raise StoreUnavailable(
            f"InfluxDB at {target.url} is overloaded or failing: {message}", retry_after_s=retry_after(headers)
        )
    bucket = f"{target.bucket} of organisation {target.org}" if target.org else target.bucket
    match status:
        case HTTPStatus.UNAUTHORIZED:
            problem = (
                "does not accept the credentials: set store.token (InfluxDB 1: store.user, store.password) to "
                f"credentials that may write to {bucket}"
            )
        case HTTPStatus.FORBIDDEN:
            problem = (
                f"does not allow these credentials to write to {bucket}: grant them permission to read and write it"
            )
        case HTTPStatus.NOT_FOUND:
            problem = f"has no {bucket}: create it with `hub store setup`, or correct store.bucket"
        case _:
            problem = f"does not accept writes (status {status}): check store.url"
    raise StoreUnavailable(f"InfluxDB at {target.url} {problem}. InfluxDB says: {message}")


def error_text(status: int, body: bytes) -> str:
    """Return the server's text in one line, from {"error": …}, {"code": …, "message": …} or plain text."""
    text = body.decode(errors="replace").strip()
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        text = str(answer.get("message") or answer.get("error") or text)
    elif text.startswith("<"):
        # An HTML page of a proxy.
        text = ""
    return " ".join(text.split())[:MAX_MESSAGE] or f"{status} {responses.get(status, '')}"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110, 10.2.3), at most MAX_RETRY_AFTER_S. Dates are ignored."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return min(float(text), MAX_RETRY_AFTER_S) if text.isascii() and text.isdecimal() else None


class InfluxdbCredentials(NamedTuple):
    """A token (InfluxDB 2), or a user and password (InfluxDB 1). All are empty if none is required."""

    token: str = ""
    user: str = ""
    password: str = ""


class HttpResponse(NamedTuple):
    """An answer of any status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ServerVersion(NamedTuple):
    """The version of the server: its major number and its full text."""

    major: int
    text: str


class AnswerTooLarge(StoreError):
    """An answer exceeds the limit of the caller. Request less at once."""


class InfluxdbClient:
    """Connections to one InfluxDB server and one bucket; an async context manager."""

    def __init__(self, target: BucketAddress, credentials: InfluxdbCredentials, *, compress: bool = False) -> None:
        self.target = target
        self._credentials = credentials
        self._compress = compress
        # Half of the functions of influxdb-client have no types.
        self._client: Any = None
        self._version: ServerVersion | None = None

    async def __aenter__(self) -> Self:
        token, user, password = self._credentials
        options: dict[str, Any] = {"auth_basic": True} if user else {}
        self._client = InfluxDBClientAsync(
            self.target.url,
            f"{user}:{password}" if user else token,
            self.target.org,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
            connection_pool_maxsize=MAX_CONNECTIONS,
            # A redirected POST would become a GET. Report the redirect instead.
            allow_redirects=False,
            **options,
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def version(self) -> ServerVersion:
        """Return the server's version, which is requested once. Raises StoreUnavailable."""
        if self._version is None:
            ping = await self.request("GET", "/ping")
            text = next((value for name, value in ping.headers.items() if name.lower() == "x-influxdb-version"), "")
            if not text:
                raise StoreUnavailable(
                    f"the server at {self.target.url} is not InfluxDB (status {ping.status}): check store.url"
                )
            if found := _MAJOR.match(text):
                major = int(found[1])
            else:
                # A server built from source may not know its version. Only InfluxDB 2 has this endpoint.
                major = 2 if (await self.request("GET", "/api/v2/setup")).status == 200 else 1
            self._version = ServerVersion(major, text.removeprefix("v") if found else text)
        return self._version

    async def write(self, lines: bytes) -> WriteAnswer:
        """Write line protocol with times in nanoseconds. Raises StoreUnavailable also if there is no answer."""
        target = self.target
        if (await self.version()).major >= 2:
            path = "/api/v2/write"
            params = [("org", target.org), ("bucket", target.bucket), ("precision", "ns")]
        else:
            path = "/write"
            params = [("db", target.database), ("rp", target.retention_policy), ("precision", "ns")]
        headers = {"Content-Type": LINES}
        if self._compress:
            lines = await asyncio.to_thread(gzip.compress, lines, GZIP_LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
        answer = await self.request(
            "POST",
            path,
            params=[(name, value) for name, value in params if value],
            headers=headers,
            body=lines,
        )
        return interpret_answer(target, *answer)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        form: Sequence[tuple[str, str]] = (),
        body: bytes | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> HttpResponse:
        """Return an answer of any status. `form` becomes the body as a browser would encode it; a mapping becomes JSON.

        Raises StoreUnavailable if there is no answer, and AnswerTooLarge for an answer over `max_bytes`.
        """
        if self._client is None:
            raise StoreUnavailable("the store is not open")
        request_headers = dict(headers or {})
        if form:
            request_headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            answer: aiohttp.ClientResponse = await self._client.api_client.call_api(
                path,
                method,
                query_params=list(params),
                header_params=request_headers,
                post_params=list(form),
                body=body,
                _preload_content=False,
                _return_http_data_only=True,
            )
            async with answer:
                content = bytearray()
                async for piece in answer.content.iter_any():
                    content += piece
                    if len(content) > max_bytes:
                        raise AnswerTooLarge(f"InfluxDB's answer exceeds {max_bytes} bytes: request less at once")
                return HttpResponse(answer.status, answer.headers, bytes(content))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise StoreUnavailable(f"InfluxDB at {self.target.url} does not answer: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        # asyncio has its own text for a refused connection, which repeats the address.
        number = error.os_error.errno
        return os.strerror(number) if number else error.os_error.strerror or str(error.os_error)
    return str(error) or type(error).__name__
