"""Signing a browser in and out: a one-time URL or a token becomes a cookie of this origin."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

from fastapi import FastAPI, Request
from starlette.responses import RedirectResponse, Response

from hub.http import schemas
from hub.http.access import ended_session_cookie, find_credential, session_cookie
from hub.http.door import Door
from hub.http.problem import PROBLEMS, Refusal, problem
from hub.model.identity import Action


class Login(Protocol):
    """A browser that has just signed in."""

    @property
    def value(self) -> str: ...
    @property
    def max_age_s(self) -> int: ...


class Sessions(Protocol):
    """What signing in asks of the registry."""

    async def create_login_code(self, token_id: str) -> str: ...
    async def redeem(self, code: str) -> Login | None: ...
    async def end_session(self, value: str) -> None: ...


def install(api: FastAPI, sessions: Sessions, door: Door) -> None:
    """Adds signing in and out to the application."""

    @api.get("/open/{code}", include_in_schema=False)
    async def open_page(request: Request, code: str) -> Response:
        """The one-time URL that the hub prints."""
        login = await sessions.redeem(code)
        if login is None:
            return problem(
                HTTPStatus.FORBIDDEN,
                "this URL was opened before, or is too old; `hub token url` prints a new one",
            )
        response = RedirectResponse("/", status_code=HTTPStatus.SEE_OTHER, headers={"Cache-Control": "no-store"})
        _set_cookie(response, session_cookie(login.value, max_age_s=login.max_age_s, secure=_is_secure(request)))
        return response

    @api.post("/api/v1/session", status_code=204, responses=PROBLEMS)
    async def sign_in(request: Request, asked: schemas.SignIn) -> Response:
        """Sign a browser in with a token; the answer sets a cookie."""
        identity = await door.identify_token(request.scope, asked.token.strip())
        if identity is None:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "this token is not known here, was revoked or has expired")
        if not identity.may(Action.READ):
            raise Refusal(
                HTTPStatus.FORBIDDEN, f"a token of role {identity.role} writes readings; the page needs a viewer's"
            )
        login = await sessions.redeem(await sessions.create_login_code(identity.token_id))
        if login is None:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "the token was revoked just now")
        response = Response(status_code=HTTPStatus.NO_CONTENT)
        _set_cookie(response, session_cookie(login.value, max_age_s=login.max_age_s, secure=_is_secure(request)))
        return response

    @api.delete("/api/v1/session", status_code=204)
    async def sign_out(request: Request) -> Response:
        """Sign the browser out."""
        await door.identify(request.scope)
        credential = find_credential(request.scope)
        if credential is not None and credential.kind == "session":
            await sessions.end_session(credential.value)
        response = Response(status_code=HTTPStatus.NO_CONTENT)
        _set_cookie(response, ended_session_cookie(secure=_is_secure(request)))
        return response

    def _is_secure(request: Request) -> bool:
        return door.access.is_secure(request.scope)


def _set_cookie(response: Response, header: tuple[bytes, bytes]) -> None:
    response.raw_headers.append(header)
