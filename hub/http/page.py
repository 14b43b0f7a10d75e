"""The built dashboard: hashed assets for ever, the page itself always fresh, and the page for every route of its
own."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

STATIC = Path(__file__).with_name("static")

SECURITY_HEADERS = {
    # Styles that scripts set on elements are no inline styles; only ones in the page's text would be.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

NOT_BUILT = """<!doctype html><title>Telemetry Hub</title>
<p>The hub is running, but the dashboard is not built. In the source tree, <code>make run</code> builds it.</p>"""


class Page:
    """Serves the files of hub/http/static."""

    def __init__(self, root: Path = STATIC) -> None:
        self._root = root
        self._files = StaticFiles(directory=root, check_dir=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One GET or HEAD."""
        response = await self._respond(scope)
        response.headers.update(SECURITY_HEADERS)
        await response(scope, receive, send)

    async def _respond(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return Response(status_code=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD"})
        path = scope["path"].lstrip("/")
        full, stat = self._files.lookup_path(path) if path else ("", None)
        if stat is not None and Path(full).is_file():
            response = self._files.file_response(full, stat, scope)
            hashed = path.startswith("assets/")
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
            return response
        if "." in path.rpartition("/")[2] and path.startswith("assets/"):
            return Response(status_code=HTTPStatus.NOT_FOUND)
        index = self._root / "index.html"
        if not index.is_file():
            return HTMLResponse(NOT_BUILT, status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        return FileResponse(index, headers={"Cache-Control": "no-cache"})
