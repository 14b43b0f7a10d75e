"""The operations about the files of the store, on a real hub."""

from __future__ import annotations

from pathlib import Path

from hub.model.identity import Role
from tests.hub.http.opened_hub import http_client, opened_hub

HOLDS = "/api/v1/store/holds"
VERIFICATION = "/api/v1/store/verification"


async def test_a_hold_is_begun_renewed_and_ended(tmp_path: Path) -> None:
    """A second one is a conflict meanwhile; an ended or unknown one is not found."""
    async with opened_hub(tmp_path / "data") as services, http_client(services) as admin:
        begun = await admin.post(HOLDS)
        assert begun.status_code == 201
        id = begun.json()["id"]
        assert (await admin.post(HOLDS)).status_code == 409
        assert (await admin.post(f"{HOLDS}/{id}")).status_code == 204
        assert (await admin.post(f"{HOLDS}/other")).status_code == 404
        assert (await admin.delete(f"{HOLDS}/{id}")).status_code == 204
        ended = await admin.delete(f"{HOLDS}/{id}")
        assert ended.status_code == 404
        assert "not consistent" in ended.json()["detail"]


async def test_only_an_admin_may_hold_or_verify_the_store(tmp_path: Path) -> None:
    """A hold stops the store, and a verification reads all of it."""
    async with opened_hub(tmp_path / "data") as services, http_client(services, Role.OPERATOR) as operator:
        for request in (operator.post(HOLDS), operator.delete(f"{HOLDS}/x"), operator.get(VERIFICATION)):
            assert (await request).status_code == 403


async def test_the_store_is_verified_in_parts(tmp_path: Path) -> None:
    """`next` leads through all tables to null."""
    async with opened_hub(tmp_path / "data") as services, http_client(services) as admin:
        position: int | None = 0
        while position is not None:
            answer = (await admin.get(VERIFICATION, params={"position": position})).json()
            assert answer["problem"] is None
            position = answer["next"]
        assert answer["verified"] == answer["total"] > 0
