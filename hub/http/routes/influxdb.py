"""The write side of InfluxDB's API, versions 1 and 2: lines are stored, and what writers ask before is answered.

Telegraf, the client libraries of InfluxDB, Home Assistant, Proxmox and others write here unchanged. A 204 means that
every reading of the lines is durable; a field that is NaN is no reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Literal
from urllib.parse import parse_qs

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from formats.container import inflated
from formats.record import FrameRefused
from hub.http.authenticator import Authenticator
from hub.http.influxdb import (
    MAX_NAME,
    KnownNames,
    Version,
    WriteRefused,
    buckets_answer,
    created_bucket,
    error_response,
    is_gzip,
    no_content,
    organizations_answer,
    ping_answer,
    query_answer,
    refused_lines,
    with_token,
    write_parameters,
)
from hub.http.input_query import read_query
from hub.http.long_bodies import RETRY_AFTER
from hub.http.plain_endpoint import PlainInput
from hub.http.refusals import RequestRefused
from hub.http.routing import Operation
from hub.ingest.line_writer import LineProtocolWriter, LineTimes
from hub.model.identity import Action, Identity
from wire.errors import Code, WireError

INFLUXDB_INPUT = "influxdb"
"""Name of the input: in the fleet, and in quarantine entries."""

WRITE_PATHS = ("/api/v2/write", "/write")
"""Paths of requests with long bodies."""

MAX_CONTENT_BYTES = 50_000_000
"""Content of a compressed request: twice the largest one that is not compressed."""

MAX_LINES = 500_000
"""Lines of a request. Writers send 1,000 to 10,000."""

INLINE_BYTES = 64 * 1024
"""Content up to this size is decompressed at once, which takes 0.2 ms; larger content in a thread."""

GZIP_MAGIC = b"\x1f\x8b"
"""First bytes of a compressed body, which some writers send without saying so."""

CREATE = "create a token with `hub token create --role gateway --devices '*'`"

UNAUTHORIZED = f"unauthorized: send a valid token as Authorization: Token TOKEN, or as the password; {CREATE}"

STATUSES = {
    Code.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    Code.NOT_AUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    Code.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The statuses of errors; 503 for all others: the writer sends the lines again."""


@dataclass(frozen=True)
class InfluxdbRoutes:
    """The operations of InfluxDB's writers. Every other part of its API is missing."""

    authenticator: Authenticator
    lines: LineProtocolWriter
    names: KnownNames = field(default_factory=KnownNames)

    @Operation("POST", "/api/v2/write", described=False)
    async def write(self, request: Request) -> Response:
        """Store lines as InfluxDB 2 does."""
        return await _answer(2, self._write(request, 2))

    @Operation("POST", "/write", described=False)
    async def write_to_database(self, request: Request) -> Response:
        """Store lines as InfluxDB 1 does."""
        return await _answer(1, self._write(request, 1))

    @Operation("GET", "/ping", described=False)
    async def ping(self, request: Request) -> Response:
        """Confirm that the hub answers, without a token."""
        return ping_answer(is_verbose="verbose" in request.query_params)

    @Operation("HEAD", "/ping", described=False)
    async def ping_head(self) -> Response:
        """Confirm that the hub answers, without a token."""
        return no_content()

    @Operation("GET", "/query", described=False)
    async def query(self, request: Request) -> Response:
        """Answer the statements of InfluxQL that writers send."""
        return await _answer(1, self._query(request))

    @Operation("POST", "/query", described=False)
    async def query_by_form(self, request: Request) -> Response:
        """Answer the statements of InfluxQL that writers send."""
        return await _answer(1, self._query(request))

    @Operation("GET", "/api/v2/buckets", described=False)
    async def buckets(self, request: Request) -> Response:
        """Return the bucket with a name, which exists, or all buckets that writers have named."""
        name = request.query_params.get("name", "")
        return await _answer(2, self._look_up(request, lambda: buckets_answer(name, self.names)))

    @Operation("POST", "/api/v2/buckets", described=False)
    async def create_bucket(self, request: Request) -> Response:
        """Confirm the creation of a bucket: there is nothing to create."""
        body = await request.body()
        return await _answer(2, self._look_up(request, lambda: created_bucket(body, self.names)))

    @Operation("GET", "/api/v2/orgs", described=False)
    async def organizations(self, request: Request) -> Response:
        """Return the organisation with a name, which exists."""
        name = request.query_params.get("org", "")
        return await _answer(2, self._look_up(request, lambda: organizations_answer(name)))

    async def _identify(self, request: Request) -> Identity:
        """Return the writer. Raises WriteRefused for a client that is none."""
        identity = await self.authenticator.identify(with_token(request.scope))
        if identity is None:
            raise WriteRefused(HTTPStatus.UNAUTHORIZED, UNAUTHORIZED)
        if not identity.may(Action.WRITE):
            raise WriteRefused(HTTPStatus.FORBIDDEN, f"a token of role {identity.role} may not write; {CREATE}")
        return identity

    async def _write(self, request: Request, version: Version) -> Response:
        identity = await self._identify(request)
        parameters = write_parameters(request.query_params, version)
        is_compressed = is_gzip(request.headers.get("content-encoding", ""))
        content = await request.body()
        if is_compressed or content.startswith(GZIP_MAGIC):
            content = await _decompressed(content)
        lines = content.count(b"\n") + 1
        if lines > MAX_LINES:
            detail = f"the request has {lines:,} lines, {MAX_LINES:,} are allowed: send it in smaller parts"
            raise WriteRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
        self.names.add(parameters.bucket)
        times = LineTimes(parameters.unit, parameters.per_count)
        written = await self.lines.write(identity, content, bucket=parameters.bucket, times=times)
        if written.refused_count:
            raise refused_lines(
                written.refused,
                count=written.refused_count,
                stored=written.readings,
                version=version,
            )
        return no_content()

    async def _query(self, request: Request) -> Response:
        await self._identify(request)
        text = request.query_params.get("q", "")
        if not text and request.method == "POST":
            form = parse_qs((await request.body()).decode("utf-8", "replace"))
            text = form.get("q", [""])[-1]
        self.names.add(request.query_params.get("db", ""))
        return query_answer(text, self.names)

    async def _look_up(self, request: Request, answer: Callable[[], Response]) -> Response:
        await self._identify(request)
        return answer()


class LineQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of /v1/line: the unit of the timestamps, the bucket, and whether each frame is answered."""

    precision: Literal["ns", "us", "ms", "s"] = "ns"
    bucket: Annotated[str, Meta(max_length=MAX_NAME)] = ""
    ack: Literal["each", "none"] = "each"


def line_input(lines: LineProtocolWriter, device: str, query_string: bytes) -> PlainInput:
    """Return the input of /v1/line. `device` is the template of the rules. Raises RulesError."""
    query = read_query(query_string, LineQuery)
    times = LineTimes(query.precision)
    return PlainInput(
        INFLUXDB_INPUT,
        device,
        query.ack == "each",
        lambda identity, named: lines.source(identity, bucket=query.bucket, device=named, times=times),
    )


async def _answer(version: Version, work: Awaitable[Response]) -> Response:
    """Return an answer whose errors have the form of a version of InfluxDB."""
    try:
        return await work
    except WriteRefused as refused:
        return error_response(refused, version)
    except RequestRefused as refused:
        status = HTTPStatus.TOO_MANY_REQUESTS if refused.code is Code.BUSY else refused.status
        return error_response(WriteRefused(status, refused.message, headers=refused.headers), version)
    except WireError as error:
        status = STATUSES.get(error.code, HTTPStatus.SERVICE_UNAVAILABLE)
        headers = RETRY_AFTER if status is HTTPStatus.SERVICE_UNAVAILABLE else None
        return error_response(WriteRefused(status, error.message, headers=headers), version)


async def _decompressed(body: bytes) -> bytes:
    """Return the content of a compressed body. Raises WriteRefused."""
    try:
        if len(body) <= INLINE_BYTES // 8:
            return inflated(body, "gzip", INLINE_BYTES)
    except FrameRefused as refused:
        if refused.code != "size":
            raise WriteRefused(HTTPStatus.BAD_REQUEST, refused.reason) from None
    try:
        return await asyncio.to_thread(inflated, body, "gzip", MAX_CONTENT_BYTES)
    except FrameRefused as refused:
        is_large = refused.code == "size"
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if is_large else HTTPStatus.BAD_REQUEST
        raise WriteRefused(status, refused.reason) from None
