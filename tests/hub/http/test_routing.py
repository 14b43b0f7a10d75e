"""Tests of the validation of requests: parameters, bodies, and the rights of the caller."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from msgspec import Meta, Struct, field
from starlette.applications import Starlette

from hub.http.access import Access
from hub.http.authenticator import Authenticator
from hub.http.problem import HANDLERS
from hub.http.routing import Operation, operations_of, routes_of
from hub.model.identity import Action, Identity, Role


class EchoQuery(Struct, frozen=True):
    """Parameters of every kind."""

    device: list[str] | None = None
    limit: Annotated[int, Meta(ge=1, le=9)] = 5
    start: str | None = field(name="from", default=None)
    everything: Annotated[bool, Meta(description="Whether all are meant.")] = field(name="all", default=False)


class EchoBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A body with a required field."""

    role: str
    seconds: Annotated[int, Meta(ge=1)] | None = None


class Echo(Struct, frozen=True):
    """The arguments of an operation."""

    values: dict[str, Any]


class EchoRoutes:
    """Operations that return their arguments."""

    @Operation("GET", "/echo")
    async def read(self, query: EchoQuery) -> Echo:
        """Return the query."""
        return Echo({"device": query.device, "limit": query.limit, "from": query.start, "all": query.everything})

    @Operation("GET", "/echo/{offset}", may=Action.READ)
    async def read_one(self, caller: Identity, offset: Annotated[int, Meta(ge=1)]) -> Echo:
        """Return the part of the path."""
        return Echo({"offset": offset, "role": caller.role})

    @Operation("POST", "/echo", status=201)
    async def create(self, body: EchoBody) -> Echo:
        """Return the body."""
        return Echo({"role": body.role, "seconds": body.seconds})

    @Operation("DELETE", "/echo", status=204)
    async def delete(self) -> None:
        """Return nothing."""

    @Operation("POST", "/readings", may=Action.WRITE, status=204)
    async def write(self) -> None:
        """Return nothing to a device."""


async def refresh() -> None: ...


async def request(method: str, path: str, **more: Any) -> httpx.Response:
    identities = {"v": Identity("v", Role.VIEWER), "d": Identity("d", Role.DEVICE, "pump")}
    authenticator = Authenticator(Access(identities.get, identities.get), refresh)
    api = Starlette(routes=routes_of(EchoRoutes(), authenticator), exception_handlers=HANDLERS)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://hub") as client:
        return await client.request(method, path, **more)


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("", {"device": None, "limit": 5, "from": None, "all": False}),
        ("device=a&device=b&limit=3&from=null", {"device": ["a", "b"], "limit": 3, "from": "null", "all": False}),
        ("limit=1&limit=2", {"device": None, "limit": 2, "from": None, "all": False}),
    ],
)
async def test_query_parameters_are_converted_to_their_types(query: str, values: dict[str, Any]) -> None:
    """A list takes every value of its parameter, any other type the last one."""
    answer = await request("GET", f"/echo?{query}")
    assert (answer.status_code, answer.json()) == (200, {"values": values})
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("On", True), ("1", True), ("no", False), ("off", False)])
async def test_a_boolean_has_several_words(word: str, value: bool) -> None:
    """Words that forms and scripts use mean true or false, in upper or lower case."""
    assert (await request("GET", f"/echo?all={word}")).json()["values"]["all"] is value


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=10", "query.limit: Expected `int` <= 9"),
        ("limit=many", "query.limit: Expected `int`, got `str`"),
        ("limt=3", "limt: there is no such parameter here; was limit meant?"),
        ("colour=red", "colour: there is no such parameter here; there is device, limit, from, all"),
        ("start=1", "start: there is no such parameter here; there is device, limit, from, all"),
    ],
)
async def test_an_invalid_query_parameter_is_named(query: str, detail: str) -> None:
    """The answer is a 422 problem with the reason."""
    answer = await request("GET", f"/echo?{query}")
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (b"{}", 422, "body.role: required, and it is missing"),
        (b'{"role": "a", "seconds": 0}', 422, "body.seconds: Expected `int` >= 1"),
        (b'{"role": "a", "colour": "red"}', 422, "body.colour: there is no such field"),
        (b'{"role": 1}', 422, "body.role: Expected `str`, got `int`"),
        (b"[]", 422, "body: Expected `object`, got `array`"),
        (b"", 422, "body: Input data was truncated"),
        (b"\xff", 400, "the body is not UTF-8 text"),
    ],
)
async def test_an_invalid_field_of_a_body_is_named(content: bytes, status: int, detail: str) -> None:
    """So is a body that is no JSON."""
    answer = await request("POST", "/echo", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(detail)


async def test_a_body_needs_the_media_type_of_json() -> None:
    """Any other is a 415 problem."""
    content = b'{"role": "a"}'
    assert (await request("POST", "/echo", content=content)).status_code == 415
    answer = await request("POST", "/echo", content=content, headers={"Content-Type": "application/x+json; a=b"})
    assert (answer.status_code, answer.json()) == (201, {"values": {"role": "a", "seconds": None}})


async def test_an_operation_without_an_answer_has_no_body() -> None:
    """Its status is 204."""
    answer = await request("DELETE", "/echo")
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    ("token", "path", "status"),
    [(None, "/echo/1", 401), ("d", "/echo/1", 403), ("v", "/echo/1", 200), ("v", "/echo/0", 422), (None, "/echo", 200)],
)
async def test_the_caller_needs_the_right_of_the_operation(token: str | None, path: str, status: int) -> None:
    """An operation without a right and without a caller is public."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    assert (await request("GET", path, headers=headers)).status_code == status


@pytest.mark.parametrize(("method", "path", "role"), [("GET", "/echo/1", "viewer"), ("POST", "/readings", "device")])
async def test_a_caller_without_a_token_is_given_the_command_that_creates_one(
    method: str, path: str, role: str
) -> None:
    """Its role has the right of the operation."""
    answer = await request(method, path)
    assert (answer.status_code, f"`hub token create --role {role}" in answer.json()["detail"]) == (401, True)


async def test_a_caller_with_an_invalid_token_learns_that_it_is_not_valid() -> None:
    """And not that there is none."""
    answer = await request("GET", "/echo/1", headers={"Authorization": "Bearer unknown"})
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (401, "the token is not valid")


def test_the_operations_of_a_resource_come_in_the_order_of_their_declaration() -> None:
    """The OpenAPI document has the same order."""
    assert [found.handler.__name__ for found in operations_of(EchoRoutes)] == [
        "read",
        "read_one",
        "create",
        "delete",
        "write",
    ]
