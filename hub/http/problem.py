"""Errors of the HTTP API as application/problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hub.http.refusals import RequestRefused
from hub.model.journal import JournalError
from hub.model.store import StoreError, StoreUnavailable
from wire.errors import Code, WireError
from wire.plain import RefusedReading

MEDIA_TYPE = "application/problem+json"

TYPE_PREFIX = "urn:telemetry-hub:problem:"
"""Prefix of a problem's `type`: a URI that does not depend on where the hub and its documents are."""


RETRY_AFTER = {"Retry-After": "5"}


class ProblemCode(StrEnum):
    """Error codes for programs. A code never changes its meaning; docs/api.md says what to do about each."""

    WRONG_REQUEST = "wrong_request"
    NOT_AUTHENTICATED = "not_authenticated"
    NOT_ALLOWED = "not_allowed"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    TIMEOUT = "timeout"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    URI_TOO_LONG = "uri_too_long"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UPGRADE_REQUIRED = "upgrade_required"
    BUSY = "busy"
    HEADERS_TOO_LARGE = "headers_too_large"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    VERSION_NOT_SUPPORTED = "version_not_supported"
    WRONG_CURSOR = "wrong_cursor"
    TOO_MANY_SERIES = "too_many_series"
    STORE_REFUSED = "store_refused"
    STORE_UNAVAILABLE = "store_unavailable"
    UNKNOWN_COMMAND = "unknown_command"
    WRONG_PARAMETERS = "wrong_parameters"
    NOT_CONFIRMED = "not_confirmed"
    NOT_CONNECTED = "not_connected"
    ID_IN_USE = "id_in_use"
    QUEUE_FULL = "queue_full"
    UNKNOWN_SETTING = "unknown_setting"
    WRONG_VALUE = "wrong_value"
    WRONG_VERSION = "wrong_version"
    TOO_MANY_SETTINGS = "too_many_settings"


CODES = {
    HTTPStatus.BAD_REQUEST: ProblemCode.WRONG_REQUEST,
    HTTPStatus.UNAUTHORIZED: ProblemCode.NOT_AUTHENTICATED,
    HTTPStatus.FORBIDDEN: ProblemCode.NOT_ALLOWED,
    HTTPStatus.NOT_FOUND: ProblemCode.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: ProblemCode.METHOD_NOT_ALLOWED,
    HTTPStatus.NOT_ACCEPTABLE: ProblemCode.NOT_ACCEPTABLE,
    HTTPStatus.REQUEST_TIMEOUT: ProblemCode.TIMEOUT,
    HTTPStatus.CONFLICT: ProblemCode.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ProblemCode.TOO_LARGE,
    HTTPStatus.REQUEST_URI_TOO_LONG: ProblemCode.URI_TOO_LONG,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ProblemCode.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY: ProblemCode.WRONG_REQUEST,
    HTTPStatus.UPGRADE_REQUIRED: ProblemCode.UPGRADE_REQUIRED,
    HTTPStatus.TOO_MANY_REQUESTS: ProblemCode.BUSY,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ProblemCode.HEADERS_TOO_LARGE,
    HTTPStatus.INTERNAL_SERVER_ERROR: ProblemCode.INTERNAL,
    HTTPStatus.SERVICE_UNAVAILABLE: ProblemCode.UNAVAILABLE,
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: ProblemCode.VERSION_NOT_SUPPORTED,
}
"""The code of each status, unless a refusal names a more precise one."""

WIRE_STATUSES = {
    Code.BUSY: HTTPStatus.TOO_MANY_REQUESTS,
    Code.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    Code.NOT_AUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    Code.BAD_MESSAGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.TOO_MANY: HTTPStatus.CONFLICT,
}
"""The status of an error that the registry or the journal raises; 503 for all others."""


class Problem(Struct, frozen=True, omit_defaults=True):
    """An error of the API and what to do about it (RFC 9457)."""

    type: Annotated[str, Meta(description="`urn:telemetry-hub:problem:` and the code.")]
    title: Annotated[str, Meta(description="The status in words.")]
    status: int
    detail: Annotated[str, Meta(description="What is wrong with this request, and what to do.")]
    code: Annotated[str, Meta(description="The error, for programs; its meaning never changes.")]
    refused: Annotated[
        Sequence[RefusedReading],
        Meta(description="Of a request with readings: up to 100 values that are in quarantine."),
    ] = ()


class Refusal(HTTPException):
    """A request that the hub rejects: the status, and a sentence that says what to do.

    `code` is the one of the status if the request has no more precise one. `refused` are the refused readings.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        headers: Mapping[str, str] | None = None,
        code: ProblemCode | None = None,
        *,
        refused: Sequence[RefusedReading] = (),
    ) -> None:
        super().__init__(status, detail, headers)
        self.code = code
        self.refused = refused


def problem_response(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    code: ProblemCode | None = None,
    refused: Sequence[RefusedReading] = (),
) -> Response:
    """Return a problem as a response."""
    known = HTTPStatus(status)
    named = code or CODES.get(known, ProblemCode.INTERNAL if known >= 500 else ProblemCode.WRONG_REQUEST)
    problem = Problem(f"{TYPE_PREFIX}{named}", known.phrase, int(known), detail, named.value, refused)
    return Response(msgspec.json.encode(problem), status_code=int(known), media_type=MEDIA_TYPE, headers=headers)


async def _answer(_: Request, error: Exception) -> Response:
    match error:
        case RequestRefused():
            return problem_response(error.status, error.message, error.headers)
        case WireError():
            return problem_response(WIRE_STATUSES.get(error.code, HTTPStatus.SERVICE_UNAVAILABLE), error.message)
        case JournalError():
            return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        case StoreUnavailable():
            code = ProblemCode.STORE_UNAVAILABLE
            return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, str(error), RETRY_AFTER, code)
        case StoreError():
            return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), code=ProblemCode.STORE_REFUSED)
        case Refusal():
            return problem_response(error.status_code, error.detail, error.headers, error.code, error.refused)
        case HTTPException():
            return problem_response(error.status_code, error.detail, error.headers)
    # Starlette raises the exception again after this answer; it is logged with its origin.
    return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, "the hub failed at this request; its log says where")


HANDLERS = dict.fromkeys((WireError, JournalError, StoreError, HTTPException, Exception), _answer)
"""Exception handlers that make every error of the API a problem."""
