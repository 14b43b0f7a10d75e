"""Tests of cross-origin requests: which pages may read the answers, and what a preflight is answered."""

from __future__ import annotations

from http import HTTPStatus

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from hub.http.access import Access
from hub.http.cross_origin import CrossOrigin
from hub.http.problem import problem_response
from hub.http.refusals import RefusalCause, RequestRefusals

PAGE = "http://localhost:5173"
FOREIGN = "http://evil.example"
PREFLIGHT = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
ALLOWS = "access-control-allow-origin"


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer each request with an error that has a Vary of its own."""
    headers = {"Vary": "Accept-Encoding", "Retry-After": "5"}
    await problem_response(HTTPStatus.UNAUTHORIZED, "sign in", headers)(scope, receive, send)


async def ask(method: str, headers: dict[str, str], refusals: RequestRefusals | None = None) -> httpx.Response:
    access = Access(lambda _: None, lambda _: None, origins=("http://LOCALHOST:5173", "https://wall.example"))
    application = CrossOrigin(refuse, access, refusals or RequestRefusals())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=application), base_url="http://hub:8600") as client:
        return await client.request(method, "/api/v1/hub", headers=headers)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_page_of_an_allowed_origin_may_read_every_answer(method: str) -> None:
    """Also an error. The origin is named, never a wildcard, so that cookies are allowed, and caches keep it apart."""
    answer = await ask(method, {"Origin": PAGE})
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert answer.headers.get_list(ALLOWS) == [PAGE]
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert {"Retry-After", "Content-Disposition", "ETag"} <= set(
        answer.headers["access-control-expose-headers"].split(", ")
    )
    assert answer.headers.get_list("vary", split_commas=True) == ["Accept-Encoding", "Origin"]


@pytest.mark.parametrize(
    "origin", [FOREIGN, "http://localhost:5174", "https://localhost:5173", "null", "http://hub:8600"]
)
async def test_a_page_of_another_origin_reads_nothing(origin: str) -> None:
    """The browser hides an answer without these headers. The hub's own page needs none."""
    answer = await ask("GET", {"Origin": origin})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "Origin" in answer.headers.get_list("vary", split_commas=True)


async def test_a_program_gets_the_answer_as_it_is() -> None:
    """Without an Origin there is no page."""
    answer = await ask("GET", {})
    assert answer.headers["vary"] == "Accept-Encoding"
    assert ALLOWS not in answer.headers


async def test_a_preflight_of_an_allowed_origin_is_answered_without_the_application() -> None:
    """A browser sends it without a credential. It names the methods and headers, and how long that holds."""
    answer = await ask("OPTIONS", {"Origin": PAGE, **PREFLIGHT})
    assert (answer.status_code, answer.content) == (HTTPStatus.NO_CONTENT, b"")
    assert answer.headers[ALLOWS] == PAGE
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert {"GET", "POST", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    allowed = set(answer.headers["access-control-allow-headers"].split(", "))
    assert {"Authorization", "Content-Type", "Idempotency-Key"} <= allowed
    assert int(answer.headers["access-control-max-age"]) > 0


async def test_a_refused_preflight_names_the_setting() -> None:
    """In the answer, which a developer sees in the browser's tools, and in the log."""
    refusals = RequestRefusals()
    answer = await ask("OPTIONS", {"Origin": "http://localhost:5174", **PREFLIGHT}, refusals)
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert ALLOWS not in answer.headers
    assert "the page comes from http://localhost:5174, and this hub is hub:8600" in answer.json()["detail"]
    assert 'add "http://localhost:5174" to access.allowed_origins' in answer.json()["detail"]
    assert refusals.counts == {RefusalCause.ORIGIN_NOT_ALLOWED: 1}


async def test_an_options_request_without_a_method_to_ask_for_is_no_preflight() -> None:
    """The application answers it."""
    assert (await ask("OPTIONS", {"Origin": PAGE})).status_code == HTTPStatus.UNAUTHORIZED
