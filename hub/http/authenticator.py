"""The identity behind a request, and the delay of clients that fail to authenticate again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.types import Scope

from hub.http.access import Access
from hub.http.attempts import FailedAttempts
from hub.http.refusals import RefusalCause, RequestRefusals, RequestRefused, peer_of
from hub.model.identity import Action, Identity
from wire.errors import Code

VERIFIED = "telemetry.verified"
"""Key in the state of a scope (ASGI's `state`, which every copy of the scope shares) that is True once the credential
of the request was verified."""


class Authenticator:
    """Finds the identity behind a request. `refresh` reads the tokens that other processes have changed."""

    def __init__(
        self, access: Access, refresh: Callable[[], Awaitable[None]], refusals: RequestRefusals | None = None
    ) -> None:
        self.access = access
        self.refusals = refusals or RequestRefusals()
        self._refresh = refresh
        self._failures = FailedAttempts()

    def recognise(self, scope: Scope) -> Identity | None:
        """Return the owner of the valid token in the headers, without waiting. Nothing counts as a failure."""
        credential = self.access.credential(scope)
        valid = credential is not None and credential.kind == "token"
        return self.access.verify_token(credential.value) if valid and credential is not None else None

    async def may_write(self, scope: Scope) -> bool:
        """Return whether the token in the headers may write readings. Nothing counts as a failure: `identify` follows
        for the answer."""
        identity = self.recognise(scope)
        if identity is None:
            await self._refresh()
            identity = self.recognise(scope)
        return identity is not None and identity.may(Action.WRITE)

    async def identify(self, scope: Scope) -> Identity | None:
        """Return the sender of this request; None without a valid credential.

        Raises RequestRefused for a cookie in a request that another site's page started, and, with code BUSY, after too
        many failures from one address.
        """
        if self.access.credential(scope) is None:
            return None
        return await self._verify(scope, lambda: self.access.authenticate(scope))

    async def identify_token(self, scope: Scope, token: str) -> Identity | None:
        """Return the owner of a token in a message of this connection; None if the token is not valid.

        Raises RequestRefused after too many failures from one address.
        """
        return await self._verify(scope, lambda: self.access.verify_token(token))

    async def _verify(self, scope: Scope, find: Callable[[], Identity | None]) -> Identity | None:
        try:
            identity = find()
            if identity is None:
                await self._refresh()
                identity = find()
            if identity is None:
                await self.penalise(scope, "the token is not valid")
        except RequestRefused as refused:
            self.refusals.report_scope(scope, refused)
            raise
        if identity is not None:
            scope.setdefault("state", {})[VERIFIED] = True
        return identity

    async def penalise(self, scope: Scope, reason: str) -> None:
        """Wait after an invalid token or secret. Raises RequestRefused after too many of them."""
        delay_s = self._failures.record_failure(peer_of(scope), asyncio.get_running_loop().time())
        if delay_s is None:
            raise RequestRefused(
                RefusalCause.TOO_MANY_FAILURES,
                "too many attempts with invalid tokens",
                "stop the client that sends one, and wait a minute",
                code=Code.BUSY,
                status=HTTPStatus.TOO_MANY_REQUESTS,
            )
        self.refusals.report_scope(scope, RequestRefused(RefusalCause.NOT_AUTHENTICATED, reason))
        await asyncio.sleep(delay_s)


def is_verified(scope: Scope) -> bool:
    """Return whether the Authenticator has found the identity behind this request."""
    return VERIFIED in scope.get("state", {})
