"""The real InfluxDB servers that other tests use."""

from __future__ import annotations

import httpx
import pytest

from tests.services.influxdb import Access, InfluxdbServer


@pytest.fixture(params=["influxdb1", "influxdb2"])
def server(request: pytest.FixtureRequest) -> InfluxdbServer:
    found: InfluxdbServer = request.getfixturevalue(request.param)
    return found


def credentials(access: Access) -> dict[str, str]:
    return {"Authorization": f"Token {access.token or f'{access.user}:{access.password}'}"}


def write(access: Access, line: str) -> httpx.Response:
    return httpx.post(
        f"{access.url}/api/v2/write",
        params={"org": access.org, "bucket": access.bucket},
        headers=credentials(access),
        content=line,
    )


def read(access: Access, query: str) -> list[list[object]]:
    answer = httpx.get(
        f"{access.url}/query", params={"db": access.bucket, "q": query, "epoch": "ns"}, headers=credentials(access)
    )
    return [
        row for series in answer.raise_for_status().json()["results"][0].get("series", []) for row in series["values"]
    ]


def test_a_server_reports_the_version_that_was_built(server: InfluxdbServer) -> None:
    """The server reports its version in the header by which the hub recognizes it."""
    assert httpx.get(f"{server.url}/ping").headers["X-Influxdb-Version"].lstrip("v") in ("1.8.10", "2.7.12")


def test_buckets_share_nothing(server: InfluxdbServer) -> None:
    """Each test gets an empty bucket."""
    first, second = server.fresh(), server.fresh()
    assert write(first, "telemetry,device=a temperature=20.5 1").status_code == 204
    assert read(first, "SELECT temperature FROM telemetry") == [[1, 20.5]]
    assert read(second, "SELECT temperature FROM telemetry") == []


def test_a_request_without_credentials_is_rejected(server: InfluxdbServer) -> None:
    """The server rejects requests without credentials, as tests of rejected credentials require."""
    access = server.fresh()
    wrong = Access(access.major, access.url, access.bucket, org=access.org, token="wrong:wrong")
    assert write(wrong, "telemetry value=1 1").status_code == 401


@pytest.mark.parametrize("kill", [False, True])
def test_a_server_restarts_with_its_address_and_data(server: InfluxdbServer, kill: bool) -> None:
    """After a stop or a kill the server has the same address and the same data."""
    access = server.fresh()
    assert write(access, "telemetry value=1i 1").status_code == 204
    with server.down(kill=kill), pytest.raises(httpx.ConnectError):
        write(access, "telemetry value=2i 2")
    assert read(access, "SELECT value FROM telemetry") == [[1, 1]]
