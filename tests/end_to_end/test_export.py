"""Export of every reading from a real hub as CSV, line protocol, Arrow and Parquet."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from line_protocol_parser import parse_line

from device_agent import Agent, Metric
from hub.storage.duckdb.store import MAX_SCANS
from tests.end_to_end.cut_connection import cut_connection
from tests.end_to_end.hub import COMMAND, Hub, running_hub

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND
ROWS = 100_000
"""Rows of one metric: more than a piece of a scan."""
STATE = 'the state, "now"'
METRICS = [Metric("level", unit="m"), Metric("count", "integer"), Metric("open", "boolean"), Metric(STATE, "string")]
COLUMNS: dict[str, list[Any]] = {"count": [2**63 - 1, -1], "open": [True, False], STATE: ['say "x",\\', ""]}

BIG_METRICS = 25
BIG_ROWS = 100_000
"""Rows of each large metric: 2.5 million readings, 200 MB as CSV."""

MAX_GROWTH_BYTES = 400_000_000
"""Memory growth of the hub during an export: 128 MB that a scan reads at once, the same again while they are sorted,
and DuckDB's blocks of the file. It does not depend on the number of readings; as Python lists they would take 1 GB."""


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """Run a hub with `tank`, which has a long metric and a short one of each other type, and with `big`."""
    async with running_hub(tmp_path_factory.mktemp("export") / "data") as hub:
        token = await hub.token("gateway", "--devices", "*")
        async with Agent(hub.url, device="tank", token=token, metrics=METRICS) as tank:
            for start in range(0, ROWS, 10_000):
                rows = range(start, start + 10_000)
                await tank.send_columns([BEGIN + row * SECOND for row in rows], {"level": [row / 8 for row in rows]})
            await tank.send_columns([BEGIN + 123_456_789, BEGIN + SECOND], COLUMNS)
            await tank.drain(30)
        names = [f"m{number}" for number in range(BIG_METRICS)]
        async with Agent(hub.url, device="big", token=token, metrics=[Metric(name) for name in names]) as big:
            for start in range(0, BIG_ROWS, 500):
                column = [row / 8 for row in range(start, start + 500)]
                times = [BEGIN + row * SECOND for row in range(start, start + 500)]
                await big.send_columns(times, dict.fromkeys(names, column))
                if start % 10_000 == 0:
                    await big.drain(30)
            await big.drain(30)
        flow = await hub.settled()
        assert sum(device["lost_batches"] for device in flow["devices"]) == 0
        yield hub


async def client(hub: Hub) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=hub.url, headers={"Authorization": f"Bearer {await hub.admin()}"}, timeout=30)


async def export(hub: Hub, *arguments: str, url: str | None = None) -> tuple[int, bytes, str]:
    """Run `hub export` with these arguments; return its exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "export",
        *arguments,
        *("--url", url or hub.url, "--token", await hub.admin()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out, errors.decode()


def readings_of(table: pa.Table) -> list[tuple[str, str, str, int, Any]]:
    """Return (device, metric, unit, time_ns, value) of an export's Arrow table."""
    columns = [table[name].to_pylist() for name in ("device", "metric", "unit")]
    columns.append(table["time"].cast(pa.int64()).to_pylist())
    values = zip(*(table[type].to_pylist() for type in ("float", "integer", "boolean", "string")), strict=True)
    columns.append([next(value for value in row if value is not None) for row in values])
    return list(zip(*columns, strict=True))


def expected() -> list[tuple[str, str, str, int, Any]]:
    short = [
        ("tank", name, "", time_ns, value)
        for name in ("count", "open", STATE)
        for time_ns, value in zip([BEGIN + 123_456_789, BEGIN + SECOND], COLUMNS[name], strict=True)
    ]
    levels = [("tank", "level", "m", BEGIN + row * SECOND, row / 8) for row in range(ROWS)]
    return [*short[:2], *levels, *short[2:]]


async def test_an_export_has_every_reading_in_every_format(hub: Hub) -> None:
    """CSV, line protocol and Arrow have exactly the same readings, series after series, in order of time."""
    async with await client(hub) as http:
        answers = {
            format: await http.get("/api/v1/export", params={"device": "tank", "format": format})
            for format in ("csv", "line", "arrow")
        }
    arrow = readings_of(pa.ipc.open_stream(answers["arrow"].content).read_all())
    assert arrow == expected()
    rows = list(csv.DictReader(io.StringIO(answers["csv"].text, newline="")))
    assert [(row["device"], row["metric"], row["unit"], int(row["time_ns"])) for row in rows] == [
        reading[:4] for reading in arrow
    ]
    assert [float(row["value"]) for row in rows if row["metric"] == "level"] == [row / 8 for row in range(ROWS)]
    assert [row["value"] for row in rows if row["metric"] in COLUMNS] == [
        *("9223372036854775807", "-1"), *("true", "false"), *COLUMNS[STATE]
    ]  # fmt: skip
    lines = [parse_line(line) for line in answers["line"].text.splitlines()]
    assert [(line["tags"]["device"], *line["fields"].items(), line["time"]) for line in lines] == [
        (device, (metric, value), time_ns) for device, metric, _, time_ns, value in arrow
    ]


async def test_times_have_the_requested_zone(hub: Hub) -> None:
    """Times have the offset of the requested zone and all nine digits; the moment is the same."""
    query = {"device": "tank", "metric": "count", "tz": "Asia/Kolkata", "to": "2023-11-15T03:43:21+05:30"}
    async with await client(hub) as http:
        text = (await http.get("/api/v1/export", params=query)).text
        assert text.splitlines()[1:] == [
            f"2023-11-15T03:43:20.123456789+05:30,{BEGIN + 123_456_789},tank,count,,9223372036854775807"
        ]
        past = await http.get("/api/v1/history", params={**query, "from": "0"}, headers={"Accept": "text/csv"})
        assert past.text == text


async def test_intervals_have_one_value_each(hub: Hub) -> None:
    """Averages and counts of equal intervals begin at the first time and keep their type, for several devices."""
    query: dict[str, Any] = {"device": ["tank", "big"], "metric": ["level", "m1", "count"], "points": 10}
    interval = {"from": str(BEGIN), "to": str(BEGIN + 100 * SECOND)}
    async with await client(hub) as http:
        answer = (await http.get("/api/v1/history", params={**query, **interval, "aggregate": "count"})).json()
        assert [
            (series["device"], series["metric"], series["type"], series["values"]) for series in answer["series"]
        ] == [
            ("big", "m1", "integer", [10] * 10),
            ("tank", "count", "integer", [2]),
            ("tank", "level", "integer", [10] * 10),
        ]
        assert answer["series"][0]["time_ns"] == [BEGIN + part * 10 * SECOND for part in range(10)]
        query["aggregate"] = "avg"
        text = (
            await http.get("/api/v1/history", params={**query, **interval, "format": "csv", "metric": "level"})
        ).text
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [float(row["value"]) for row in rows] == [(4.5 + 10 * part) / 8 for part in range(10)]
        rejected = await http.get("/api/v1/history", params={**query, **interval, "metric": STATE})
        assert (rejected.status_code, rejected.json()["code"]) == (422, "store_refused")


@pytest.mark.parametrize(
    ("query", "accept", "status", "code", "says"),
    [
        ({"tz": "Mars/North"}, None, 422, "wrong_request", "tz: there is no time zone 'Mars/North'"),
        ({"tz": "../../etc/passwd"}, None, 422, "wrong_request", "tz: there is no time zone"),
        ({"from": "2023-11-14T22:13:20 01:00"}, None, 422, "wrong_request", "a + is written %2B"),
        ({"from": "-1h", "to": "-2h"}, None, 422, "wrong_request", "from has to be before to"),
        ({"format": "parquet"}, None, 422, "wrong_request", "format"),
        ({"points": 5}, None, 422, "wrong_request", "points: there is no such parameter here"),
        ({}, "image/png", 406, "not_acceptable", "text/csv"),
    ],
)
async def test_an_invalid_export_is_rejected_before_it_begins(
    hub: Hub, query: dict[str, Any], accept: str | None, status: int, code: str, says: str
) -> None:
    """An invalid export is rejected before it begins, with a code for programs and a sentence for people."""
    async with await client(hub) as http:
        headers = {} if accept is None else {"Accept": accept}
        answer = await http.get("/api/v1/export", params={"device": "tank", **query}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["type"] == f"urn:telemetry-hub:problem:{code}"
    assert says in answer.json()["detail"]


async def test_the_memory_of_an_export_does_not_grow_with_it(hub: Hub) -> None:
    """The hub grows by less than MAX_GROWTH_BYTES while it exports two and a half million readings."""
    before = largest = hub.memory_bytes()
    size, lines = 0, 0
    async with await client(hub) as http, http.stream("GET", "/api/v1/export", params={"device": "big"}) as answer:
        async for part in answer.aiter_raw():
            size += len(part)
            lines += part.count(b"\n")
            largest = max(largest, hub.memory_bytes())
    assert lines == BIG_METRICS * BIG_ROWS + 1
    assert largest - before < MAX_GROWTH_BYTES, f"{(largest - before) / 1e6:.0f} MB for {size / 1e6:.0f} MB"


async def test_an_unread_export_holds_a_scan_until_its_client_leaves(hub: Hub) -> None:
    """As many exports as the store has scans wait for their readers. A further export is answered that the store is
    busy until one of them ends."""
    query = {"device": "big"}
    async with await client(hub) as http:
        resting = [
            await http.send(http.build_request("GET", "/api/v1/export", params=query), stream=True)
            for _ in range(MAX_SCANS)
        ]
        assert {answer.status_code for answer in resting} == {200}
        rejected = await http.get("/api/v1/export", params=query)
        assert (rejected.status_code, rejected.json()["code"]) == (503, "store_unavailable")
        assert rejected.headers["retry-after"]
        await resting.pop().aclose()
        await served(http)
        for answer in resting:
            await answer.aclose()
        await served(http)


async def served(http: httpx.AsyncClient) -> None:
    """Return when the store has a free scan."""
    while True:
        answer = await http.get("/api/v1/export", params={"device": "tank", "metric": "count"})
        if answer.status_code != 503:
            assert answer.status_code == 200
            return
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("format", ["parquet", "arrow", "csv", "line"])
async def test_the_command_writes_every_reading(hub: Hub, tmp_path: Path, format: str) -> None:
    """The command writes a file whose name shows its content and whose format is the API's."""
    file = tmp_path / f"tank.{format}"
    code, _, errors = await export(hub, "tank", "-o", str(file), "--tz", "Europe/Berlin")
    assert (code, errors.startswith(f"{ROWS + 6:,} readings")) == (0, True), errors
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    match format:
        case "parquet":
            assert readings_of(pq.read_table(file)) == expected()
            assert str(pq.read_schema(file).field("time").type) == "timestamp[ns, tz=Europe/Berlin]"
        case "arrow":
            assert readings_of(pa.ipc.open_stream(file.read_bytes()).read_all()) == expected()
        case _:
            async with await client(hub) as http:
                query = {"device": "tank", "format": format, "tz": "Europe/Berlin"}
                assert file.read_bytes() == (await http.get("/api/v1/export", params=query)).content


async def test_the_command_writes_to_stdout(hub: Hub) -> None:
    """Without a file name, CSV and nothing else goes to stdout."""
    code, out, _ = await export(hub, "tank", "--metric", "o*", "--metric", "count", "-o", "-")
    assert (code, len(out.decode().splitlines())) == (0, 5)


async def test_a_broken_export_leaves_no_file(hub: Hub, tmp_path: Path) -> None:
    """An export that is cut fails, says what to do, and leaves no file that looks complete."""
    file = tmp_path / "big.parquet"
    async with cut_connection(hub.url, 1_000_000) as url:
        code, _, errors = await export(hub, "big", "-o", str(file), url=url)
    assert (code, list(tmp_path.iterdir())) == (1, [])
    assert "incomplete" in errors
    assert "was not written" in errors


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tank", "-o", "tank.txt"], "set --format"),
        (["tank", "-o", "there.csv"], "there.csv exists"),
        (["tank", "-o", "new.csv", "--from", "yesterday"], "from: 'yesterday' is not a time"),
        (["tank", "-o", "new.csv", "--tz", "Mars"], "no time zone 'Mars'"),
        (["tank", "-o", "new.csv", "--format", "xml"], "xml"),
    ],
)
async def test_wrong_arguments_exit_with_2(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    """Wrong arguments end with exit code 2, and no file is created or changed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("mine")
    code, _, errors = await export(hub, *arguments)
    assert (code, says in errors) == (2, True), errors
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("there.csv", "mine")]


async def test_an_existing_file_is_overwritten_with_force_only(hub: Hub, tmp_path: Path) -> None:
    """An existing file is overwritten with --force only."""
    file = tmp_path / "count.csv"
    file.write_text("old")
    code, _, _ = await export(hub, "tank", "--metric", "count", "-o", str(file), "--force")
    assert (code, len(file.read_text().splitlines())) == (0, 3)
