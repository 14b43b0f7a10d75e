"""The rights of each role to read: every GET operation of the API, found by its declaration, and the live endpoint."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from hub.http.application import LIVE_PATH
from hub.http.openapi import DescriptionRoutes
from hub.http.routes import RESOURCES
from hub.http.routing import operations_of
from hub.model.command import new_command
from hub.model.command_job import new_job
from hub.model.identity import ALLOWED, Role
from tests.hub.cli.hub_command import batch, commanded_hub
from tests.hub.http.opened_hub import HOST, connected, new_token, read_to_end

DEVICE = "pump"
COMMAND = "0" * 32
JOB = "1" * 32

QUERIES = {
    **{path: {"device": DEVICE} for path in ("/api/v1/history", "/api/v1/export", "/api/v1/quarantine")},
    "/api/v1/command-jobs/declared": {"to": DEVICE},
}
"""Parameters that an operation needs, by its path."""

PUBLIC = {
    *("/health", "/ready", "/metrics", "/api/v1/openapi.json"),
    *("/api/v1/download", "/download/", "/download/{file}"),
}
"""Paths that need no credential: they have no data of a device (docs/security.md, What is not protected)."""

OF_A_CODE = {"/open/{code}"}
"""Paths whose credential is the code in them."""

READS = {
    declared.path: declared.may
    for resource in (*RESOURCES, DescriptionRoutes)
    for declared in operations_of(resource)
    if declared.method == "GET"
}
"""The right that each GET operation needs, by its path."""


class Reader(NamedTuple):
    """A hub with a device that has readings and a message in quarantine, and a token of each role."""

    client: httpx.AsyncClient
    live: str
    offset: int
    tokens: dict[Role, str]

    async def get(self, path: str, role: Role | None) -> httpx.Response:
        """Return the answer to a request for what is the device's own, with a token of this role."""
        own = {
            "device": DEVICE,
            "offset": str(self.offset),
            "file": "agent.whl",
            "code": "x",
            "id": "x",
            "command": COMMAND,
            "job": JOB,
        }
        headers = {} if role is None else {"Authorization": f"Bearer {self.tokens[role]}"}
        wanted = re.sub(r"{(\w+)}", lambda match: own[match[1]], path)
        return await self.client.get(wanted, params=QUERIES.get(path), headers=headers)


@pytest.fixture(scope="module")
async def reader(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reader]:
    async with commanded_hub(tmp_path_factory.mktemp("roles")) as hub:
        await hub.send(DEVICE, batch(1, 1.0), batch(2, 2.0, metric="undeclared"))
        (offset,) = hub.services.journal.quarantine.index
        command = new_command(
            id=COMMAND, device=DEVICE, name="stop", parameters={}, operator="", now_ns=1, timeout_ms=1, ttl_s=1
        )
        await hub.services.registry.commands.insert(command, lambda _: None)
        job = new_job(
            id=JOB, to=[DEVICE], name="stop", parameters={}, operator="", now_ns=1, life_s=1, timeout_ms=1, ttl_s=1,
            is_confirmed=False, batch_size=1, stop_share=None, targets=1,
        )  # fmt: skip
        await hub.services.registry.command_jobs.insert(job, [DEVICE], lambda _: None)
        owned = {Role.DEVICE: DEVICE, Role.GATEWAY: "*"}
        tokens = {role: await new_token(hub.services, role, owned.get(role, "")) for role in Role}
        transport = httpx.ASGITransport(app=hub.services.application)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
            yield Reader(client, f"{hub.url}{LIVE_PATH}", offset, tokens)


async def test_a_device_token_reads_nothing(reader: Reader) -> None:
    """Every operation that is not public is forbidden, also for what the device itself has sent. A new operation is
    tested without a change here."""
    assert {"/api/v1/export", "/api/v1/flow", "/api/v1/quarantine/{offset}/payload"} < READS.keys()
    for path in READS:
        answer = await reader.get(path, Role.DEVICE)
        without = await reader.get(path, None)
        if path in PUBLIC:
            assert answer.status_code == without.status_code != 403, path
        else:
            assert answer.status_code == 403, path
            assert without.status_code == (403 if path in OF_A_CODE else 401), path
            assert DEVICE not in answer.text, path


async def test_public_paths_have_no_data_of_a_device(reader: Reader) -> None:
    """Neither a device's name nor its metrics."""
    for path in PUBLIC:
        answer = await reader.get(path, None)
        assert not re.search(rf"\b({DEVICE}|undeclared|flow=)\b", answer.text), path


async def test_other_roles_read_what_their_rights_allow(reader: Reader) -> None:
    """The requests are valid: an admin gets an answer to each."""
    for path, right in READS.items():
        if right is not None:
            for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER):
                expected = 200 if right in ALLOWED[role] else 403
                answer = await reader.get(path, role)
                assert answer.status_code == expected, (path, role, answer.text)
    own = {path for path in READS if (await reader.get(path, Role.GATEWAY)).status_code == 200} - PUBLIC
    assert own == {
        *("/api/v1/hub", "/api/v1/flow", "/api/v1/quarantine"),
        *("/api/v1/quarantine/{offset}", "/api/v1/quarantine/{offset}/payload"),
    }


async def test_a_device_token_gets_no_live_updates(reader: Reader) -> None:
    """The endpoint closes before it sends anything about the fleet."""
    try:
        async with connected(
            reader.live, token=reader.tokens[Role.DEVICE], subprotocols=["telemetry.live.v1"]
        ) as viewer:
            messages, code = await read_to_end(viewer)
    except ConnectionClosed:
        return
    assert code == 4403
    assert not any(DEVICE in str(message) for message in messages)
