"""The way to an InfluxDB server: requests through influxdb-client, and which version it is.

Of the client only its HTTP part is used: its batching drops what a server refuses, and its queries parse CSV in Python.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import re
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync

from hub.model.store import StoreError, StoreUnavailable
from hub.storage.influxdb.answer import Answer, Target, judge

CONNECT_S = 10.0
"""For a connection; a server in the same house answers in milliseconds."""

SILENCE_S = 60.0
"""Between two pieces of an answer: a query over years makes a server think for long, a write never does."""

MAX_CONNECTIONS = 16
"""Open at a time: those that write, and some that read."""

MAX_ANSWER_BYTES = 1 << 20
"""Of an answer that nobody set a bound for: those to writes are sentences."""

GZIP_LEVEL = 1
"""A fifth of the work of the client's level 9, for nearly the same size."""

LINES = "text/plain; charset=utf-8"

_MAJOR = re.compile(r"v?(\d+)\.")


class Credentials(NamedTuple):
    """A token (InfluxDB 2), or a user and password (InfluxDB 1); all empty where the server asks for none."""

    token: str = ""
    user: str = ""
    password: str = ""


class Response(NamedTuple):
    """An answer, whatever it says."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Version(NamedTuple):
    """Of the server: what counts, and how it calls itself."""

    major: int
    text: str


class AnswerTooLarge(StoreError):
    """An answer is larger than whoever asked can take: ask for less at once."""


class Server:
    """One InfluxDB server and the bucket on it; an async context manager that holds its connections."""

    def __init__(self, target: Target, credentials: Credentials, *, compress: bool = False) -> None:
        self.target = target
        self._credentials = credentials
        self._compress = compress
        # Half of the client's functions have no types.
        self._client: Any = None
        self._version: Version | None = None

    async def __aenter__(self) -> Self:
        token, user, password = self._credentials
        options: dict[str, Any] = {"auth_basic": True} if user else {}
        self._client = InfluxDBClientAsync(
            self.target.url,
            f"{user}:{password}" if user else token,
            self.target.org,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
            connection_pool_maxsize=MAX_CONNECTIONS,
            # A redirected POST would become a GET: rather say where the server wants to be asked.
            allow_redirects=False,
            **options,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def version(self) -> Version:
        """Which InfluxDB it is; asked for once. Raises StoreUnavailable."""
        if self._version is None:
            self._version = await self._find_version()
        return self._version

    async def write(self, lines: bytes) -> Answer:
        """Writes line protocol with times in nanoseconds. Raises StoreUnavailable where there is no answer."""
        version = await self.version()
        target = self.target
        if version.major >= 2:
            path = "/api/v2/write"
            params = [("org", target.org), ("bucket", target.bucket), ("precision", "ns")]
        else:
            path = "/write"
            params = [("db", target.database), ("rp", target.retention_policy), ("precision", "ns")]
        headers = {}
        if self._compress:
            lines = await asyncio.to_thread(gzip.compress, lines, GZIP_LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
        answer = await self.request(
            "POST",
            path,
            params=[(name, value) for name, value in params if value],
            headers={"Content-Type": LINES, **headers},
            body=lines,
        )
        return judge(target, *answer)

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
    ) -> Response:
        """Any answer, of whatever status; `form` goes into the body as a browser's would, a mapping as JSON.

        Raises StoreUnavailable where there is no answer, and AnswerTooLarge for one over `max_bytes`.
        """
        if self._client is None:
            raise StoreUnavailable("the store is not open")
        given = dict(headers or {})
        if form:
            given["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            answer: aiohttp.ClientResponse = await self._client.api_client.call_api(
                path,
                method,
                query_params=list(params),
                header_params=given,
                post_params=list(form),
                body=body,
                _preload_content=False,
                _return_http_data_only=True,
            )
            async with answer:
                return Response(answer.status, answer.headers, await _read(answer, max_bytes))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise StoreUnavailable(f"InfluxDB at {self.target.url} does not answer: {_reason(error)}") from error

    async def _find_version(self) -> Version:
        ping = await self.request("GET", "/ping")
        text = next((value for name, value in ping.headers.items() if name.lower() == "x-influxdb-version"), "")
        found = _MAJOR.match(text)
        if found:
            return Version(int(found[1]), text.removeprefix("v"))
        if not text:
            raise StoreUnavailable(
                f"what answers at {self.target.url} is no InfluxDB (status {ping.status}): is store.url right?"
            )
        # One that was built by hand may not know its version. Only InfluxDB 2 has this.
        setup = await self.request("GET", "/api/v2/setup")
        return Version(2 if setup.status == 200 else 1, text)


async def _read(answer: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > max_bytes:
            raise AnswerTooLarge(f"InfluxDB's answer is larger than {max_bytes} bytes: ask for less at once")
    return bytes(body)


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        # asyncio has words of its own for a connection that is refused, with the address once more.
        number = error.os_error.errno
        return os.strerror(number) if number else error.os_error.strerror or str(error.os_error)
    return str(error) or type(error).__name__
