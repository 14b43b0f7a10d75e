"""Making buckets and databases on real servers."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from hub.model.store import StoreError
from hub.storage.influxdb.answer import Stored
from hub.storage.influxdb.server import Credentials, Server
from hub.storage.influxdb.setup import DAY_S, Setup, set_up
from tests.hub.storage.influxdb.bucket import credentials_of, target_of
from tests.services.influxdb import Access, InfluxdbServer


@pytest.fixture(params=["influxdb1", "influxdb2"])
def server(request: pytest.FixtureRequest) -> InfluxdbServer:
    """One of the two versions."""
    found: InfluxdbServer = request.getfixturevalue(request.param)
    return found


async def test_a_bucket_is_made_once_with_its_retention(server: InfluxdbServer) -> None:
    """Asked again, nothing changes; another retention is taken over, and none leaves it as it is."""
    access = server.fresh()
    access = replace(access, bucket=f"{access.bucket} 'new'")
    async with Server(target_of(access), credentials_of(access)) as asked:
        assert await set_up(asked, keep_days=30) == Setup(True, False, 30 * DAY_S)
        assert await set_up(asked, keep_days=30) == Setup(False, False, 30 * DAY_S)
        assert await set_up(asked, keep_days=None) == Setup(False, False, 30 * DAY_S)
        assert await set_up(asked, keep_days=60) == Setup(False, True, 60 * DAY_S)
        assert await set_up(asked, keep_days=0) == Setup(False, True, 0)
        assert await set_up(asked, keep_days=None) == Setup(False, False, 0)
        assert await asked.write(b"m,device=a f=1 1700000000000000000") == Stored()


async def test_a_retention_policy_of_its_own(influxdb1: InfluxdbServer) -> None:
    """InfluxDB 1: DATABASE/POLICY makes both, and readings go there."""
    access = influxdb1.fresh()
    access = replace(access, bucket=f"{access.bucket}-new/year")
    async with Server(target_of(access), credentials_of(access)) as asked:
        assert await set_up(asked, keep_days=365) == Setup(True, False, 365 * DAY_S)
        assert await set_up(asked, keep_days=365) == Setup(False, False, 365 * DAY_S)
        assert await asked.write(b"m,device=a f=1") == Stored()


async def test_what_is_missing_is_said(influxdb2: InfluxdbServer) -> None:
    """An organisation that is not there, a wrong token, and one that may do too little."""
    access = influxdb2.fresh()
    told = {
        replace(access, token="wrong"): "does not know these credentials: correct INFLUXDB_TOKEN",
        replace(access, org="nobody"): "no organisation nobody",
        replace(access, token=await reading_token(access)): "give them permission to read and write it",
        replace(
            access, token=await reading_token(access), bucket="new"
        ): "no organisation tests: correct store.org, or make",
    }
    for wrong, words in told.items():
        async with Server(target_of(wrong), credentials_of(wrong)) as asked:
            with pytest.raises(StoreError, match=words):
                await set_up(asked, keep_days=None)


async def test_a_user_who_is_no_administrator_is_told(influxdb1: InfluxdbServer) -> None:
    """InfluxDB 1: its own words, and the right that is missing."""
    access = influxdb1.fresh()
    user = (access.user, access.password)
    async with httpx.AsyncClient(base_url=access.url, auth=user, trust_env=False) as http:
        (await http.post("/query", data={"q": "CREATE USER plain WITH PASSWORD 'plain'"})).raise_for_status()
    target = target_of(replace(access, bucket="new"))
    async with Server(target, Credentials("", "plain", "wrong")) as asked:
        with pytest.raises(StoreError, match="does not know these credentials"):
            await set_up(asked, keep_days=None)
    async with Server(target, Credentials("", "plain", "plain")) as asked:
        with pytest.raises(StoreError, match="they need the permission to"):
            await set_up(asked, keep_days=None)


async def reading_token(access: Access) -> str:
    """A token that may only read the bucket."""
    headers = {"Authorization": f"Token {access.token}"}
    async with httpx.AsyncClient(base_url=access.url, headers=headers, trust_env=False) as http:
        found = (await http.get("/api/v2/buckets", params={"name": access.bucket})).json()["buckets"][0]
        resource = {"type": "buckets", "id": found["id"], "orgID": found["orgID"]}
        permissions = [{"action": "read", "resource": resource}]
        made = await http.post("/api/v2/authorizations", json={"orgID": found["orgID"], "permissions": permissions})
        return str(made.json()["token"])
