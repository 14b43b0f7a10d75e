"""Long bodies: requests that bring readings may be larger than others, if their client has a valid credential.

Such a body is read after its client was admitted. The application answers all other requests at once, without a body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.types import Scope

from hub.http.refusals import RefusalCause, RequestRefused
from hub.http.request import Request
from wire.errors import Code

MAX_LONG_BODY_BYTES = 25_000_000
"""Size of one long body: the limit that InfluxDB 1 has by default, and up to which Proxmox collects lines."""

MAX_ALL_BYTES = 100_000_000
"""Long bodies that are being received or read, of all clients. Beyond it a request is answered with 503, and the client
sends it again: four of the largest size fit, or hundreds of the usual one."""

RETRY_AFTER = {"Retry-After": "2"}


class LongBodies:
    """Admission of long bodies, and their bytes in memory.

    `paths` are the ends of the paths that accept them: a proxy may pass the path of the public URL in front of it.
    `has_right` returns whether the credential of a request belongs to a client that may write.
    """

    def __init__(self, paths: tuple[str, ...], has_right: Callable[[Scope], Awaitable[bool]]) -> None:
        self._paths = paths
        self._has_right = has_right
        self._sizes: dict[object, int] = {}
        self._total = 0

    @property
    def total_bytes(self) -> int:
        """The bytes of all long bodies."""
        return self._total

    def may_be_long(self, head: Request) -> bool:
        """Return whether this request may have a long body."""
        return head.method == "POST" and head.path.endswith(self._paths)

    async def admit(self, scope: Scope) -> None:
        """Return if the client may send a long body. Raises RequestRefused."""
        if not await self._has_right(scope):
            raise RequestRefused(
                RefusalCause.NOT_AUTHENTICATED,
                "a body of this size needs a valid token that may write",
                code=Code.NOT_AUTHENTICATED,
                status=HTTPStatus.UNAUTHORIZED,
            )

    def reserve(self, owner: object, size: int) -> None:
        """Count the bytes of a body so far. Raises RequestRefused if there are too many in all."""
        self._total += size - self._sizes.get(owner, 0)
        self._sizes[owner] = size
        if self._total > MAX_ALL_BYTES:
            raise RequestRefused(
                RefusalCause.TOO_MANY_CONNECTIONS,
                f"the hub is reading {MAX_ALL_BYTES:,} bytes of other requests",
                "send the request again",
                code=Code.BUSY,
                status=HTTPStatus.SERVICE_UNAVAILABLE,
                headers=RETRY_AFTER,
            )

    def release(self, owner: object) -> None:
        """Forget a body that is not in memory any more."""
        self._total -= self._sizes.pop(owner, 0)
