"""The OpenAPI description is complete: every answer is one that it names, and no request causes an internal error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent import Agent, Metric
from hub.http.problem import MEDIA_TYPE, TYPE_PREFIX, ProblemCode
from tests.end_to_end.hub import Hub, running_hub

SKIPPED = {"/api/v1/session"}
"""Signing in with wrong tokens is slowed down, which would take too long here."""

SENSIBLE = [
    *("pump", "*", "a", "1", "7", "0", "-1h", "now", "UTC"),
    *("csv", "json", "arrow", "line", "avg", "count", "minmax"),
]
ACCEPTED = ["*/*", "text/csv", "application/json", "image/png", "text/*;q=0.1", ";"]

encode = msgspec.json.encode
texts = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.one_of(st.sampled_from(SENSIBLE), texts, st.integers(-(2**70), 2**70).map(str))
names = st.sampled_from(["role", "label", "device"])
bodies = st.one_of(
    st.binary(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | texts,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner),
        max_leaves=4,
    ).map(encode),
    st.fixed_dictionaries({"role": st.sampled_from(["viewer", "device"]), "label": texts}).map(encode),
)
MOST_PARAMETERS = 24


class Attempt(NamedTuple):
    """A request to an operation: its parameters (None omits one), headers and body."""

    operation: int
    values: list[str | list[str] | None]
    accept: str
    content_type: str
    body: bytes


attempts = st.builds(
    Attempt,
    st.integers(0, 1_000),
    st.lists(
        st.none() | values | st.lists(values, min_size=1, max_size=2),
        min_size=MOST_PARAMETERS,
        max_size=MOST_PARAMETERS,
    ),
    st.sampled_from(ACCEPTED),
    st.sampled_from(["application/json", "text/plain"]),
    bodies,
)


class Described:
    """A hub and its OpenAPI description."""

    def __init__(self, hub: Hub, token: str, document: dict[str, Any], *, writer: str) -> None:
        self.tokens = {"/api/v1/readings": writer}
        self.client = httpx.AsyncClient(base_url=hub.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        self.operations = [
            (method, path, operation)
            for path, operations in document["paths"].items()
            if path not in SKIPPED
            for method, operation in operations.items()
        ]


@pytest.fixture(scope="module")
async def described(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Described]:
    """Run a hub with a device that has readings of two types."""
    async with running_hub(tmp_path_factory.mktemp("description") / "data") as hub:
        token = await hub.token("device", "--device", "pump")
        async with Agent(hub.url, device="pump", token=token, metrics=[Metric("a"), Metric("s", "string")]) as pump:
            await pump.send({"a": 1.5, "s": "on"})
            await pump.drain(30)
        await hub.settled()
        described = Described(hub, await hub.admin(), await hub.get("/api/v1/openapi.json"), writer=token)
        async with described.client:
            yield described


def media_type_of(answer: httpx.Response) -> str:
    return str(answer.headers.get("content-type", "")).partition(";")[0]


@given(attempts)
@settings(max_examples=150)
async def test_every_answer_is_one_that_the_description_names(described: Described, attempt: Attempt) -> None:
    """Every answer has a status and a media type that the description names; an error is a problem with a known code
    and a sentence."""
    method, path, operation = described.operations[attempt.operation % len(described.operations)]
    query: dict[str, Any] = {}
    parameters = operation.get("parameters", [])
    assert len(parameters) <= MOST_PARAMETERS
    for parameter, value in zip(parameters, attempt.values, strict=False):
        if parameter["in"] == "path":
            segment = value if isinstance(value, str) and value.strip(".") else "pump"
            path = path.replace(f"{{{parameter['name']}}}", quote(segment, safe=""))
        elif value is not None:
            query[parameter["name"]] = value
    headers = {"Accept": attempt.accept}
    if path in described.tokens:
        headers["Authorization"] = f"Bearer {described.tokens[path]}"
    body = attempt.body if "requestBody" in operation else None
    if body is not None:
        headers["Content-Type"] = attempt.content_type
    answer = await described.client.request(method, path, params=query, headers=headers, content=body)
    assert answer.status_code < 500, answer.text
    named = operation["responses"]
    assert str(answer.status_code) in named, answer.text
    if answer.content:
        assert media_type_of(answer) in named[str(answer.status_code)]["content"]
    if answer.status_code >= 400:
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["type"] == TYPE_PREFIX + ProblemCode(problem["code"])
        assert problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("POST", "/api/v1/devices", 405, "method_not_allowed", "GET"),
        ("DELETE", "/api/v1/history", 405, "method_not_allowed", "GET"),
        ("OPTIONS", "/api/v1/tokens", 405, "method_not_allowed", "GET, POST"),
        ("PUT", "/api/v1/quarantine/counts", 405, "method_not_allowed", "GET"),
        ("PUT", "/api/v1/none", 404, "not_found", None),
        ("GET", "/api/v1/devices/", 404, "not_found", None),
    ],
)
async def test_unknown_paths_and_methods_are_problems(
    described: Described, method: str, path: str, status: int, code: str | None, allow: str | None
) -> None:
    """The page's files never answer requests for the API; `Allow` has the methods of the path."""
    answer = await described.client.request(method, path)
    assert answer.status_code == status, answer.text
    assert answer.headers.get("allow") == allow
    if code is not None:
        assert (media_type_of(answer), answer.json()["code"]) == (MEDIA_TYPE, code)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"role=viewer", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{", "application/json", 422, "wrong_request"),
        (b"\xff", "application/json", 400, "wrong_request"),
        (b"x" * 100_000, "application/json", 413, "too_large"),
    ],
)
async def test_unreadable_bodies_are_problems(
    described: Described, body: bytes, content_type: str, status: int, code: str
) -> None:
    """An unreadable body is answered with a problem that says what to send."""
    answer = await described.client.post("/api/v1/tokens", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, media_type_of(answer), answer.json()["code"]) == (status, MEDIA_TYPE, code)
