"""Writing of line protocol: the lines of a request become frames of the readings that the hub receives from clients.

Lines like earlier ones are read in blocks, the others one by one. Both take turns with the other work of the event
loop: a request may have a hundred thousand lines.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import msgspec
import structlog

from formats.line_block import LineBlock, LineBlockReader, LineBlocks
from formats.line_protocol import LineProtocolReader
from formats.message import without_pauses
from formats.record import MAX_RAW_BYTES, Entry, RefusedInput, Row, TextFrame
from formats.rules import Rules
from hub.ingest.foreign_readings import ForeignReadings, Presence
from hub.ingest.input_reader import InputFrame, InputReader, in_turns, unreadable, without_tokens
from hub.ingest.stored_frame import MAX_REFUSED, StoredFrame
from hub.model.identity import Identity
from wire.errors import Code, WireError
from wire.timestamp import NS_PER_UNIT

PIECE_LINES = 5_000
"""Lines that are read as one piece: 10 ms of the event loop if they are in blocks."""

PIECE_BYTES = 1024 * 1024
"""Bytes of one piece: as many lines of the usual length."""

MAX_LINE_BYTES = 256 * 1024
"""Longest line: a thousand fields, or four of the longest texts. A longer one is refused."""

TURN_LINES = 250
"""Lines that are read one by one in a turn of the event loop: 5 ms."""

MAX_PIECES = 2
"""Pieces of one request that wait for the disk while the next one is read."""

MAX_READING = 4
"""Requests that are read at the same time. More would only need memory: they share one processor."""

MAX_WAITING = 256
"""Requests that wait for their turn. Beyond it the client has to send the request again."""


log = structlog.get_logger(__name__)

_TIME = re.compile(rb" (-?[0-9]{1,19})\s*\Z")


class LineTimes(NamedTuple):
    """The unit of timestamps, one of NS_PER_UNIT, and how many of it are one count."""

    unit: str = "ns"
    per_count: int = 1

    @property
    def ns_per_count(self) -> int:
        """The nanoseconds of one count."""
        return NS_PER_UNIT[self.unit] * self.per_count


class LineContent(NamedTuple):
    """Content of some lines: those that are in blocks, and the rows and refusals of the others."""

    blocks: Sequence[LineBlock]
    rows: list[Row]
    refusals: list[RefusedInput]


class LineSource:
    """Reader of the lines of one credential, which are in blocks or one by one."""

    def __init__(self, reader: InputReader, block_reader: LineBlockReader, times: LineTimes) -> None:
        self.reader = reader
        self._block_reader = block_reader
        self._times = times

    def blocks(self, lines: Sequence[bytes], now_ns: int) -> LineBlocks:
        """Return the blocks of some lines that the credential may write, and the places of the other lines."""
        blocks, others = self._block_reader.read(lines, self._times.ns_per_count, now_ns)
        allowed = [block for block in blocks if self.reader.identity.may_write(block.device)]
        if len(allowed) < len(blocks):
            # They are refused line by line, each with its reason.
            others = sorted({*range(len(lines))}.difference(*(block.lines for block in allowed)))
        return LineBlocks(allowed, others)

    def one_by_one(self) -> LineProtocolReader:
        """Return the reader of other lines of one request or frame: a quoted text may continue on the next line."""
        return LineProtocolReader(self._times.unit, self.reader.rules.measurements, per_count=self._times.per_count)

    def entries(
        self, one_by_one: LineProtocolReader, lines: Sequence[bytes], places: Sequence[int], before: int = 0
    ) -> list[Entry]:
        """Return the records and refusals of the lines at these places. So many lines of the input are `before`."""
        frames: list[TextFrame] = []
        refused: list[Entry] = []
        for place in places:
            text, number = lines[place], before + place + 1
            if len(text) <= MAX_LINE_BYTES:
                frames.append(TextFrame(number, text))
            else:
                reason = f"the line is longer than {MAX_LINE_BYTES:,} bytes"
                refused.append(RefusedInput(number, text[:MAX_RAW_BYTES], "size", reason))
        return [*one_by_one.feed(frames), *refused]

    def frame(self, content: LineContent, now_ns: int) -> InputFrame:
        """Return the frame of what was read."""
        blocks, rows, refusals = content
        return self.reader.frame(_refused_lines(refusals, self._times), rows, refusals, now_ns, blocks)

    def read(self, payload: bytes, now_ns: int) -> InputFrame:
        """Return the content of a short frame of a WebSocket that arrives now."""
        return without_pauses(self._read_in_steps(payload, now_ns))

    async def read_in_turns(self, payload: bytes, now_ns: int) -> InputFrame:
        """Return the content of a frame that arrives now, in turns with the other work of the event loop."""
        return await in_turns(self._read_in_steps(payload, now_ns))

    def read_lines(
        self, one_by_one: LineProtocolReader, lines: Sequence[bytes], now_ns: int, before: int = 0
    ) -> Generator[None, None, LineContent]:
        """Return the content of some lines. Yield at the end and after TURN_LINES lines that are read `one_by_one`."""
        blocks, others = self.blocks(lines, now_ns)
        rows: list[Row] = []
        refusals: list[RefusedInput] = []
        for first in range(0, len(others), TURN_LINES):
            entries = self.entries(one_by_one, lines, others[first : first + TURN_LINES], before)
            found, refused = self.reader.interpreter.interpret(entries, now_ns)
            rows += found
            refusals += refused
            yield
        yield
        return LineContent(blocks, rows, refusals)

    def _read_in_steps(self, payload: bytes, now_ns: int) -> Generator[None, None, InputFrame]:
        """Read a frame, and yield as `read_lines` does."""
        try:
            one_by_one = self.one_by_one()
            payload = without_tokens(payload)
            content = yield from self.read_lines(one_by_one, payload.split(b"\n"), now_ns)
            rows, refusals = self.reader.interpreter.interpret([*one_by_one.finish()], now_ns)
            content.rows.extend(rows)
            content.refusals.extend(refusals)
        except Exception:
            # A defect of the hub costs this frame, and not the connection.
            log.exception("lines could not be read")
            content = LineContent([], [], [unreadable(payload)])
        return self.frame(content, now_ns)


class LineProtocolWriter:
    """Writer of the lines of all clients, by one set of rules. `name` is the input's name."""

    def __init__(self, readings: ForeignReadings, rules: Rules, name: str, *, clock: Callable[[], int]) -> None:
        self._readings = readings
        self._rules = rules
        self._name = name
        self._clock = clock
        self._blocks: WeakKeyDictionary[InputReader, LineBlockReader] = WeakKeyDictionary()
        self._turns = asyncio.Semaphore(MAX_READING)
        self._waiting = 0

    async def write(
        self,
        identity: Identity,
        content: bytes,
        *,
        bucket: str = "",
        times: LineTimes = LineTimes(),  # noqa: B008 - immutable
        presence: Presence | None = None,
    ) -> StoredFrame:
        """Store the lines of a request or frame; return when they are durable.

        Raises WireError: the lines can be sent again. Those before the failure may be stored then.
        """
        if self._waiting >= MAX_WAITING:
            raise WireError(Code.BUSY, f"{MAX_WAITING} requests wait already: send this one again later")
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        pending: deque[asyncio.Future[StoredFrame]] = deque()
        results: list[StoredFrame] = []
        try:
            async for frame in self._frames(identity, content, bucket, times):
                await self._readings.room()
                pending.append(self._readings.submit(frame, presence))
                if len(pending) >= MAX_PIECES:
                    results.append(await pending.popleft())
        finally:
            self._turns.release()
            waiting = await asyncio.gather(*pending, return_exceptions=True)
        for result in waiting:
            if isinstance(result, BaseException):
                raise result
            results.append(result)
        refused = [each for result in results for each in result.refused]
        return StoredFrame(
            sum(result.readings for result in results),
            sum(result.refused_count for result in results),
            sorted(refused, key=lambda each: each.line)[:MAX_REFUSED],
        )

    def source(
        self,
        identity: Identity,
        *,
        bucket: str = "",
        device: str = "",
        times: LineTimes = LineTimes(),  # noqa: B008 - immutable
    ) -> LineSource:
        """Return the reader of the lines of a credential. `device` is that of lines that name none."""
        rules = msgspec.structs.replace(self._rules, time_format=times.unit)
        reader = self._readings.reader(identity, rules, self._name, bucket, device=device)
        block_reader = self._blocks.get(reader)
        if block_reader is None:
            block_reader = self._blocks[reader] = LineBlockReader(reader.interpreter)
        return LineSource(reader, block_reader, times)

    async def _frames(
        self, identity: Identity, content: bytes, bucket: str, times: LineTimes
    ) -> AsyncIterator[InputFrame]:
        """Yield the frames of the pieces of some lines."""
        source = self.source(identity, bucket=bucket, times=times)
        one_by_one = source.one_by_one()
        start = 0
        for piece in _pieces(without_tokens(content)):
            received_ns = self._clock()
            read = await in_turns(source.read_lines(one_by_one, piece, received_ns, start))
            yield source.frame(read, received_ns)
            start += len(piece)
        if last := [*one_by_one.finish()]:
            received_ns = self._clock()
            yield source.frame(LineContent([], *source.reader.interpreter.interpret(last, received_ns)), received_ns)


def _pieces(content: bytes) -> Iterator[list[bytes]]:
    """Yield the lines of a request in pieces, each split in a turn of its own."""
    start = 0
    while start <= len(content):
        end = len(content)
        if end - start > PIECE_BYTES:
            end = content.rfind(b"\n", start, start + PIECE_BYTES)
            if end < 0:
                end = content.find(b"\n", start + PIECE_BYTES)
            if end < 0:
                end = len(content)
        lines = content[start:end].split(b"\n")
        for first in range(0, len(lines), PIECE_LINES):
            yield lines[first : first + PIECE_LINES]
        start = end + 1


def _refused_lines(refusals: Sequence[RefusedInput], times: LineTimes) -> bytes:
    """Return the lines that are refused or have refused values, with their times in the unit that the rules name."""
    lines = dict.fromkeys(refusal.raw for refusal in refusals)
    if times.per_count != 1:
        lines = dict.fromkeys(_TIME.sub(lambda time: b" %d" % (int(time[1]) * times.per_count), line) for line in lines)
    return b"\n".join(lines)
