"""Access tokens, and the browser sessions that they open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from operator import attrgetter
from typing import Protocol

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hub.http import answers
from hub.http.attempts import SignInRate
from hub.http.authenticator import Authenticator
from hub.http.paging import PageQuery, select_page
from hub.http.problem import Refusal
from hub.http.routing import NO_STORE, Operation
from hub.model.identity import Action, BrowserSession, Identity, NewSession, NewToken, Role, RotatedToken, Token
from wire.errors import WireError
from wire.timestamp import NS_PER_S

SIGN_IN_PAGE = "/sign-in"
"""Route of the page that explains a one-time URL that is no longer valid."""


class TokenRegistry(Protocol):
    """The part of the registry that keeps tokens and sessions."""

    def tokens(self) -> Sequence[Token]: ...
    async def create_token(
        self, role: Role, *, pattern: str = "", label: str = "", expires_ns: int | None = None
    ) -> NewToken: ...
    async def rotate_token(self, id: str, overlap_ns: int) -> RotatedToken: ...
    async def revoke(self, ids: Iterable[str]) -> Sequence[str]: ...
    async def open_session(self, token_id: str) -> NewSession | None: ...
    async def redeem(self, code: str) -> NewSession | None: ...
    def sessions(self) -> Sequence[BrowserSession]: ...
    async def end_session(self, id: str) -> bool: ...


@dataclass(frozen=True)
class TokenRoutes:
    """The operations about tokens and sessions."""

    registry: TokenRegistry
    authenticator: Authenticator
    now_ns: Callable[[], int]
    sign_ins: SignInRate = field(default_factory=SignInRate)

    @Operation("GET", "/api/v1/tokens", may=Action.ADMINISTER)
    async def tokens(self, query: PageQuery) -> answers.TokensPage:
        """Return all tokens, without their secrets, in the order of their creation."""
        creation = attrgetter("created_ns", "id")
        tokens, following = select_page(
            self.registry.tokens(), creation, query, list_name="tokens", kind=tuple[int, str]
        )
        return answers.TokensPage(tokens=[answers.TokenDetails(**token._asdict()) for token in tokens], next=following)

    @Operation("POST", "/api/v1/tokens", may=Action.ADMINISTER, status=HTTPStatus.CREATED)
    async def create_token(self, body: answers.TokenRequest) -> answers.CreatedToken:
        """Create a token. Only this answer contains its text."""
        role = Role(body.role)
        for name, given, owner in (("device", body.device, Role.DEVICE), ("devices", body.devices, Role.GATEWAY)):
            if given is not None and role is not owner:
                detail = f"{name}: a token of role {role} takes none; {name} is for role {owner}"
                raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        expires_ns = None if body.expires_in_s is None else self.now_ns() + body.expires_in_s * NS_PER_S
        try:
            created = await self.registry.create_token(
                role, pattern=body.device or body.devices or "", label=body.label, expires_ns=expires_ns
            )
        except WireError as error:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, error.message) from None
        return answers.CreatedToken(created.token.id, created.text)

    @Operation("POST", "/api/v1/tokens/{id}/rotate", may=Action.ADMINISTER, status=HTTPStatus.CREATED)
    async def rotate_token(self, id: str, body: answers.TokenRotation) -> answers.TokenReplacement:
        """Replace a token by a new one with the same rights. The old one stays valid meanwhile."""
        if not any(token.id == id for token in self.registry.tokens()):
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no token {id}")
        try:
            rotated = await self.registry.rotate_token(id, body.overlap_s * NS_PER_S)
        except WireError as error:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, error.message) from None
        return answers.TokenReplacement(rotated.new.token.id, rotated.new.text, rotated.old_expires_ns)

    @Operation("DELETE", "/api/v1/tokens/{id}", may=Action.ADMINISTER, status=HTTPStatus.NO_CONTENT)
    async def revoke_token(self, id: str) -> None:
        """Revoke a token and close the connections that it opened."""
        if not await self.registry.revoke([id]):
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no token {id}")

    @Operation("GET", "/api/v1/sessions", may=Action.ADMINISTER)
    async def sessions(self, caller: Identity, query: PageQuery) -> answers.SessionsPage:
        """Return the signed-in browsers, in the order in which they were signed in."""
        creation = attrgetter("created_ns", "id")
        sessions, following = select_page(
            self.registry.sessions(), creation, query, list_name="sessions", kind=tuple[int, str]
        )
        tokens = {token.id: token for token in self.registry.tokens()}
        return answers.SessionsPage(
            sessions=[
                answers.SessionDetails(
                    id=session.id,
                    token=session.token_id,
                    role=tokens[session.token_id].role,
                    label=tokens[session.token_id].label,
                    created_ns=session.created_ns,
                    last_used_ns=session.last_used_ns,
                    expires_ns=session.expires_ns,
                    current=session.id == caller.session,
                )
                for session in sessions
            ],
            next=following,
        )

    @Operation("DELETE", "/api/v1/sessions/{id}", may=Action.ADMINISTER, status=HTTPStatus.NO_CONTENT)
    async def end_session(self, id: str) -> None:
        """Sign a browser out and close the connections of its pages."""
        if not await self.registry.end_session(id):
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no session {id}")

    @Operation("GET", "/open/{code}", described=False)
    async def open_page(self, request: Request, code: str) -> Response:
        """Sign a browser in with the one-time URL that the hub prints.

        If the URL is no longer valid, a browser gets a page that says what to do, and a program a problem.
        """
        login = await self.registry.redeem(code)
        if login is None and "text/html" in request.headers.get("accept", ""):
            page = f"{self.authenticator.access.base_path.rstrip('/')}{SIGN_IN_PAGE}"
            return RedirectResponse(page, status_code=HTTPStatus.SEE_OTHER, headers=NO_STORE)
        if login is None:
            raise Refusal(
                HTTPStatus.FORBIDDEN, "this URL was opened before, or is too old; `hub token url` prints a new one"
            )
        return self._with_cookie(
            request,
            login,
            RedirectResponse(self.authenticator.access.base_path, status_code=HTTPStatus.SEE_OTHER, headers=NO_STORE),
        )

    @Operation("POST", "/api/v1/session", status=HTTPStatus.NO_CONTENT, errors=(401, 403, 429))
    async def sign_in(self, request: Request, body: answers.SignIn) -> Response:
        """Sign a browser in with a token; the answer sets a cookie."""
        identity = await self.authenticator.identify_token(request.scope, body.token.strip())
        if identity is None:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "this token is unknown, revoked or expired")
        if not identity.may(Action.READ):
            raise Refusal(
                HTTPStatus.FORBIDDEN, f"a token of role {identity.role} writes readings; the page needs a viewer's"
            )
        wait_s = self.sign_ins.record(identity.token_id, asyncio.get_running_loop().time())
        if wait_s > 0:
            detail = "too many sign-ins with this token: let its programs send the token instead, and wait a minute"
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(ceil(wait_s))})
        login = await self.registry.open_session(identity.token_id)
        if login is None:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "the token was revoked just now")
        return self._with_cookie(request, login, Response(status_code=HTTPStatus.NO_CONTENT))

    @Operation("DELETE", "/api/v1/session", status=HTTPStatus.NO_CONTENT)
    async def sign_out(self, request: Request) -> Response:
        """Sign the browser out."""
        identity = await self.authenticator.identify(request.scope)
        if identity is not None and identity.session is not None:
            await self.registry.end_session(identity.session)
        return self._with_cookie(request, NewSession("", 0), Response(status_code=HTTPStatus.NO_CONTENT))

    def _with_cookie(self, request: Request, session: NewSession, response: Response) -> Response:
        access = self.authenticator.access
        secure = access.is_secure(request.scope)
        response.raw_headers.append(access.session_cookie(session.value, max_age_s=session.max_age_s, secure=secure))
        return response
