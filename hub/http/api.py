"""/api/v1: the HTTP API. Its OpenAPI 3.1 description is made from this code (/api/v1/openapi.json)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from operator import attrgetter, itemgetter
from typing import Annotated, Any, Protocol

import msgspec
from fastapi import Depends, FastAPI, Path, Query, Request
from starlette.responses import Response

from hub.http import history, paging, problem, schemas
from hub.http.caller import Admin, Caller, Reader
from hub.http.overview import Overview, metric_of
from hub.http.paging import take_page
from hub.http.parameters import known_parameters
from hub.http.problem import PROBLEMS, Refusal
from hub.http.question import DEVICE_SELECTORS, METRIC_SELECTORS
from hub.live.selection import matches, selection
from hub.model import store as stores
from hub.model.batch import Series
from hub.model.identity import Identity, Role
from wire import limits
from wire.errors import WireError
from wire.timestamp import NS_PER_S

encode = msgspec.json.Encoder().encode

MAX_EVENT_PAGE = 200
"""A device has no more of them, as the registry keeps them."""


class Event(Protocol):
    """An event as the registry has it."""

    @property
    def id(self) -> int: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def detail(self) -> str: ...


class Token(Protocol):
    """A token as the registry has it, without its secret."""

    @property
    def id(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def pattern(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def created_ns(self) -> int: ...
    @property
    def used_ns(self) -> int | None: ...
    @property
    def expires_ns(self) -> int | None: ...


class NewToken(Protocol):
    """A token that was just made."""

    @property
    def token(self) -> Token: ...
    @property
    def text(self) -> str: ...


class Registrar(Protocol):
    """What the API asks of the registry."""

    def tokens(self) -> Sequence[Token]: ...
    async def create_token(
        self, role: Role, *, pattern: str = "", label: str = "", expires_ns: int | None = None
    ) -> NewToken: ...
    async def revoke(self, ids: Iterable[str]) -> Sequence[str]: ...
    async def events(
        self, device: str | None = None, *, limit: int = 100, before: int | None = None
    ) -> Sequence[Event]: ...


DeviceId = Annotated[str, Path(max_length=limits.MAX_DEVICE_ID)]


def make_api(
    overview: Overview,
    registrar: Registrar,
    store: stores.Store,
    *,
    identify: Callable[[Request], Awaitable[Identity]],
    series: Callable[[], Iterable[Series]],
    version: str,
) -> FastAPI:
    """The API under /api/v1. `identify` gives the caller's identity or raises Refusal."""
    api = FastAPI(
        title="Telemetry Hub",
        version=version,
        openapi_url=None,
        dependencies=[Depends(known_parameters)],
        docs_url=None,
        redoc_url=None,
        description="Times are integer nanoseconds since 1970 UTC. Sign in with `Authorization: Bearer TOKEN`.",
    )
    problem.install(api)

    api.state.identify = identify

    @api.get("/api/v1/openapi.json", include_in_schema=False)
    async def description() -> Response:
        document = api.openapi()
        problem.describe(document)
        return _json(document)

    @api.get("/api/v1/hub", response_model=schemas.Hub, responses=PROBLEMS)
    async def hub(asks: Caller) -> Response:
        """Which hub and journal this is, and your role."""
        return _json(overview.hub(asks.role))

    @api.get("/api/v1/devices", response_model=schemas.Devices, responses=PROBLEMS)
    async def devices(
        _: Reader, limit: paging.Limit = paging.DEFAULT_LIMIT, cursor: paging.CursorText = None
    ) -> Response:
        """The fleet: every device in service with its state, its metrics and their latest values, in order of ids."""
        page = take_page(overview.device_ids(), str, list_name="devices", limit=limit, cursor=cursor, kind=str)
        return _json({"devices": [*filter(None, map(overview.device, page.items))], "next": page.next})

    @api.get("/api/v1/devices/{device}", response_model=schemas.Device, responses=PROBLEMS)
    async def device(_: Reader, device: DeviceId) -> Response:
        """One device."""
        return _json(_found(overview.device(device), device))

    @api.get("/api/v1/devices/{device}/metrics", response_model=schemas.Metrics, responses=PROBLEMS)
    async def metrics(
        _: Reader, device: DeviceId, limit: paging.Limit = paging.DEFAULT_LIMIT, cursor: paging.CursorText = None
    ) -> Response:
        """A device's metrics and their latest values, in order of names."""
        known: list[dict[str, Any]] = _found(overview.device(device), device)["metrics"]
        page = take_page(known, itemgetter("metric"), list_name="metrics", limit=limit, cursor=cursor, kind=str)
        return _json({"metrics": page.items, "next": page.next})

    @api.get("/api/v1/devices/{device}/events", response_model=schemas.Events, responses=PROBLEMS)
    async def events(
        _: Reader,
        device: DeviceId,
        limit: Annotated[int, Query(ge=1, le=MAX_EVENT_PAGE, description=paging.LIMIT)] = 100,
        cursor: paging.CursorText = None,
    ) -> Response:
        """A device's recent events, newest first."""
        _found(overview.device(device), device)
        before = None if cursor is None else paging.read_cursor(cursor, "events", int)
        found = await registrar.events(device, limit=limit + 1, before=before)
        page = paging.end_page([*found], attrgetter("id"), list_name="events", limit=limit)
        events = [{"id": e.id, "time_ns": e.time_ns, "kind": e.kind, "detail": e.detail} for e in page.items]
        return _json({"events": events, "next": page.next})

    @api.get("/api/v1/latest", response_model=schemas.Latest, responses=PROBLEMS)
    async def latest(
        _: Reader,
        device: Annotated[list[str] | None, Query(description=f"{DEVICE_SELECTORS} All without it.")] = None,
        metric: Annotated[list[str] | None, Query(description=METRIC_SELECTORS)] = None,
        limit: paging.Limit = paging.DEFAULT_LIMIT,
        cursor: paging.CursorText = None,
    ) -> Response:
        """The latest reading of each metric of these devices, as far as they are in service, in order of devices and
        metrics."""
        in_service = (one for one in series() if overview.is_in_service(one.device))
        chosen = filter(matches(selection(device or ["*"], metric or ["*"])), in_service)
        page = take_page(chosen, _name, list_name="latest", limit=limit, cursor=cursor, kind=tuple[str, str])
        return _json({"latest": [{"device": s.device, **metric_of(s)} for s in page.items], "next": page.next})

    @api.get("/api/v1/flow", response_model=schemas.Flow, responses=PROBLEMS)
    async def flow(
        asks: Caller,
        limit: Annotated[
            int | None,
            Query(
                ge=0,
                le=limits.MAX_SEQ,
                description="At most so many devices: those that do not balance, then those with most waiting. All "
                "without it; the totals are of all in any case.",
            ),
        ] = None,
    ) -> Response:
        """The books: where every batch and reading is. Device and gateway tokens see their own devices."""
        return _json(await overview.flow(asks, limit=limit))

    @api.get("/api/v1/tokens", response_model=schemas.Tokens, responses=PROBLEMS)
    async def tokens(
        _: Admin, limit: paging.Limit = paging.DEFAULT_LIMIT, cursor: paging.CursorText = None
    ) -> Response:
        """All tokens, without their secrets, in the order in which they were made."""
        page = take_page(
            registrar.tokens(), _made, list_name="tokens", limit=limit, cursor=cursor, kind=tuple[int, str]
        )
        return _json({"tokens": [_token(token) for token in page.items], "next": page.next})

    @api.post("/api/v1/tokens", status_code=201, response_model=schemas.MadeToken, responses=PROBLEMS)
    async def create_token(_: Admin, asked: schemas.NewToken) -> Response:
        """Make a token. Its text is in this answer and nowhere else."""
        role = Role(asked.role)
        for name, given, of in (("device", asked.device, Role.DEVICE), ("devices", asked.devices, Role.GATEWAY)):
            if given is not None and role is not of:
                detail = f"{name}: a token of role {role} takes none; {name} is for role {of}"
                raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        expires_ns = None if asked.expires_in_s is None else overview.now_ns() + asked.expires_in_s * NS_PER_S
        try:
            made = await registrar.create_token(
                role, pattern=asked.device or asked.devices or "", label=asked.label, expires_ns=expires_ns
            )
        except WireError as error:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, error.message) from None
        return _json({"id": made.token.id, "token": made.text}, HTTPStatus.CREATED)

    @api.delete("/api/v1/tokens/{id}", status_code=204, responses=PROBLEMS)
    async def revoke_token(_: Admin, id: str) -> Response:
        """Revoke a token; connections that were opened with it are closed at once."""
        if not await registrar.revoke([id]):
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no token {id}")
        return Response(status_code=HTTPStatus.NO_CONTENT)

    history.install(api, store, series=series, clock=overview.now_ns)
    return api


def _json(answer: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(
        encode(answer), status_code=status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _found(device: dict[str, Any] | None, id: str) -> dict[str, Any]:
    if device is None:
        raise Refusal(HTTPStatus.NOT_FOUND, f"there is no device {id}")
    return device


def _name(series: Series) -> tuple[str, str]:
    return series.device, series.metric


def _made(token: Token) -> tuple[int, str]:
    return token.created_ns, token.id


def _token(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "role": token.role,
        "pattern": token.pattern,
        "label": token.label,
        "created_ns": token.created_ns,
        "last_used_ns": token.used_ns,
        "expires_ns": token.expires_ns,
    }
