"""The HTTP API of a real hub: its answers and errors match its OpenAPI description."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from device_agent import Agent, Metric
from hub.http import answers
from tests.end_to_end.hub import Hub, running_hub

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND
METRICS = [
    Metric("temperature", unit="°C", description="of the bearing"),
    Metric("count", "integer"),
    Metric("open", "boolean"),
    Metric("state", "string"),
]


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """Run a hub with two devices; `pump` has 100 rows."""
    async with running_hub(tmp_path_factory.mktemp("api") / "data") as hub:
        token = await hub.token("gateway", "--devices", "*")
        async with (
            Agent(hub.url, device="pump", token=token, metrics=METRICS, tags={"site": "hall 3"}) as pump,
            Agent(hub.url, device="fan", token=token) as fan,
        ):
            times = [BEGIN + row * SECOND for row in range(100)]
            await pump.send_columns(
                times,
                {
                    "temperature": [20 + row / 10 for row in range(100)],
                    "count": [2**62 + row for row in range(100)],
                    "open": [row % 2 == 0 for row in range(100)],
                    "state": [f'say "{row}", now' for row in range(100)],
                },
            )
            await fan.send({"speed": 900.0})
            await pump.drain(30)
            await fan.drain(30)
            await hub.settled()
            yield hub


async def ask(hub: Hub, path: str, token: str | None = None, method: str = "GET", **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {await hub.admin() if token is None else token}"} if token != "" else {}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=30) as client:
        return await client.request(method, path, **more)


async def test_every_answer_is_the_struct_of_its_operation(hub: Hub) -> None:
    """An answer has exactly the fields of the struct from which the OpenAPI document is made."""
    for path, kind, query in (
        ("/api/v1/hub", answers.HubDetails, {}),
        ("/api/v1/devices", answers.DevicesPage, {}),
        ("/api/v1/devices/pump", answers.DeviceDetails, {}),
        ("/api/v1/devices/pump/metrics", answers.MetricsPage, {}),
        ("/api/v1/devices/pump/events", answers.EventsPage, {}),
        ("/api/v1/latest", answers.LatestPage, {}),
        ("/api/v1/history", answers.HistoryAnswer, {"device": "*"}),
        ("/api/v1/flow", answers.FlowDetails, {}),
        ("/api/v1/tokens", answers.TokensPage, {}),
        ("/api/v1/mqtt", answers.BridgesAnswer, {}),
        ("/ready", answers.Readiness, {}),
    ):
        answer = await hub.get(path, **query)
        assert msgspec.to_builtins(msgspec.convert(answer, kind)) == answer


async def test_the_description_is_openapi_3_1_and_names_every_path(hub: Hub) -> None:
    """Client code can be generated from /api/v1/openapi.json."""
    description = (await ask(hub, "/api/v1/openapi.json", "")).json()
    assert description["openapi"].startswith("3.1")
    for path in (
        "devices", "devices/{device}", "devices/{device}/events", "latest", "history", "flow", "quarantine", "tokens"
    ):  # fmt: skip
        assert f"/api/v1/{path}" in description["paths"]


async def test_a_device_has_its_state_tags_metrics_and_latest_values(hub: Hub) -> None:
    """A device's answer has exactly what was declared and sent last, also integers beyond 2^53."""
    device = await hub.get("/api/v1/devices/pump")
    assert (device["connected"], device["tags"], device["acked"]) == (True, {"site": "hall 3"}, 1)
    latest = {metric["metric"]: metric["latest"]["value"] for metric in device["metrics"]}
    assert latest == {"temperature": 29.9, "count": 2**62 + 99, "open": False, "state": 'say "99", now'}
    temperature = next(metric for metric in device["metrics"] if metric["metric"] == "temperature")
    assert (temperature["unit"], temperature["description"]) == ("°C", "of the bearing")


async def test_history_is_the_same_in_json_and_csv(hub: Hub) -> None:
    """JSON and CSV have every stored reading in order, with its exact time and value; `from` is included and `to` is
    not."""
    query = {"device": "pump", "from": str(BEGIN), "to": "2023-11-14T22:14:20Z", "points": 0}
    answer = await hub.get("/api/v1/history", **query)
    by_metric = {series["metric"]: series for series in answer["series"]}
    assert by_metric["count"]["values"] == [2**62 + row for row in range(60)]
    assert by_metric["state"]["time_ns"] == [BEGIN + row * SECOND for row in range(60)]
    text = (await ask(hub, "/api/v1/history", params={**query, "format": "csv"})).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 240
    from_csv = [(int(row["time_ns"]), row["value"]) for row in rows if row["metric"] == "state"]
    assert from_csv == list(zip(by_metric["state"]["time_ns"], by_metric["state"]["values"], strict=True))
    assert [int(row["time_ns"]) for row in rows] == sorted(int(row["time_ns"]) for row in rows)
    assert rows[0]["time"] == "2023-11-14T22:13:20.000000000Z"


async def test_history_is_reduced_to_the_requested_points_and_keeps_extremes(hub: Hub) -> None:
    """A reduced history has at most the requested points, with the lowest and the highest value among them."""
    answer = await hub.get("/api/v1/history", device="pump", metric="temperature", points=10, **{"from": str(BEGIN)})
    series = answer["series"][0]
    assert series["resolution"] == "reduced"
    assert len(series["values"]) <= 10
    assert (min(series["values"]), max(series["values"])) == (20.0, 29.9)


@pytest.mark.parametrize(
    ("path", "query", "status", "says"),
    [
        ("/api/v1/devices/nobody", {}, 404, "no device nobody"),
        ("/api/v1/nothing", {}, 404, "openapi.json"),
        ("/api/v1/history", {}, 422, "device"),
        ("/api/v1/history", {"device": "pump", "points": 1_000_000}, 422, "points"),
        ("/api/v1/history", {"device": "pump", "points": 1}, 422, "points: 2 or more"),
        ("/api/v1/quarantine", {"limit": 101}, 422, "limit"),
        ("/api/v1/quarantine", {"before": 1}, 422, "before: there is no such parameter here"),
        ("/api/v1/quarantine", {"cursor": "x"}, 422, "this is no cursor of quarantine"),
        ("/api/v1/quarantine/7", {}, 404, "7 is not in quarantine"),
        (
            "/api/v1/history",
            {"device": "pump", "from": "yesterday"},
            422,
            "from: 'yesterday' is not a time: write nanoseconds",
        ),
        ("/api/v1/history", {"device": "pump", "to": "1e9"}, 422, "to: '1e9' is not a time"),
        ("/api/v1/history", {"device": "pump", "from": "²"}, 422, "from: '²' is not a time"),
        ("/api/v1/history", {"device": "pump", "from": "5" * 5000}, 422, f"from: '{'5' * 40}…' is not a time"),
        ("/api/v1/history", {"device": "pump", "from": "2026-01-01"}, 422, "for example 2026-01-01T00:00:00Z"),
        ("/api/v1/devices/pump/events", {"before": 3}, 422, "before: there is no such parameter"),
        ("/api/v1/devices/pump/events", {"limt": 3}, 422, "was limit meant?"),
        ("/api/v1/history", {"device": "pump", "from": "2024-01-01T00:00:00"}, 422, "time zone"),
        ("/api/v1/history", {"device": "pump", "from": "5", "to": "5"}, 422, "before"),
        ("/api/v1/history", {"device": "pump", "from": str(2**63)}, 422, "2262"),
        ("/api/v1/history", {"device": "pump", "format": "xml"}, 422, "format"),
    ],
)
async def test_a_wrong_request_is_a_problem_that_says_what_is_wrong(
    hub: Hub, path: str, query: dict[str, Any], status: int, says: str
) -> None:
    """An error is application/problem+json with the status and a sentence."""
    answer = await ask(hub, path, params=query)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert says in answer.json()["detail"]
    assert answer.json()["status"] == status


async def test_each_role_has_its_rights_and_no_others(hub: Hub) -> None:
    """A request without a token is answered with 401. A viewer reads and does not administer; a gateway reads the
    accounting and the quarantine of its devices only; a device reads nothing."""
    viewer = await hub.token("viewer")
    device = await hub.token("device", "--device", "fan")
    gateway = await hub.token("gateway", "--devices", "fan")
    for token, path, status in [
        ("", "/api/v1/quarantine", 401),
        (viewer, "/api/v1/quarantine", 200),
        (device, "/api/v1/quarantine", 403),
        (device, "/api/v1/quarantine?device=pump", 403),
        (device, "/api/v1/quarantine?device=fan", 403),
        (gateway, "/api/v1/quarantine", 403),
        (gateway, "/api/v1/quarantine?device=pump", 403),
        (gateway, "/api/v1/quarantine?device=fan", 200),
        ("", "/api/v1/devices", 401),
        ("wrong", "/api/v1/devices", 401),
        (viewer, "/api/v1/devices", 200),
        (viewer, "/api/v1/tokens", 403),
        (device, "/api/v1/devices", 403),
        (device, "/api/v1/flow", 403),
        (gateway, "/api/v1/flow", 200),
    ]:
        answer = await ask(hub, path, token)
        assert answer.status_code == status, (path, answer.text)
    assert [d["device"] for d in (await ask(hub, "/api/v1/flow", gateway)).json()["devices"]] == ["fan"]


async def test_a_token_is_created_used_and_revoked_over_the_api(hub: Hub) -> None:
    """The text of a token is in one answer only; after its revocation it is rejected."""
    made = (await ask(hub, "/api/v1/tokens", method="POST", json={"role": "viewer", "label": "wall"})).json()
    assert (await ask(hub, "/api/v1/hub", made["token"])).json()["role"] == "viewer"
    listed = next(token for token in (await hub.get("/api/v1/tokens"))["tokens"] if token["id"] == made["id"])
    assert listed["label"] == "wall"
    assert made["token"] not in str(listed)
    assert (await ask(hub, f"/api/v1/tokens/{made['id']}", method="DELETE")).status_code == 204
    assert (await ask(hub, "/api/v1/hub", made["token"])).status_code == 401
    assert (await ask(hub, f"/api/v1/tokens/{made['id']}", method="DELETE")).status_code == 404


@pytest.mark.parametrize(
    ("requested", "says"),
    [
        ({"role": "viewer", "colour": "red"}, "body.colour"),
        ({"role": "gateway", "device": "pump", "devices": "p*"}, "device: a token of role gateway takes none"),
        ({"role": "device", "device": "pump", "devices": "p*"}, "devices: a token of role device takes none"),
        ({"role": "viewer", "devices": "*"}, "devices: a token of role viewer takes none"),
        ({"role": "gateway"}, "a gateway token needs a pattern"),
        ({"role": "viewer", "expires_in_s": 0}, "body.expires_in_s"),
        ({"role": "viewer", "expires_in_s": 10**12}, "body.expires_in_s"),
    ],
)
async def test_an_invalid_token_is_not_created(hub: Hub, requested: dict[str, Any], says: str) -> None:
    """A request with a field that would have no effect is rejected, so that every token is as limited as its creator
    expects."""
    before = await hub.get("/api/v1/tokens")
    answer = await ask(hub, "/api/v1/tokens", method="POST", json=requested)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert len((await hub.get("/api/v1/tokens"))["tokens"]) == len(before["tokens"])


async def test_a_token_may_expire(hub: Hub) -> None:
    """A token expires the requested number of seconds after its creation."""
    made = (await ask(hub, "/api/v1/tokens", method="POST", json={"role": "viewer", "expires_in_s": 3600})).json()
    listed = next(token for token in (await hub.get("/api/v1/tokens"))["tokens"] if token["id"] == made["id"])
    assert abs(listed["expires_ns"] - listed["created_ns"] - 3600 * SECOND) < SECOND


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, {"pump", "fan"}),
        ({"device": "p*"}, {"pump"}),
        ({"device": ["fan", "p*"], "metric": "spe*"}, {"fan"}),
        ({"device": "q*"}, set()),
    ],
)
async def test_latest_and_history_select_the_same_series(hub: Hub, query: dict[str, Any], expected: set[str]) -> None:
    """The same patterns select the same devices and metrics in both operations."""
    latest = (await hub.get("/api/v1/latest", **query))["latest"]
    assert {entry["device"] for entry in latest} == expected
    past = await hub.get("/api/v1/history", **{"device": "*", "from": "0", **query})
    assert {(entry["device"], entry["metric"]) for entry in past["series"]} == {
        (entry["device"], entry["metric"]) for entry in latest
    }


async def test_a_one_time_url_signs_a_browser_in_once(hub: Hub) -> None:
    """The URL becomes a cookie that can read; a second use is rejected; signing out ends it; pages of other sites
    cannot use it."""
    url = await hub.run("token", "url", "--data", str(hub.data))
    path = "/open/" + url.rpartition("/open/")[2].split()[0]
    async with httpx.AsyncClient(base_url=hub.url, timeout=30) as browser:
        assert (await browser.get(path)).status_code == 303
        assert (await browser.get("/api/v1/hub")).json()["role"] == "admin"
        foreign = await browser.post(
            "/api/v1/tokens", json={"role": "admin"}, headers={"Origin": "https://evil.example"}
        )
        assert foreign.status_code == 403
        assert (await browser.post("/api/v1/tokens", json={"role": "admin"})).status_code == 403
        own = await browser.post("/api/v1/tokens", json={"role": "viewer"}, headers={"Origin": hub.url})
        assert own.status_code == 201
        assert (await browser.delete("/api/v1/session", headers={"Origin": hub.url})).status_code == 204
        assert (await browser.get("/api/v1/hub")).status_code == 401
    assert (await ask(hub, path, "")).status_code == 403


async def test_every_counter_of_a_loss_exists_from_the_start(hub: Hub) -> None:
    """Every counter of a loss is in the accounting and in the metrics, and starts at zero, so it can be monitored."""
    flow = await hub.get("/api/v1/flow")
    assert (flow["store"]["phase"], flow["store"]["error"], flow["store"]["missed"]) == ("running", None, 0)
    assert (flow["quarantine_dropped"], flow["dropped_events"], flow["bad_messages"]) == (0, 0, 0)
    families = {f.name: f for f in text_string_to_metric_families((await ask(hub, "/metrics", "")).text)}
    for name in ("missed_entries", "quarantine_dropped", "dropped_events", "bad_messages"):
        assert [sample.value for sample in families[f"hub_{name}"].samples] == [0]


async def test_health_ready_and_metrics_need_no_token_and_are_correct(hub: Hub) -> None:
    """The operations endpoints need no token; the metrics can be parsed, count the accepted readings, and have no
    device as a label."""
    assert (await ask(hub, "/health", "")).text == "ok\n"
    assert (await ask(hub, "/ready", "")).json() == {"ready": True, "problems": {}, "warnings": {}}
    families = {f.name: f for f in text_string_to_metric_families((await ask(hub, "/metrics", "")).text)}
    assert families["hub_accepted_readings"].samples[0].value == 401
    assert families["hub_devices_connected"].samples[0].value == 2
    assert not any("pump" in str(sample.labels) for family in families.values() for sample in family.samples)


async def test_the_page_is_compressed_and_loads_only_its_own_files(hub: Hub) -> None:
    """The script is compressed to a third of its size; the page runs no inline script and no script of another site."""
    page = await ask(hub, "/", "")
    assert "unsafe" not in page.headers["content-security-policy"]
    script = re.findall(r'src="(/assets/[^"]+\.js)"', page.text)
    assert script, "the dashboard is not built: run `make test`"
    answer = await ask(hub, script[0], "")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.num_bytes_downloaded * 2 < len(answer.content)


async def test_another_host_name_is_refused(hub: Hub) -> None:
    """A request with a foreign host name, as in DNS rebinding, is rejected."""
    answer = await ask(hub, "/health", "", headers={"Host": "evil.example"})
    assert answer.status_code == 403


async def test_listening_off_loopback_needs_tls(tmp_path: Path) -> None:
    """The hub does not start, and its error says what to do."""
    hub = Hub(tmp_path / "data")
    with pytest.raises(AssertionError, match=r"refusing to listen on .* without TLS"):
        await hub.start(listen="0.0.0.0:0")
