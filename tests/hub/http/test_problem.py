"""Errors of the API: each becomes a problem with a status, a code and a sentence."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.http.problem import CODES, HANDLERS, ProblemCode, Refusal, problem_response
from hub.model.journal import JournalFull
from hub.model.store import StoreError, StoreUnavailable
from wire.errors import Code, WireError


async def answer_to(error: Exception) -> httpx.Response:
    """Return the answer to a request that fails with this error."""

    async def fail(_: Request) -> Response:
        raise error

    api = Starlette(routes=[Route("/", fail)], exception_handlers=HANDLERS)
    transport = httpx.ASGITransport(app=api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        return await client.get("/")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (WireError(Code.BUSY, "wait"), 429, "busy"),
        (WireError(Code.NOT_ALLOWED, "no"), 403, "not_allowed"),
        (WireError(Code.NOT_AUTHENTICATED, "who?"), 401, "not_authenticated"),
        (WireError(Code.BAD_MESSAGE, "bad"), 422, "wrong_request"),
        (WireError(Code.TOO_MANY, "full"), 409, "conflict"),
        (WireError(Code.STORAGE_FULL, "the disk is full"), 503, "unavailable"),
        (JournalFull("the disk is full"), 503, "unavailable"),
        (StoreError("too many readings"), 422, "store_refused"),
        (StoreUnavailable("it does not answer"), 503, "store_unavailable"),
        (HTTPException(404, "there is none"), 404, "not_found"),
        (Refusal(HTTPStatus.CONFLICT, "taken"), 409, "conflict"),
        (Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "old", code=ProblemCode.WRONG_CURSOR), 422, "wrong_cursor"),
    ],
)
async def test_every_error_becomes_a_problem(error: Exception, status: int, code: str) -> None:
    """The detail is the error's own sentence, and type and title follow from code and status."""
    answer = await answer_to(error)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    sentence = error.detail if isinstance(error, HTTPException) else getattr(error, "message", str(error))
    assert answer.json() == {
        "type": f"urn:telemetry-hub:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": sentence,
        "code": code,
    }


async def test_headers_of_a_refusal_are_sent() -> None:
    """A program learns when to try again, or how to sign in."""
    assert (await answer_to(StoreUnavailable("it does not answer"))).headers["retry-after"] == "5"
    refusal = Refusal(HTTPStatus.UNAUTHORIZED, "sign in", {"WWW-Authenticate": "Bearer"})
    assert (await answer_to(refusal)).headers["www-authenticate"] == "Bearer"


async def test_a_defect_says_nothing_about_the_inside() -> None:
    """The text of an unexpected exception may contain anything; it is in the log only."""
    answer = await answer_to(RuntimeError("the secret"))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text


@pytest.mark.parametrize("status", [status for status in HTTPStatus if status >= 400])
def test_every_status_has_a_code(status: HTTPStatus) -> None:
    """One of the status, else by its class; a precise code replaces it."""
    fallback = ProblemCode.INTERNAL if status >= 500 else ProblemCode.WRONG_REQUEST
    code = CODES.get(status, fallback)
    response: Any = problem_response(status, "why")
    assert f'"code":"{code}"'.encode() in response.body
    precise = problem_response(status, "why", code=ProblemCode.TOO_MANY_SERIES)
    assert b'"code":"too_many_series"' in precise.body
