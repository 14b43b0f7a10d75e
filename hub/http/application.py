"""The application behind the port: the resources of the API, the page, and the WebSocket endpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from stat import S_ISREG

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.http.authenticator import Authenticator
from hub.http.cross_origin import CrossOrigin
from hub.http.forwarded import ROOT
from hub.http.openapi import DescriptionRoutes
from hub.http.problem import HANDLERS, problem_response
from hub.http.routes import RESOURCES
from hub.http.routes.influxdb import WRITE_PATHS
from hub.http.routes.readings import READINGS_PATH
from hub.http.routing import methods_for, routes_of
from hub.http.server import Router
from hub.http.tls import check_client_certificate
from hub.http.websocket import DEVICE_PATH, LINE_PATH, PLAIN_PATH
from wire.model import device_id_problem

LIVE_PATH = "/v1/live"

WRITING_PATHS = frozenset({DEVICE_PATH, PLAIN_PATH, LINE_PATH, READINGS_PATH, *WRITE_PATHS})
"""Paths through which readings arrive."""

SMALL_BYTES = 1024
"""Files of the page below this size are as quick uncompressed; the others shrink to a third."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

INDEX = "index.html"
NOT_FOUND = "not_found.html"

RELATIVE = '="./'
"""Beginning of each address in the built page, and of the base path in its head (`vite.config.ts`, base)."""

STATIC = Path(__file__).with_name("static")

SECURITY_HEADERS = {
    # Styles that scripts set on elements are no inline styles; only styles in the page's text would be.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    # The page reads the serial port of a board. Without the header browsers allow it, too; a proxy may set another one.
    "Permissions-Policy": "serial=(self)",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

VIEWS = frozenset(
    {
        *("/", "/flow", "/commands", "/commands/new", "/quarantine", "/mqtt", "/tokens", "/access", "/add", "/board"),
        *("/try", "/sign-in"),
    }
)
DEVICE_VIEW = "/device/"
JOB_VIEW = "/commands/"
"""Paths of the page's views; those of a device and of a job end with its id. All are answered with the same file."""

JOB_ID = re.compile(r"[0-9a-f]{16,32}\Z")

NOT_BUILT = """<!doctype html><title>Telemetry Hub</title>
<p>The hub is running, but the dashboard is not built. In the source tree, <code>make run</code> builds it.</p>"""


def make_application(
    resources: Sequence[object],
    authenticator: Authenticator,
    endpoints: Mapping[str, ASGIApp],
    *,
    public_url: str | None = None,
    requires_certificate: bool = False,
) -> CrossOrigin:
    """Return one ASGI application of the resources, the page, and the WebSocket `endpoints` by their paths.

    With `requires_certificate`, clients that write have to present a client certificate.
    """
    described = DescriptionRoutes(RESOURCES, public_url)
    routes = [route for resource in (*resources, described) for route in routes_of(resource, authenticator)]

    async def unknown(request: Request) -> Response:
        path = request.scope["path"]
        return _wrong_method(routes, request) or problem_response(
            HTTPStatus.NOT_FOUND, f"there is no {path}; /api/v1/openapi.json describes what there is"
        )

    static = GZipMiddleware(StaticPage(base_path=authenticator.access.base_path), minimum_size=SMALL_BYTES)

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await (_wrong_method(routes, Request(scope)) or static)(scope, receive, send)

    # After all others, and before the page, whose files would otherwise answer for the API.
    rest = Route("/api/{rest:path}", unknown, methods=METHODS)
    api = Starlette(routes=[*routes, rest, Mount("/", page)], exception_handlers=HANDLERS)
    access, refusals = authenticator.access, authenticator.refusals

    def check(scope: Scope) -> None:
        access.check_host(scope)
        if requires_certificate and scope["path"] in WRITING_PATHS:
            check_client_certificate(scope)

    return CrossOrigin(Router(endpoints, api, check=check, refusals=refusals), access, refusals)


def _wrong_method(routes: Sequence[Route], request: Request) -> Response | None:
    """Return the answer for a path that has other methods than that of the request, None for a path without any."""
    methods = methods_for(routes, request)
    if not methods:
        return None
    detail = f"{request.scope['path']} takes {' and '.join(methods)}, not {request.method}"
    return problem_response(HTTPStatus.METHOD_NOT_ALLOWED, detail, {"Allow": ", ".join(methods)})


class StaticPage:
    """The built dashboard.

    Its hashed assets are cached forever, the page itself never. It answers for each of its own views, and for no other
    path. It was built with relative addresses (`./assets/…`), which become addresses below `base_path`.
    """

    def __init__(self, root: Path = STATIC, *, base_path: str = ROOT) -> None:
        self._root = root
        self._base_path = base_path
        self._files = StaticFiles(directory=root, check_dir=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response = await self._respond(scope)
        response.headers.update(SECURITY_HEADERS)
        await response(scope, receive, send)

    async def _respond(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            detail = f"the page takes GET, not {scope['method']}; the API is at /api/v1/"
            return problem_response(HTTPStatus.METHOD_NOT_ALLOWED, detail, {"Allow": "GET, HEAD"})
        path = scope["path"]
        if is_view(path) or path == f"/{INDEX}":
            return self._page(INDEX)
        return self._file(scope, path.removeprefix("/")) or self._not_found(scope)

    def _page(self, name: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
        try:
            built = (self._root / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE if status is HTTPStatus.OK else status
            return HTMLResponse(NOT_BUILT, status_code=unavailable)
        text = built.replace(RELATIVE, f'="{self._base_path}')
        return HTMLResponse(text, status_code=status, headers={"Cache-Control": "no-cache"})

    def _file(self, scope: Scope, path: str) -> Response | None:
        try:
            full, stat = self._files.lookup_path(path)
        except (OSError, ValueError):
            return None  # no file can have this name
        if stat is None or not S_ISREG(stat.st_mode):
            return None
        response = self._files.file_response(full, stat, scope)
        hashed = path.startswith("assets/")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        return response

    def _not_found(self, scope: Scope) -> Response:
        """Return the answer for an unknown path: for a browser a page with a link, for a program a problem."""
        if "text/html" in Headers(scope=scope).get("accept", ""):
            return self._page(NOT_FOUND, HTTPStatus.NOT_FOUND)
        detail = "there is no such path; /api/v1/openapi.json describes the API"
        return problem_response(HTTPStatus.NOT_FOUND, detail)


def is_view(path: str) -> bool:
    """Return whether the page has a view at this path, as in dashboards/web/src/ui/route.ts."""
    if path == "/":
        return True
    path = path.removesuffix("/")
    is_device = path.startswith(DEVICE_VIEW) and device_id_problem(path.removeprefix(DEVICE_VIEW)) is None
    is_job = path.startswith(JOB_VIEW) and JOB_ID.match(path.removeprefix(JOB_VIEW)) is not None
    return is_device or is_job or (path in VIEWS and path != "/")
