"""The application behind the port: which path is whose."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Protocol

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import Match

from hub.http import api, audit, mqtt, operations, quarantine, session
from hub.http import retirement as retirements
from hub.http.asgi import Endpoint
from hub.http.connections import Connections
from hub.http.direct import DEVICE_PATH
from hub.http.door import Door
from hub.http.overview import Overview
from hub.http.page import Page
from hub.http.problem import Refusal, problem
from hub.http.retirement import Retirement
from hub.http.server import Router
from hub.ingest.retry import QuarantineWork
from hub.model.batch import Series
from hub.model.identity import Identity
from hub.model.journal import Journal
from hub.model.store import Store
from wire.errors import Code, WireError

SMALL_BYTES = 1024
"""Files of the page below this size are as quick uncompressed; the others shrink to a third."""


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Registry(api.Registrar, session.Sessions, Protocol):
    """What the HTTP side asks of the registry."""


def make_application(
    *,
    overview: Overview,
    registry: Registry,
    store: Store,
    door: Door,
    series: Callable[[], Iterable[Series]],
    connections: Connections,
    journal: Journal,
    retirement: Retirement,
    quarantine_work: QuarantineWork,
    device: Endpoint,
    live: Endpoint,
) -> Router:
    """Endpoints, API, operations, sessions and page in one ASGI application."""

    async def identify(request: Request) -> Identity:
        identity = await door.identify(request.scope)
        if identity is None:
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "sign in, or send a token as Authorization: Bearer; `hub token create --role viewer` makes one",
                {"WWW-Authenticate": "Bearer"},
            )
        return identity

    http = api.make_api(overview, registry, store, identify=identify, series=series, version=overview.info.version)
    retirements.install(http, retirement)
    quarantine.install(http, journal, quarantine_work)
    audit.install(http, overview, store, series)
    mqtt.install(http, overview.bridges, now_ns=overview.now_ns)
    operations.install(http, overview, lambda: len(connections))
    session.install(http, registry, door)
    _translate_errors(http)

    # Behind all others; without it the page's files would answer for the API.
    @http.api_route("/api/{rest:path}", methods=METHODS, include_in_schema=False)
    async def unknown(request: Request, rest: str) -> Response:
        others = _methods_of(http, request)
        if others:
            detail = f"/api/{rest} takes {' and '.join(others)}, not {request.method}"
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, {"Allow": ", ".join(others)})
        return problem(HTTPStatus.NOT_FOUND, f"there is no /api/{rest}; /api/v1/openapi.json describes what there is")

    http.mount("/", GZipMiddleware(Page(), minimum_size=SMALL_BYTES))
    return Router({DEVICE_PATH: device, "/v1/live": live}, http, check=door.access.check_host)


def _methods_of(http: FastAPI, request: Request) -> list[str]:
    """The methods that this request's path takes; a path without parameters counts before one that they fit."""
    routes = [
        route
        for route in http.routes
        if isinstance(route, APIRoute) and route.include_in_schema and route.matches(request.scope)[0] is Match.PARTIAL
    ]
    fewest = min((len(route.param_convertors) for route in routes), default=0)
    return sorted(
        {method for route in routes if len(route.param_convertors) == fewest for method in route.methods or ()}
    )


def _translate_errors(http: FastAPI) -> None:
    statuses = {
        Code.BUSY: HTTPStatus.TOO_MANY_REQUESTS,
        Code.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
        Code.NOT_AUTHENTICATED: HTTPStatus.UNAUTHORIZED,
        Code.BAD_MESSAGE: HTTPStatus.UNPROCESSABLE_ENTITY,
        Code.TOO_MANY: HTTPStatus.CONFLICT,
    }

    @http.exception_handler(WireError)
    async def refused(_: Request, error: WireError) -> Response:
        return problem(statuses.get(error.code, HTTPStatus.SERVICE_UNAVAILABLE), error.message)
