"""Access tokens, and the browser sessions that they open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from operator import attrgetter
from typing import Protocol

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hub.http import answers
from hub.http.access import Authenticator, find_credential, session_cookie
from hub.http.paging import PageQuery, select_page
from hub.http.problem import Refusal
from hub.http.routing import NO_STORE, Operation
from hub.model.identity import Action, NewSession, NewToken, Role, Token
from wire.errors import WireError
from wire.timestamp import NS_PER_S


class TokenRegistry(Protocol):
    """The part of the registry that keeps tokens and sessions."""

    def tokens(self) -> Sequence[Token]: ...
    async def create_token(
        self, role: Role, *, pattern: str = "", label: str = "", expires_ns: int | None = None
    ) -> NewToken: ...
    async def revoke(self, ids: Iterable[str]) -> Sequence[str]: ...
    async def create_login_code(self, token_id: str) -> str: ...
    async def redeem(self, code: str) -> NewSession | None: ...
    async def end_session(self, value: str) -> None: ...


@dataclass(frozen=True)
class TokenRoutes:
    """The operations about tokens and sessions."""

    registry: TokenRegistry
    authenticator: Authenticator
    now_ns: Callable[[], int]

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

    @Operation("DELETE", "/api/v1/tokens/{id}", may=Action.ADMINISTER, status=HTTPStatus.NO_CONTENT)
    async def revoke_token(self, id: str) -> None:
        """Revoke a token and close the connections that it opened."""
        if not await self.registry.revoke([id]):
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no token {id}")

    @Operation("GET", "/open/{code}", described=False)
    async def open_page(self, request: Request, code: str) -> Response:
        """Sign a browser in with the one-time URL that the hub prints."""
        login = await self.registry.redeem(code)
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
        login = await self.registry.redeem(await self.registry.create_login_code(identity.token_id))
        if login is None:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "the token was revoked just now")
        return self._with_cookie(request, login, Response(status_code=HTTPStatus.NO_CONTENT))

    @Operation("DELETE", "/api/v1/session", status=HTTPStatus.NO_CONTENT)
    async def sign_out(self, request: Request) -> Response:
        """Sign the browser out."""
        await self.authenticator.identify(request.scope)
        credential = find_credential(request.scope)
        if credential is not None and credential.kind == "session":
            await self.registry.end_session(credential.value)
        return self._with_cookie(request, NewSession("", 0), Response(status_code=HTTPStatus.NO_CONTENT))

    def _with_cookie(self, request: Request, session: NewSession, response: Response) -> Response:
        access = self.authenticator.access
        secure = access.is_secure(request.scope)
        response.raw_headers.append(
            session_cookie(session.value, max_age_s=session.max_age_s, secure=secure, path=access.base_path)
        )
        return response
