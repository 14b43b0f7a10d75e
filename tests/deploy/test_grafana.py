"""Checks of dashboards/grafana: the provisioned files fit each other, and a real InfluxDB answers their queries."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from device_agent import Agent
from tests.deploy.compose import ROOT, Model
from tests.end_to_end.hub import running_hub
from tests.services.influxdb import Access, InfluxdbServer
from wire.model import Value

FOLDER = ROOT / "dashboards" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))}
SOURCE = (FOLDER / "provisioning" / "datasources" / "telemetry-hub.yaml").read_text()
PROVIDER = (FOLDER / "provisioning" / "dashboards" / "telemetry-hub.yaml").read_text()
READINGS = 30
STEP_S = 10


class Row(NamedTuple):
    """One series of InfluxDB's answer: its tags, columns and values."""

    tags: dict[str, str]
    columns: list[str]
    values: list[list[Any]]


def queries(dashboard: str) -> Iterator[tuple[str, str]]:
    """Return (title of the panel, query) of a dashboard."""
    for panel in DASHBOARDS[dashboard]["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["query"]


def interpolate(query: str, *, device: str, metric: str, start_s: int, end_s: int) -> str:
    """Return a query as Grafana sends it, with one device and one metric selected, or `.*` for all."""

    def choose(match: re.Match[str]) -> str:
        chosen = {"device": device, "metric": metric}[match[1]]
        return re.escape(chosen) if match[2] == ":regex" and chosen != ".*" else chosen

    query = query.replace("$timeFilter", f"time >= {start_s}000ms and time <= {end_s}000ms")
    query = re.sub(r"\$\{(\w+)(:regex)?\}", choose, query.replace("$__interval", f"{STEP_S * 3}s"))
    assert "$" not in query.replace(")$/", ""), query
    return query


def ask(access: Access, query: str) -> list[Row]:
    """Return the answer that the data source gets for an InfluxQL query of the bucket."""
    answer = httpx.post(
        f"{access.url}/query",
        params={"db": access.bucket, "epoch": "ms"},
        data={"q": query},
        headers={"Authorization": f"Token {access.token}"},
        timeout=30,
    )
    result = answer.raise_for_status().json()["results"][0]
    assert "error" not in result, f"{query}: {result['error']}"
    return [Row(row.get("tags", {}), row["columns"], row["values"]) for row in result.get("series", [])]


def test_dashboards_name_the_data_source_and_the_bucket_that_are_provisioned(model: Model) -> None:
    """The dashboards use the one provisioned data source, at the address of the Compose file, with the token of the
    first start."""
    uid = re.search(r"uid: (\S+)", SOURCE)
    assert uid is not None
    named = re.findall(r'"uid": "([^"]+)"', json.dumps(list(DASHBOARDS.values())))
    assert set(named) == {uid[1], *(d["uid"] for d in DASHBOARDS.values())}
    assert model["services"]["hub"]["environment"]["INFLUXDB_URL"] in SOURCE
    assert "dbName: $INFLUXDB_BUCKET" in SOURCE
    grafana = model["services"]["grafana"]
    assert "INFLUXDB_BUCKET" in grafana["environment"]
    mounted = {volume["target"]: volume["source"] for volume in grafana["volumes"]}
    place = re.search(r"path: (\S+)", PROVIDER)
    assert place is not None
    assert mounted[place[1]] == "./dashboards/grafana/dashboards"
    token = re.search(r"\$__file\{(.+)/influxdb-token\}", SOURCE)
    assert token is not None
    assert mounted[token[1]] == "grafana-secrets"
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{place[1]}/fleet.json"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_s_panels_are_its_own(name: str) -> None:
    """Panel ids are unique, panels do not overlap, and every used variable exists."""
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in panels)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells)
    used = set(re.findall(r"\$\{(\w+)(?::regex)?\}", " ".join(query for _, query in queries(name))))
    assert used == {variable["name"] for variable in DASHBOARDS[name]["templating"]["list"]}


async def test_the_queries_show_what_the_hub_stored(
    tmp_path_factory: pytest.TempPathFactory, influxdb2: InfluxdbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every panel and every variable is answered with the devices' readings, including texts and switches."""
    access = influxdb2.fresh()
    for name in ("url", "org", "bucket", "token"):
        monkeypatch.setenv(f"INFLUXDB_{name.upper()}", getattr(access, name))
    folder = tmp_path_factory.mktemp("grafana")
    end_s = int(time.time()) // 60 * 60 - 60
    start_s = end_s - READINGS * STEP_S
    async with running_hub(folder / "data") as hub:
        token = await hub.token("gateway", "--devices", "*")
        for device, kind in (("boiler-1", {"type": "boiler"}), ("boiler-2", {"type": "boiler"}), ("pump.1", {})):
            async with Agent(
                hub.ws_url, device=device, token=token, spool=folder / f"{device}.spool", tags=kind
            ) as agent:
                boiler: list[dict[str, Value]] = [
                    {"temperature": 20.0 + i, "burner": i % 2 == 0, "state": f"s{i}"} for i in range(READINGS)
                ]
                pump: list[dict[str, Value]] = [{"pressure": 1.5}] * READINGS
                times_ns = [(start_s + i * STEP_S) * 10**9 for i in range(READINGS)]
                await agent.send_rows(zip(times_ns, boiler if kind else pump, strict=True))
                await agent.drain()
        await hub.settled()

    where = {"start_s": start_s, "end_s": end_s}
    variables = {v["name"]: v["query"] for v in DASHBOARDS["fleet"]["templating"]["list"]}
    assert {value[1] for row in ask(access, variables["device"]) for value in row.values} == {
        "boiler-1",
        "boiler-2",
        "pump.1",
    }
    fields = {value[0] for row in ask(access, variables["metric"]) for value in row.values}
    assert fields == {"temperature", "burner", "state", "pressure"}

    # With everything selected, the answer of each panel has every device.
    for name in DASHBOARDS:
        for title, query in queries(name):
            rows = ask(access, interpolate(query, device=".*" if name == "fleet" else "boiler-2", metric=".*", **where))
            assert rows, title
            if 'GROUP BY "device"' in query:
                assert {row.tags["device"] for row in rows} == {"boiler-1", "boiler-2", "pump.1"}

    chosen = {
        (name, title, query): ask(access, interpolate(query, device="boiler-1", metric="temperature", **where))
        for name in DASHBOARDS
        for title, query in queries(name)
    }
    for (name, title, query), rows in chosen.items():
        (row,) = rows
        values = [value for *_, value in row.values if value is not None]
        if "count(" in query:
            assert sum(values) == READINGS, (name, title)
        elif "last(" in query:
            assert values == [20.0 + READINGS - 1], (name, title)
        else:
            # An interval has three readings: its lowest, highest and mean value.
            shift = {"min": 0, "mean": 1, "max": 2}[query.split()[1].partition("(")[0]]
            assert all(math.isclose(a, 20.0 + 3 * i + shift) for i, a in enumerate(values)), (name, title)
            assert len(values) == READINGS / 3

    # The latest values of a device include its texts and switches.
    latest = next(query for title, query in queries("device") if title == "Latest values")
    (row,) = ask(access, interpolate(latest, device="boiler-1", metric=".*", **where))
    shown = dict(zip(row.columns, row.values[0], strict=True))
    assert shown.pop("last_pressure") is None, "what only others have is empty"
    del shown["time"]
    assert shown == {"last_temperature": 49.0, "last_burner": False, "last_state": "s29"}
