"""The store's writer with real InfluxDB servers that refuse, are absent or crash, and with a hub that crashes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import pytest

from hub.journal.journal import Journal
from hub.model.batch import Series
from hub.model.store import HistoryQuery, ReadingCounts, StoreCursor, StoreUnavailable
from hub.storage.influxdb.client import InfluxdbCredentials
from hub.storage.influxdb.store import InfluxdbStore
from tests.hub.storage.influxdb.bucket import client_of, store_of
from tests.hub.storage.influxdb.killed_consumer import BAD, CONFLICT, EPOCH, GOOD, T0, appender, consumer_of
from tests.hub.storage.killed_consumer import open_journal, running
from tests.hub.storage.readings import batch, entry
from tests.hub.storage.retries import Retries
from tests.services import find_service
from tests.services.found import INFLUXDB1
from tests.services.influxdb import Access, Influxdb1, InfluxdbServer
from wire.codec import AGENT_MESSAGES
from wire.device import Data
from wire.model import Value

FOR_EVER_S = 3600.0
KILLS = 2
SERVER_KILLS = 2
NARROW_BYTES = 4_000
OFTEN = 20


@pytest.fixture
async def bucket(server: InfluxdbServer) -> Access:
    """Provide a bucket that refuses half of the writer's readings."""
    access = server.fresh()
    async with client_of(access) as asked:
        await asked.write(CONFLICT)
    return access


async def check(journal: Journal, opened: InfluxdbStore, last: int) -> None:
    """Check that accepted readings are stored once, refused ones are in quarantine once, and both are counted once."""
    history = await opened.query(HistoryQuery([GOOD, BAD], 0, 2**63, None))
    good, bad = history.series
    assert good.times_ns.tolist() == [T0 + number for number in range(1, last + 1)]
    assert [int(str(value)) for value in good.values] == list(range(1, last + 1))
    assert len(bad.times_ns) == 0
    assert await opened.counts() == {GOOD.id: ReadingCounts(last, 0, 0), BAD.id: ReadingCounts(0, 0, last)}
    kept = await journal.quarantine.page(limit=2 * last)
    assert [item.seq for item in kept] == list(range(last, 0, -1))
    for item in kept:
        assert (item.device, item.epoch, item.received_ns) == ("device", EPOCH, 1_000 + item.seq)
        assert item.reason is not None
        assert item.reason[0] == "field_conflict"
        assert 'input field "bad"' in item.reason[1]
        assert AGENT_MESSAGES[item.format].decode(item.payload) == Data(
            item.seq, [T0 + item.seq], {"bad": [item.seq + 0.5]}
        )


async def test_refused_readings_are_in_quarantine_and_the_rest_is_stored(bucket: Access, tmp_path: Path) -> None:
    """They are a batch of their own, with InfluxDB's text, beside their neighbours that are stored."""
    async with open_journal(tmp_path) as journal, store_of(tmp_path, bucket) as opened:
        fill = appender(journal)
        async with running(consumer_of(journal, opened)) as consumer:
            for _ in range(5):
                await fill.append(20)
                assert await consumer.drain(FOR_EVER_S)
            assert consumer.status.last_error is None
        await check(journal, opened, 100)


@pytest.mark.deadline(120)
async def test_after_kills_nothing_is_lost_or_duplicated(bucket: Access, tmp_path: Path) -> None:
    """A hub that is killed again and again has the readings, quarantine and counts of one that never was."""
    for kill in range(KILLS):
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.hub.storage.influxdb.killed_consumer",
            tmp_path,
            msgspec.json.encode(bucket).decode(),
            f"{kill}",
        )
        assert await child.wait() == -signal.SIGKILL
    async with open_journal(tmp_path, keep_bytes=0) as journal, store_of(tmp_path, bucket) as opened:
        fill = appender(journal)
        await fill.append(5)
        async with running(consumer_of(journal, opened)) as consumer:
            assert await consumer.drain(FOR_EVER_S)
            assert consumer.status.missed == 0
        await check(journal, opened, fill.last)


@pytest.mark.deadline(120)
async def test_a_server_that_crashes_gets_everything_once(
    server: InfluxdbServer, bucket: Access, tmp_path: Path
) -> None:
    """A server is killed during writes and returns on its port: everything it had not answered is written again."""
    async with open_journal(tmp_path) as journal, store_of(tmp_path, bucket) as opened:
        fill = appender(journal)
        async with running(consumer_of(journal, opened, retries=(retries := Retries()))) as consumer:
            for _ in range(SERVER_KILLS):
                await fill.append(500)
                await consumer.reached(consumer.status.offset + 1)
                await asyncio.to_thread(server.kill)
                await fill.append(50)
                await retries.again()
                assert "does not answer" in str(consumer.status.last_error)
                await asyncio.to_thread(server.start)
            assert await consumer.drain(FOR_EVER_S)
        await check(journal, opened, fill.last)


async def test_nothing_is_dropped_while_the_credentials_are_wrong(bucket: Access, tmp_path: Path) -> None:
    """The writer waits and says what to do; with correct credentials everything is stored."""
    wrong = InfluxdbCredentials("wrong") if bucket.major == 2 else InfluxdbCredentials("", bucket.user, "wrong")
    async with open_journal(tmp_path) as journal:
        fill = appender(journal)
        await fill.append(10)
        async with store_of(tmp_path, bucket, credentials=wrong) as opened:
            with pytest.raises(StoreUnavailable, match=r"does not accept the credentials: set store\.token"):
                await opened.open()
            async with running(consumer_of(journal, opened, retries=(retries := Retries()))) as consumer:
                await retries.again()
                assert "does not accept the credentials" in str(consumer.status.last_error)
        async with store_of(tmp_path, bucket) as opened:
            async with running(consumer_of(journal, opened)) as consumer:
                assert await consumer.drain(FOR_EVER_S)
            await check(journal, opened, 10)


async def test_the_writer_waits_for_a_missing_bucket(server: InfluxdbServer, tmp_path: Path) -> None:
    """The bucket is missing from the start, or deleted while the hub runs."""
    access = server.fresh()
    missing = replace(access, bucket=f"{access.bucket}-missing")
    async with store_of(tmp_path, missing) as opened:
        with pytest.raises(StoreUnavailable, match="create it with `hub store setup`"):
            await opened.open()
    if access.major == 2:
        async with store_of(tmp_path, access) as opened:
            await opened.open()
            headers = {"Authorization": f"Token {access.token}"}
            async with httpx.AsyncClient(base_url=access.url, headers=headers, trust_env=False) as http:
                found = (await http.get("/api/v2/buckets", params={"name": access.bucket})).json()["buckets"][0]
                (await http.delete(f"/api/v2/buckets/{found['id']}")).raise_for_status()
            async with open_journal(tmp_path) as journal:
                await appender(journal).append(3)
                async with running(consumer_of(journal, opened, retries=(retries := Retries()))) as consumer:
                    await retries.again()
                    assert "has no" in str(consumer.status.last_error)
                assert journal.quarantine.totals == {}


async def test_a_missing_write_permission_is_reported(influxdb2: InfluxdbServer, tmp_path: Path) -> None:
    """The error names the missing permission."""
    access = influxdb2.fresh()
    headers = {"Authorization": f"Token {access.token}"}
    async with httpx.AsyncClient(base_url=access.url, headers=headers, trust_env=False) as http:
        found = (await http.get("/api/v2/buckets", params={"name": access.bucket})).json()["buckets"][0]
        resource = {"type": "buckets", "id": found["id"], "orgID": found["orgID"]}
        made = await http.post(
            "/api/v2/authorizations",
            json={"orgID": found["orgID"], "permissions": [{"action": "read", "resource": resource}]},
        )
    async with store_of(tmp_path, access, credentials=InfluxdbCredentials(made.json()["token"])) as opened:
        with pytest.raises(StoreUnavailable, match="grant them permission to read and write it"):
            await opened.open()


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxdbServer]:
    """Provide a server that accepts small requests only."""
    program = find_service(INFLUXDB1)
    if program.path is None:
        pytest.skip(program.reason)
    with InfluxdbServer(
        program.path, tmp_path_factory.mktemp("narrow"), Influxdb1(max_body_bytes=NARROW_BYTES)
    ) as server:
        yield server


async def test_large_writes_are_split(narrow: InfluxdbServer, tmp_path: Path) -> None:
    """A server's limit on requests costs more requests; only a single larger reading is refused."""
    text = Series(1, "device", "text", "string")
    async with store_of(tmp_path, narrow.fresh()) as opened:
        await opened.open()
        values: list[Value] = ["x" * 100] * 300
        values[200] = "y" * NARROW_BYTES
        content = batch([T0 + place for place in range(300)], {text: values})
        written = await opened.write([entry(1, content)], StoreCursor("journal-a", 1))
        assert written.readings == 299
        (refused,) = written.refused
        assert (refused.code, refused.batch.times) == ("too_large", [T0 + 200])
        history = await opened.query(HistoryQuery([text], 0, 2**63, None))
        assert len(history.series[0].times_ns) == 299


async def test_requests_can_be_compressed(server: InfluxdbServer, tmp_path: Path) -> None:
    """A setting compresses them; the answers are the same."""
    async with store_of(tmp_path, server.fresh(), compress=True) as opened:
        await opened.open()
        content = batch([T0, T0 + 1], {GOOD: [1, 2]})
        assert (await opened.write([entry(1, content)], StoreCursor("journal-a", 1))).readings == 2
        history = await opened.query(HistoryQuery([GOOD], 0, 2**63, None))
        assert history.series[0].times_ns.tolist() == [T0, T0 + 1]


async def test_a_device_that_creates_too_many_series_is_limited(server: InfluxdbServer, tmp_path: Path) -> None:
    """Beyond the limit new series are refused and existing ones continue, also after a restart."""
    series = [Series(place, "device", f"m{place}", "float") for place in range(1, 6)]
    access = server.fresh()
    for run in range(2):
        async with store_of(tmp_path, access, max_series_per_device=3) as opened:
            await opened.open()
            content = batch([T0 + run], {item: [0.5] for item in series})
            written = await opened.write([entry(run + 1, content)], StoreCursor("journal-a", run + 1))
            assert written.readings == 3
            (refused,) = written.refused
            assert (refused.code, refused.batch.readings) == ("too_many", 2)
            assert "device already has 3 series in InfluxDB" in refused.message
            await opened.save()
    async with store_of(tmp_path, access, max_series_per_device=3, tags={"boot": "1"}) as opened:
        await opened.open()
        content = batch([T0 + 7], {series[0]: [0.5]})
        assert (await opened.write([entry(3, content)], StoreCursor("journal-a", 3))).readings == 0


async def test_the_retry_time_of_a_server_is_respected(tmp_path: Path) -> None:
    """While one writer retries again and again, the one with a Retry-After of an hour does not."""
    asked: Counter[str] = Counter()
    often = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                bucket = re.search(r"bucket=(\w+)", head)
                status = "204 No Content\r\nX-Influxdb-Version: v2.7.12"
                if bucket:
                    asked[bucket[1]] += 1
                    status = "503 Service Unavailable" + ("\r\nRetry-After: 3600" if bucket[1] == "named" else "")
                    if asked["named"] and asked["unnamed"] >= OFTEN:
                        often.set()
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        for bucket in ("named", "unnamed"):
            directory = tmp_path / bucket
            directory.mkdir()
            journal = await stack.enter_async_context(open_journal(directory))
            access = Access(2, f"http://127.0.0.1:{port}", bucket, org="o", token="t")
            opened = await stack.enter_async_context(store_of(directory, access))
            await stack.enter_async_context(running(consumer_of(journal, opened, retries=lambda: 0.0)))
        await often.wait()
        assert asked["named"] == 1
