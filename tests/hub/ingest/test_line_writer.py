"""Lines of a request on their way into a real journal: pieces, blocks, refusals and bounds."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from formats.rules import rules_of
from hub.ingest import line_writer as module
from hub.ingest.foreign_readings import ForeignReadings
from hub.ingest.line_writer import LineProtocolWriter, LineTimes
from hub.ingest.recent_readings import RecentReadings
from hub.ingest.stored_frame import StoredFrame
from hub.model.batch import EntryKind
from hub.model.identity import Identity, Role
from tests.hub.ingest.open_hub import Hub, connect_agent, running
from tests.tasks import running_task
from wire.errors import Code, WireError

GATEWAY = Identity("t", Role.GATEWAY, "p*")
TIME_NS = 1_700_000_000_000_000_000
NOW_NS = TIME_NS + 10**9


class Bench(NamedTuple):
    """A hub, and the writer of its lines."""

    hub: Hub
    writer: LineProtocolWriter

    async def write(self, *lines: str, **how: Any) -> StoredFrame:
        return await self.writer.write(GATEWAY, "\n".join(lines).encode(), **how)

    def values(self, metric: str) -> list[Any]:
        """Return the values of a metric in the order of the journal."""
        return [
            value
            for entry in self.hub.durable
            if entry.batch is not None
            for series, values in entry.batch.columns
            if series.metric == metric
            for value in values
        ]

    @property
    def quarantined(self) -> list[dict[str, Any]]:
        return [json.loads(entry.payload) for entry in self.hub.durable if entry.kind is EntryKind.QUARANTINE]


@asynccontextmanager
async def bench(path: Path, **rules: Any) -> AsyncIterator[Bench]:
    async with running(path) as hub:
        readings = ForeignReadings(hub.devices, hub.directory)
        async with running_task(readings.run()):
            writer = LineProtocolWriter(
                readings, rules_of({"format": "line", **rules}), "influxdb", clock=lambda: NOW_NS
            )
            yield Bench(hub, writer)


def line(number: int, device: str = "pump", text: str = "") -> str:
    return f"m,device={device} n={number}i,x={number}.5{text} {TIME_NS + number}"


@pytest.mark.parametrize("piece_bytes", [1 << 20, 150, 10])
async def test_pieces_are_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int) -> None:
    """Lines in many pieces, with a text that continues in the next piece, refused lines with their numbers in the
    request, and lines of a shape that changes in between."""
    monkeypatch.setattr(module, "PIECE_LINES", 10)
    monkeypatch.setattr(module, "PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(module, "TURN_LINES", 3)
    async with bench(tmp_path) as b:
        lines = [line(number) for number in range(35)]
        lines[9] = f'm,device=pump text="one\ntwo" {TIME_NS}'  # two lines: the second is the first one of a piece
        lines[20] = "no line"
        lines[30] = line(30, text=",y=1")
        lines[31] = line(31, text=",n=7i")
        written = await b.write(*lines)
        assert [(refused.line, refused.code) for refused in written.refused] == [(22, "syntax"), (33, "ambiguous")]
        assert written.refused_count == 2
        numbers = [number for number in range(35) if number not in (9, 20)]
        assert sorted(b.values("m.n")) == numbers
        assert sorted(b.values("m.x")) == [number + 0.5 for number in numbers]
        assert (b.values("m.text"), b.values("m.y")) == (["one\ntwo"], [1.0])
        assert written.readings == 2 * len(numbers) + 2


async def test_a_device_that_the_token_may_not_write_is_refused_line_by_line(tmp_path: Path) -> None:
    """Also when its lines could be in a block, because another token has written them before."""
    async with bench(tmp_path) as b:
        other = Identity("t", Role.GATEWAY, "*")
        everything = "\n".join([line(1, "pump"), line(1, "valve")]).encode()
        for _ in range(2):
            await b.writer.write(other, everything)
        written = await b.write(line(2, "pump"), line(2, "valve"), line(3, "pump"), line(3, "valve"))
        assert [(refused.line, refused.code) for refused in written.refused] == [(2, "device"), (4, "device")]
        assert "may not write as 'valve'" in written.refused[0].reason
        assert written.readings == 4
        with pytest.raises(WireError, match="may not write") as denied:
            await b.write(line(4, "valve"), line(5, "valve"))
        assert denied.value.code is Code.NOT_ALLOWED


async def test_the_quarantine_has_the_refused_lines(tmp_path: Path) -> None:
    """Not the others of the request, and with times in a unit that a retry knows."""
    async with bench(tmp_path) as b:
        await b.write(line(1))
        hours = TIME_NS // (3_600 * 10**9)
        written = await b.write(
            f"m,device=pump n=2i,x=2 {hours}",
            f'm,device=pump n="text",x=3 {hours}',
            "# nothing",
            times=LineTimes("s", 3_600),
        )
        assert (written.readings, written.refused_count) == (3, 1)
        (kept,) = b.quarantined
        assert base64.b64decode(kept["payload_base64"]).decode() == f'm,device=pump n="text",x=3 {hours * 3_600}'
        assert kept["rules"]["time_format"] == "s"
        assert [(value["device"], value["metric"]) for value in kept["refused"]] == [("pump", "m.n")]


async def test_a_device_with_its_own_agent_refuses_the_request(tmp_path: Path) -> None:
    """The error ends by itself, so the client sends the lines again; nothing of the piece is stored."""
    async with bench(tmp_path) as b:
        agent = await connect_agent(b.hub)
        with pytest.raises(WireError, match="connected already") as busy:
            await b.write(line(1), line(1, "press"))
        assert busy.value.code is Code.BUSY
        agent.close("closed")
        assert (await b.write(line(1), line(1, "press"))).readings == 4


async def test_a_line_is_bounded(tmp_path: Path) -> None:
    """A longer one costs itself, and a text that is not closed ends with the request."""
    async with bench(tmp_path) as b:
        long = line(1, text="".join(f",f{n}=1" for n in range(40_000)))
        written = await b.write(long, line(2), 'm,device=pump text="not closed')
        assert [(refused.line, refused.code) for refused in written.refused] == [(1, "size"), (3, "syntax")]
        assert written.readings == 2
        many = line(3, text="".join(f",f{n}=1" for n in range(2_000)))
        written = await b.write(many, line(4))
        assert {refused.code for refused in written.refused} == {"limit"}
        assert written.readings + written.refused_count == 2_004


async def test_requests_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as may be read at once are read, as many as may wait wait, and one more is sent away."""
    monkeypatch.setattr(module, "MAX_READING", 2)
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    async with bench(tmp_path) as b:
        results = await asyncio.gather(*(b.write(line(number)) for number in range(6)), return_exceptions=True)
        assert [isinstance(result, StoredFrame) for result in results] == [True] * 5 + [False]
        assert isinstance(results[5], WireError)
        assert results[5].code is Code.BUSY
        assert sorted(b.values("m.n")) == [0, 1, 2, 3, 4]


async def test_what_was_read_is_stored_when_the_client_disconnects(tmp_path: Path) -> None:
    """A cancelled request neither blocks the ones after it nor stays in memory."""
    async with bench(tmp_path) as b:
        await b.write(line(0))
        task = asyncio.create_task(b.write(*(line(number) for number in range(1, 12_000))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for number in range(10):
            assert (await b.write(line(20_000 + number))).readings == 2


async def test_a_block_that_the_hub_refuses_is_read_row_by_row(tmp_path: Path) -> None:
    """The type of a metric changed in the hub, and the reader does not know yet: each value has its own fate."""
    async with bench(tmp_path) as b:
        for number in range(2):
            await b.write(line(number), line(number, "press"))
        device = b.hub.devices.device("pump")
        changed = device.metrics["m.x"]
        device.set_metrics({**device.metrics, "m.x": WireError(Code.TYPE_CONFLICT, "m.x has another type")}, set())
        written = await b.write(line(5), line(6), line(5, "press"))
        assert (written.readings, written.refused_count) == (4, 2)
        assert {refused.metric for refused in written.refused} == {"m.x"}
        device.set_metrics({**device.metrics, "m.x": changed}, {"m.x"})
        assert (await b.write(line(7))).readings == 2


async def test_lines_that_are_sent_again_are_stored_once(tmp_path: Path) -> None:
    """A client whose answer was lost repeats its request, or sends the lines with others; another value is stored."""
    async with bench(tmp_path) as b:
        lines = [line(number) for number in range(40)]
        await b.write(*lines)
        stored = len(b.hub.durable)
        assert (await b.write(*lines)).readings == 80
        assert len(b.hub.durable) == stored
        assert (await b.write(*lines[30:], line(50), line(7, text=",y=1"))).readings == 25
        assert sorted(b.values("m.n")) == [*range(40), 50]
        assert b.values("m.y") == [1.0]
        await b.write(f"m,device=pump x=99.5 {TIME_NS + 7}", f"m,device=press x=1 {TIME_NS + 7}")
        assert sorted(b.values("m.x"))[-2:] == [50.5, 99.5]
        # Without a time, the same values are new readings.
        for _ in range(2):
            await b.write("m,device=pump z=1")
        await b.write("m,device=pump z=1")
        assert b.values("m.z") == [1.0, 1.0, 1.0]


async def test_lines_from_before_a_restart_are_known(tmp_path: Path) -> None:
    """The end of the journal has them: long batches as blocks, short ones row by row."""
    async with bench(tmp_path) as b:
        for _ in range(2):
            await b.write(*(line(number) for number in range(40)), line(1, "press"))
        recent = RecentReadings(has_blocks=True)
        for entry in b.hub.durable:
            recent.add_entry(entry)
        readings = ForeignReadings(b.hub.devices, b.hub.directory, recent=recent)
        async with running_task(readings.run()):
            writer = LineProtocolWriter(readings, rules_of({"format": "line"}), "influxdb", clock=lambda: NOW_NS)
            for _ in range(2):
                lines = "\n".join([*(line(number) for number in range(39, 45)), line(1, "press")])
                await writer.write(GATEWAY, lines.encode())
        assert sorted(b.values("m.n")) == [0, 1, 1, *range(2, 45)]


async def test_a_request_that_is_repeated_before_it_is_durable_is_stored_once(tmp_path: Path) -> None:
    """Also if its lines are in blocks: a client gives up too early, and sends them again."""
    async with bench(tmp_path) as b:
        await b.write(line(0))
        lines = [line(number) for number in range(1, 400)]
        results = await asyncio.gather(*(b.write(*lines) for _ in range(4)))
        assert [result.readings for result in results] == [2 * len(lines)] * 4
        assert sorted(b.values("m.n")) == [*range(400)]
