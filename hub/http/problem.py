"""Errors of the HTTP API as application/problem+json (RFC 9457)."""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hub.http import schemas

MEDIA_TYPE = "application/problem+json"

TYPE_PREFIX = "urn:telemetry-hub:problem:"
"""Of a problem's `type`, which is a URI: a name that stays the same wherever the hub and its documents are."""


class ProblemCode(StrEnum):
    """What went wrong, for programs: a code never changes its meaning. docs/api.md says what to do about each."""

    WRONG_REQUEST = "wrong_request"
    NOT_AUTHENTICATED = "not_authenticated"
    NOT_ALLOWED = "not_allowed"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    TIMEOUT = "timeout"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    BUSY = "busy"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    WRONG_CURSOR = "wrong_cursor"
    TOO_MANY_SERIES = "too_many_series"
    STORE_REFUSED = "store_refused"
    STORE_UNAVAILABLE = "store_unavailable"


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
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ProblemCode.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY: ProblemCode.WRONG_REQUEST,
    HTTPStatus.TOO_MANY_REQUESTS: ProblemCode.BUSY,
    HTTPStatus.INTERNAL_SERVER_ERROR: ProblemCode.INTERNAL,
    HTTPStatus.SERVICE_UNAVAILABLE: ProblemCode.UNAVAILABLE,
}
"""The code of each status, where nothing more precise is said."""

PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
"""The content of an answer that is a problem, in an OpenAPI document."""

JSON_EXAMPLE = 'send JSON, with the header "Content-Type: application/json"'


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that an operation may answer with, for its description: these, and those that any may."""
    model = {"model": schemas.Problem, "content": {MEDIA_TYPE: {}}}
    return dict.fromkeys(sorted({401, 403, 422, 429, *statuses}), model)


PROBLEMS = problems()
"""The errors that any operation of the API may answer with, for its description."""


class Refusal(Exception):
    """A request that is not served: the status, and a sentence that says what to do.

    `code` is the status' own where nothing more precise is said.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        headers: dict[str, str] | None = None,
        *,
        code: ProblemCode | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.code = code


def problem(
    status: int, detail: str, headers: dict[str, str] | None = None, *, code: ProblemCode | None = None
) -> Response:
    """A problem as a response."""
    known = HTTPStatus(status)
    named = code or CODES.get(known, ProblemCode.INTERNAL if known >= 500 else ProblemCode.WRONG_REQUEST)
    body = msgspec.json.encode(
        {
            "type": f"{TYPE_PREFIX}{named}",
            "title": known.phrase,
            "status": int(known),
            "detail": detail,
            "code": named.value,
        }
    )
    return Response(body, status_code=int(known), media_type=MEDIA_TYPE, headers=headers)


def install(api: FastAPI) -> None:
    """Makes every error of the API a problem."""

    @api.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> Response:
        return problem(refusal.status, refusal.detail, refusal.headers, code=refusal.code)

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = error.errors()
        if errors[0]["loc"][:1] == ("body",) and not _is_json(request):
            return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"this takes no other body than JSON: {JSON_EXAMPLE}")
        details = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors]
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(details))

    @api.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))

    @api.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> Response:
        # It is raised again after this answer, and logged with where it came from.
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the hub failed at this request; its log says where")


def describe(document: dict[str, Any]) -> None:
    """Makes an OpenAPI document tell the problems of each operation: those that follow from what it takes, and their
    shape under their own media type, where the framework files every model under application/json."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            for status in (*((404,) if "{" in path else ()), *((400, 413, 415) if "requestBody" in operation else ())):
                responses.setdefault(str(status), {"description": HTTPStatus(status).phrase, "content": PROBLEM})
            for response in responses.values():
                content = response.get("content", {})
                if MEDIA_TYPE in content and "application/json" in content:
                    content[MEDIA_TYPE] = content.pop("application/json")


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")
