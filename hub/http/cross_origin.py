"""Cross-origin resource sharing: pages of the origins in access.allowed_origins may read the answers of the hub.

Without it a browser hides an answer from a page of another origin. A page of another origin that is not allowed gets no
header at all, so the browser hides everything from it. The protocol is in the Fetch standard, "CORS protocol".
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.http.access import Access, header_values
from hub.http.problem import problem_response
from hub.http.refusals import RequestRefusals, RequestRefused

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"

REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-None-Match"

EXPOSED_HEADERS = "Allow, Content-Disposition, ETag, Location, Retry-After, WWW-Authenticate"
"""Headers of answers that a page needs. Browsers show it Content-Type and Content-Length anyway."""

MAX_AGE_S = 600
"""Time for which a browser remembers the answer to a preflight: an origin that is removed is refused ten minutes later
at most, and a page that polls asks once."""


class CrossOrigin:
    """Adds the headers that let pages of allowed origins read answers, and answers their preflights.

    It is the outermost part of the application, because a page also has to read the errors. A request that is no valid
    HTTP, or exceeds a limit of its head or body, never reaches the application: a browser hides that answer.
    """

    def __init__(self, application: ASGIApp, access: Access, refusals: RequestRefusals) -> None:
        self._application = application
        self._access = access
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection or request."""
        origins = header_values(scope, b"origin") if scope["type"] == "http" else []
        if not origins:
            await self._application(scope, receive, send)
            return
        headers = _allowing(origins[0]) if self._access.allows_origin(scope) else [(b"vary", b"Origin")]
        respond = self._application
        if scope["method"] == "OPTIONS" and header_values(scope, b"access-control-request-method"):
            respond = self._preflight(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            await send(message)

        await respond(scope, receive, send_with_headers)

    def _preflight(self, scope: Scope) -> Response:
        try:
            self._access.check_origin(scope)
        except RequestRefused as refused:
            self._refusals.report_scope(scope, refused)
            return problem_response(HTTPStatus.FORBIDDEN, refused.message)
        allowed = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": str(MAX_AGE_S),
        }
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=allowed)


def _allowing(origin: str) -> list[tuple[bytes, bytes]]:
    """Return the headers that let a page of this origin read an answer. The browser compares the text itself."""
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", EXPOSED_HEADERS.encode()),
        (b"vary", b"Origin"),
    ]
