"""Who comes in: judges credentials, gives those that were made a moment ago a second look, and slows down guessing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hub.http.access import Access, find_credential
from hub.http.asgi import Scope
from hub.http.attempts import FailedAttempts
from hub.model.identity import Identity
from wire.errors import Code, WireError


class Door:
    """Finds the identity behind a request. `refresh` takes over what other processes changed of the tokens."""

    def __init__(self, access: Access, refresh: Callable[[], Awaitable[None]]) -> None:
        self.access = access
        self._refresh = refresh
        self._attempts = FailedAttempts()

    async def identify(self, scope: Scope) -> Identity | None:
        """Who sends this request; None without a credential that is valid.

        Raises WireError: NOT_ALLOWED where the cookie came along with something that another site's page started, BUSY
        after too many failures from one address.
        """
        identity = self.access.authenticate(scope)
        if identity is None and find_credential(scope) is not None:
            await self._refresh()
            identity = self.access.authenticate(scope)
            if identity is None:
                await self._punish(scope)
        return identity

    async def identify_token(self, scope: Scope, token: str) -> Identity | None:
        """Whose token this is that came in a message of this connection; None for one that is not valid.

        Raises WireError(BUSY) after too many failures from one address.
        """
        identity = self.access.verify_token(token)
        if identity is None:
            await self._refresh()
            identity = self.access.verify_token(token)
            if identity is None:
                await self._punish(scope)
        return identity

    async def _punish(self, scope: Scope) -> None:
        client = scope.get("client") or ("", 0)
        penalty = self._attempts.fail(client[0], asyncio.get_running_loop().time())
        if penalty.close:
            raise WireError(Code.BUSY, "too many attempts with tokens that are not valid; wait a minute")
        await asyncio.sleep(penalty.delay_s)
