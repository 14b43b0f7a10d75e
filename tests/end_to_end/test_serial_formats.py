"""Every text format on a real tty: recorded logs, cut at random places, with the port unplugged in between."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial, reduce
from operator import xor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from device_agent import Agent
from device_agent.source_delivery import deliver_readings
from device_agent.sources.lines import InputCounts
from device_agent.sources.ports import PortSettings
from device_agent.sources.serial import SerialSource
from formats.custom import load_function
from tests.conditions import until
from tests.device_agent.foreign import foreign_input
from tests.device_agent.pty_port import PtyPort
from tests.end_to_end.hub import Hub, running_hub
from tests.tasks import running_task

LINES = 1_020
UNPLUGGED = 3
LOGGER = logging.getLogger("device_agent.sources.serial")

FUNCTION = """
def decode(frame):
    kind, _, digits = frame.partition(b"~")
    if kind != b"W":
        raise ValueError("no frame of the scale")
    return {"count": int(digits, 16)}


SAMPLES = [(b"W~1f", {"count": 31})]
"""


def sentence(number: int) -> bytes:
    """Return a GGA sentence whose altitude is the number."""
    time = f"{number // 3600 % 24:02}{number // 60 % 60:02}{number % 60:02}.00"
    body = f"GPGGA,{time},5230.1234,N,01324.5678,E,1,08,0.9,{number}.0,M,46.9,M,,".encode()
    return b"$%s*%02X" % (body, reduce(xor, body))


class Log(NamedTuple):
    """A format with the lines of a device: each has its number in the metric `metric`."""

    line: Callable[[int], bytes]
    metric: str = "count"
    rules: dict[str, Any] = {}  # noqa: RUF012 - not changed
    header: bytes = b""


LOGS = {
    "json": Log(lambda number: b'{"count": %d, "room": {"t": %d.5}}' % (number, number % 50)),
    "senml": Log(lambda number: b'[{"bn":"board/","n":"count","v":%d},{"n":"t","u":"Cel","v":2}]' % number),
    "line": Log(lambda number: b"board,site=a count=%di,t=%d" % (number, number % 50), "board.a.count"),
    "csv": Log(lambda number: b"%d;%d,5" % (number, number % 50), header=b"count;t"),
    "pairs": Log(lambda number: b"count=%d t=%d.5C" % (number, number % 50)),
    "plotter": Log(lambda number: b"count:%d,t:%d.5" % (number, number % 50)),
    "nmea": Log(sentence, "altitude"),
    "signalk": Log(
        lambda number: json.dumps({"updates": [{"values": [{"path": "tank.count", "value": number}]}]}).encode(),
        "tank.count",
    ),
    "rtl_433": Log(lambda number: b'{"model":"Acurite-Tower","id":12,"count":%d,"temperature_C":2.5}' % number),
    "regex": Log(
        lambda number: b"N%05d T%d" % (number, number % 50), rules={"pattern": r"N(?P<count>\d+) T(?P<t>\d+)"}
    ),
    "function": Log(lambda number: b"W~%x" % number),
}


class Board:
    """A board that writes the log of one format to a port, and an agent that reads it."""

    def __init__(self, format: str, directory: Path, seed: int) -> None:
        self.format = format
        self.port = PtyPort(directory / format)
        self._log = LOGS[format]
        self._random = random.Random(seed)
        rules = foreign_input(format, format=format, **self._log.rules)
        if format == "function":
            rules.function = load_function(FUNCTION, "scale.py")
        self.source = SerialSource(PortSettings(port=str(self.port.path)), rules, retry_seconds=0.01)
        self.written: list[int] = []
        """Numbers of the lines that were written as a whole while the port was plugged in."""
        self._ends = 0
        self._opened = asyncio.Event()

    def filter(self, record: logging.LogRecord) -> bool:
        """Wait for the record of the open port: what was written to it before is discarded."""
        if record.getMessage().startswith(f"reading from {self.port.path}"):
            self._opened.set()
        return True

    async def plug_in(self) -> None:
        """Plug the port in; return when the agent has opened it."""
        self._opened.clear()
        self.port.plug_in()
        await self._opened.wait()

    async def play(self) -> None:
        """Write the log; the agent opens the port in the middle of a line, and the port is unplugged within lines."""
        cuts = sorted(self._random.sample(range(100, LINES - 100), UNPLUGGED))
        await self.plug_in()
        await self._write(self._log.line(0)[2:] + b"\r\n" + (self._log.header + b"\n" if self._log.header else b""))
        waiting = b""
        for number in range(1, LINES):
            line = self._log.line(number)
            if number in cuts:
                place = self._random.randrange(1, len(line))
                await self._write(waiting + line[:place])
                await until(lambda: self.source.input.counts.lines == self._ends)
                self.port.pull()
                await self.plug_in()
                waiting = line[place:] + b"\n"
                continue
            waiting += line + self._random.choice((b"\n", b"\r\n"))
            self.written.append(number)
            if len(waiting) > 2_000:
                await self._write(waiting)
                waiting = b""
        await self._write(waiting)
        await until(lambda: self.source.input.counts.lines == self._ends)

    async def _write(self, data: bytes) -> None:
        """Write in pieces that end at random places."""
        self._ends += data.count(b"\n")
        for piece in self._pieces(data):
            await self.port.write(piece)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            size = self._random.randint(1, 400)
            yield data[:size]
            data = data[size:]


async def stored(hub: Hub, device: str, metric: str) -> list[int]:
    """Return the stored values of a metric, in order."""
    answer = await hub.get("/api/v1/history", device=device, metric=metric, points=0, **{"from": "0", "to": str(2**62)})
    (series,) = answer["series"]
    return list(map(int, series["values"]))


def _is_sent(agent: Agent, counts: InputCounts) -> bool:
    return agent.counts.sent.readings == counts.readings


async def _deliver(board: Board, agent: Agent) -> None:
    await deliver_readings(board.source, agent, agent.collect)


@pytest.mark.deadline(240)
async def test_whole_lines_arrive_once_and_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The hub has of each format what the board wrote in whole lines: none is lost, cut, mixed or repeated.
    The rest of a line that was cut is counted as skipped, and each port that came back is a restart of its board."""
    caplog.set_level(logging.INFO, logger="device_agent")
    async with running_hub(tmp_path / "data") as hub, AsyncExitStack() as stack:
        boards = [Board(format, tmp_path, seed) for seed, format in enumerate(LOGS)]
        agents = []
        for board in boards:
            LOGGER.addFilter(board)
            stack.callback(LOGGER.removeFilter, board)
            stack.callback(board.port.pull)
            token = await hub.token("device", "--device", board.format)
            spool = tmp_path / f"{board.format}.spool"
            agent = await stack.enter_async_context(Agent(hub.url, device=board.format, token=token, spool=spool))
            await stack.enter_async_context(running_task(_deliver(board, agent)))
            agents.append(agent)
        await asyncio.gather(*(board.play() for board in boards))
        for board, agent in zip(boards, agents, strict=True):
            counts = board.source.input.counts
            await until(partial(_is_sent, agent, counts))
            await agent.drain(60)
        await hub.settled()
        for board in boards:
            assert len(board.written) == LINES - 1 - UNPLUGGED
            assert await stored(hub, board.format, LOGS[board.format].metric) == board.written, board.format
            counts = board.source.input.counts
            assert (counts.refused, counts.skipped) == (0, 1 + UNPLUGGED), board.format
            events = (await hub.get(f"/api/v1/devices/{board.format}/events"))["events"]
            assert "the port was lost and is open again" in [
                event["detail"].rpartition(": ")[2] for event in events if event["kind"] == "restarted"
            ], board.format
