"""Setup of buckets and databases on real servers."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from hub.model.store import StoreError
from hub.storage.influxdb.client import InfluxdbClient, InfluxdbCredentials, WriteAccepted
from hub.storage.influxdb.setup import DAY_S, SetupResult, set_up
from tests.hub.storage.influxdb.bucket import client_of, target_of
from tests.services.influxdb import Access, InfluxdbServer


async def test_a_bucket_is_made_once_with_its_retention(server: InfluxdbServer) -> None:
    """A repeated setup changes nothing. Another retention is set, and none keeps the current one."""
    access = server.fresh()
    access = replace(access, bucket=f"{access.bucket} 'new'")
    async with client_of(access) as asked:
        assert await set_up(asked, keep_days=30) == SetupResult(True, False, 30 * DAY_S)
        assert await set_up(asked, keep_days=30) == SetupResult(False, False, 30 * DAY_S)
        assert await set_up(asked, keep_days=None) == SetupResult(False, False, 30 * DAY_S)
        assert await set_up(asked, keep_days=60) == SetupResult(False, True, 60 * DAY_S)
        assert await set_up(asked, keep_days=0) == SetupResult(False, True, 0)
        assert await set_up(asked, keep_days=None) == SetupResult(False, False, 0)
        assert await asked.write(b"m,device=a f=1 1700000000000000000") == WriteAccepted()


async def test_a_retention_policy_of_its_own(influxdb1: InfluxdbServer) -> None:
    """InfluxDB 1: DATABASE/POLICY creates both, and readings go there."""
    access = influxdb1.fresh()
    access = replace(access, bucket=f"{access.bucket}-new/year")
    async with client_of(access) as asked:
        assert await set_up(asked, keep_days=365) == SetupResult(True, False, 365 * DAY_S)
        assert await set_up(asked, keep_days=365) == SetupResult(False, False, 365 * DAY_S)
        assert await asked.write(b"m,device=a f=1") == WriteAccepted()


async def test_missing_permissions_are_reported(influxdb2: InfluxdbServer) -> None:
    """A missing organisation, a wrong token, and a token without permission are reported."""
    access = influxdb2.fresh()
    messages = {
        replace(access, token="wrong"): "does not know these credentials: correct INFLUXDB_TOKEN",
        replace(access, org="nobody"): "no organisation nobody",
        replace(access, token=await reading_token(access)): "grant them permission to read and write it",
        replace(
            access, token=await reading_token(access), bucket="new"
        ): "no organisation tests: correct store.org, or create",
    }
    for wrong, message in messages.items():
        async with client_of(wrong) as asked:
            with pytest.raises(StoreError, match=message):
                await set_up(asked, keep_days=None)


async def test_a_user_without_administrator_rights_gets_an_error(influxdb1: InfluxdbServer) -> None:
    """InfluxDB 1: the error has the server's text and the missing permission."""
    access = influxdb1.fresh()
    user = (access.user, access.password)
    async with httpx.AsyncClient(base_url=access.url, auth=user, trust_env=False) as http:
        (await http.post("/query", data={"q": "CREATE USER plain WITH PASSWORD 'plain'"})).raise_for_status()
    target = target_of(replace(access, bucket="new"))
    async with InfluxdbClient(target, InfluxdbCredentials("", "plain", "wrong")) as asked:
        with pytest.raises(StoreError, match="does not know these credentials"):
            await set_up(asked, keep_days=None)
    async with InfluxdbClient(target, InfluxdbCredentials("", "plain", "plain")) as asked:
        with pytest.raises(StoreError, match="they need the permission to"):
            await set_up(asked, keep_days=None)


async def reading_token(access: Access) -> str:
    """Return a token that may only read the bucket."""
    headers = {"Authorization": f"Token {access.token}"}
    async with httpx.AsyncClient(base_url=access.url, headers=headers, trust_env=False) as http:
        found = (await http.get("/api/v2/buckets", params={"name": access.bucket})).json()["buckets"][0]
        resource = {"type": "buckets", "id": found["id"], "orgID": found["orgID"]}
        permissions = [{"action": "read", "resource": resource}]
        made = await http.post("/api/v2/authorizations", json={"orgID": found["orgID"], "permissions": permissions})
        return str(made.json()["token"])
