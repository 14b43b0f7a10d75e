"""Why the hub refuses clients: the check of a WebSocket over plain HTTP, because a browser hides why an upgrade was
refused, and the clients that were refused lately."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.types import Scope

from hub.http import answers
from hub.http.authenticator import Authenticator
from hub.http.problem import Refusal
from hub.http.refusals import RefusalCause, RequestRefused, peer_of
from hub.http.routing import Operation
from hub.model.identity import Action
from wire.errors import Code, WireError

UPGRADE_LOST_S = 60.0
"""Age of a handshake without its upgrade that still counts: a page checks at once, an agent reconnects in 30 s."""


@dataclass(frozen=True)
class ConnectionRoutes:
    """The operations that return what a WebSocket endpoint would answer, and whom the hub has refused.

    `endpoints` are the paths and the right that a caller needs there. `closing` returns the error that ends every
    connection while the hub stops.
    """

    authenticator: Authenticator
    endpoints: Mapping[str, Action]
    closing: Callable[[], WireError | None]

    @Operation("POST", "/api/v1/connection-check", errors=(403, 429))
    async def check_connection(self, request: Request, body: answers.ConnectionRequest) -> answers.ConnectionCheck:
        """Return what a WebSocket endpoint would answer to this caller, and what to do.

        Send the cookie or the token as with the handshake. The code `upgrade_lost` means that the endpoint would accept
        the caller, but a handshake arrived from its address as a plain request: a proxy has removed the upgrade.
        """
        action = self.endpoints.get(body.path)
        if action is None:
            detail = f"path: the WebSocket endpoints are {', '.join(self.endpoints)}"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        try:
            await self._check(request.scope, action, body.device)
        except RequestRefused as refused:
            return answers.ConnectionCheck(refused.reason.value, refused.what, refused.remedy)
        except WireError as error:
            return answers.ConnectionCheck(error.code.value, error.message, "wait: the client connects again by itself")
        return answers.ConnectionCheck("ok", "", "")

    @Operation("GET", "/api/v1/refusals", may=Action.OPERATE)
    async def refused_clients(self) -> answers.RefusalsAnswer:
        """Return the clients that the hub has refused since it started, the newest first, with what to do.

        It lists the last 128; refusals of requests for unknown paths are not listed. /metrics counts all of them.
        """
        recent = self.authenticator.refusals.recent()
        return answers.RefusalsAnswer(
            [
                answers.RefusedClient(
                    attempts.reason.value,
                    attempts.detail,
                    attempts.remedy,
                    attempts.path,
                    attempts.peer,
                    attempts.count,
                    attempts.last_ns,
                )
                for attempts in recent
            ]
        )

    async def _check(self, scope: Scope, action: Action, device: str) -> None:
        """Raise WireError for what would refuse a handshake with this head."""
        closing = self.closing()
        if closing is not None:
            raise closing
        identity = await self.authenticator.identify(scope)
        if identity is None:
            raise RequestRefused(RefusalCause.NOT_AUTHENTICATED, "no valid token", code=Code.NOT_AUTHENTICATED)
        if not identity.may(action):
            raise RequestRefused(RefusalCause.NOT_ALLOWED, f"a token of role {identity.role} may not {action} here")
        if device and not identity.may_write(device):
            what = f"the token (role {identity.role}) may not write as {device!r}"
            raise RequestRefused(RefusalCause.NOT_ALLOWED, what)
        lost = RefusalCause.UPGRADE_LOST
        if self.authenticator.refusals.was_refused(lost, peer_of(scope), within_s=UPGRADE_LOST_S):
            raise RequestRefused(lost, "the WebSocket handshake arrived at the hub without its header Upgrade")
