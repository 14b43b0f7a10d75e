"""The agent as a library: readings in, and they are on disk; then they arrive, whatever happens to the connection.

    async with Agent("ws://127.0.0.1:8600", device="boiler-1", token=token, spool="boiler.spool") as agent:
        await agent.send({"temperature": 21.5})

How readings become batches is the caller's choice, because a batch is the unit of acknowledgement and of durability:
`send` makes one of each call and returns when it is in the spool; calls made at the same time share one fsync.
`send_rows` and `send_columns` make one of many rows. `collect` returns at once and gathers rows for at most `flush_ms`:
fewer fsyncs and smaller frames for a fast sensor, at the price of that much when the machine fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import msgspec

from agent_client.client import ConnectionState, Surroundings
from agent_client.endpoint import AddressError, Endpoint, device_url
from device_agent.batch import Columns, columns_of_rows
from device_agent.catalogue import Catalogue, check_time
from device_agent.collector import FLUSH_MS, Collector, Row
from device_agent.errors import AgentError, ReadingError, SpoolError
from device_agent.intake import Intake
from device_agent.spool import MemorySpool, Spool, SqliteSpool
from device_agent.uplink import Count, Identity, Uplink
from wire import device as messages
from wire.codec import Format
from wire.errors import Code
from wire.limits import MAX_BATCH_BYTES
from wire.model import DeviceId, Metric, Value

DRAIN_SECONDS = 5.0
"""How long leaving an agent waits for acknowledgements; what is left stays in a durable spool."""

_log = logging.getLogger(__name__)


def _agent_name() -> str:
    try:
        return f"telemetry-hub-agent/{version('telemetry-hub')}"
    except PackageNotFoundError:
        return "telemetry-hub-agent"


AGENT_NAME = _agent_name()
"""Name of this software in the hello and in the User-Agent header."""


class Counts(NamedTuple):
    """What happened since the agent was opened.

    `sent` was stored in the spool by this agent. `acknowledged` was sent from here and is durable in the hub, batches
    of earlier runs included; `rejected` of those are in the hub's quarantine. `lost` left the spool because it was
    full. `waiting` is in the spool now, in batches. `transmissions` counts frames, repeated ones included;
    `connections` counts welcomes.
    """

    sent: Count
    acknowledged: Count
    rejected: Count
    lost: Count
    waiting: int
    transmissions: int
    connections: int


class Agent:
    """One device's agent, an async context manager. All methods belong to one event loop.

    `url` is the hub's (ws, wss, http or https). `spool` is a path of a durable spool, a spool, or None for one in
    memory. `metrics` declares types, units and descriptions; what is not declared is a float, boolean or string by its
    first value. `when_full` says what happens when the spool is full: "drop" its oldest batches, which the hub is told,
    or "wait" until there is room. `on_ack` is called with the highest acknowledged number, `on_reject` with each batch
    that the hub put in quarantine. Raises AgentError for bad arguments; entering raises SpoolError and ReadingError.

    Leaving writes what was collected, waits for acknowledgements for at most `drain_seconds` (not at all when a durable
    spool has no connection), and raises what stopped the uplink, if anything did and nobody was told yet.
    """

    def __init__(
        self,
        url: str,
        *,
        device: str,
        token: str | None = None,
        spool: Spool | str | Path | None = None,
        metrics: Iterable[Metric] = (),
        tags: Mapping[str, str] | None = None,
        format: Format = "msgpack",
        flush_ms: int = FLUSH_MS,
        drain_seconds: float = DRAIN_SECONDS,
        when_full: Literal["drop", "wait"] = "drop",
        proxy: str | None = None,
        on_ack: Callable[[int], None] | None = None,
        on_reject: Callable[[messages.Reject], None] | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        try:
            self.device = msgspec.convert(device, DeviceId)
            tags = msgspec.convert(dict(tags or {}), messages.Tags)
        except msgspec.ValidationError as error:
            raise AgentError(f"the device {device!r} and its tags {tags!r} are not valid: {error}") from None
        try:
            endpoint = Endpoint(device_url(url), token, format, proxy)
        except AddressError as error:
            raise AgentError(str(error)) from None
        self.spool: Spool = _spool_at(spool, device)
        self._declared = list(metrics)
        self._drain_s = drain_seconds
        self._surroundings = surroundings or Surroundings()
        self._uplink = Uplink(
            endpoint,
            Identity(device, tags, AGENT_NAME),
            self.spool,
            on_welcome=self._limit_batches,
            on_ack=on_ack,
            on_reject=on_reject,
            surroundings=self._surroundings,
        )
        self._catalogue = Catalogue()
        self._intake = Intake(
            self.spool, self._catalogue, format, when_full=self._wait_room if when_full == "wait" else None
        )
        self._collector = Collector(self._intake, flush_ms=flush_ms)
        self._open = False
        self._closing = asyncio.Event()
        self._failure: AgentError | None = None
        self._failure_told = False
        self._tasks: list[asyncio.Task[None]] = []
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Agent:
        await self._resources.enter_async_context(self.spool)
        try:
            self._fill_catalogue()
        except BaseException:
            await self._resources.aclose()
            raise
        for work in (self._uplink.run, self._collector.run):
            self._tasks.append(asyncio.create_task(self._watch(work), name=f"agent {self.device}"))
        self._open = True
        return self

    async def __aexit__(self, exc_type: object, *rest: object) -> None:
        self._open = False
        self._closing.set()
        try:
            await self._collector.flush()
            await self._drain_for(self._drain_s)
        except SpoolError as error:
            self._failure = self._failure or error
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._resources.aclose()
            self._tell_what_is_left()
        if exc_type is None and self._failure is not None and not self._failure_told:
            raise self._failure

    @property
    def state(self) -> ConnectionState:
        """Where the uplink is."""
        return self._uplink.state

    @property
    def counts(self) -> Counts:
        """What was sent and what became of it."""
        tally, lost = self._uplink.tally, self.spool.lost
        return Counts(
            self._intake.sent,
            tally.acknowledged,
            tally.rejected,
            Count(lost.batches, lost.readings),
            self.spool.waiting,
            tally.transmissions,
            tally.connections,
        )

    def declare(self, metrics: Iterable[Metric]) -> None:
        """Makes metrics known before their first value, or changes units and descriptions. Raises ReadingError."""
        for metric in metrics:
            self._catalogue.declare(metric)

    async def send(self, values: Mapping[str, Value], time_ns: int | None = None, *, historical: bool = False) -> int:
        """One row of values, at a time or now; in the spool when this returns its batch's number.

        What was collected goes before it. A None is no value. `historical` marks backfill. Raises ReadingError,
        SpoolError, and what stopped the uplink.
        """
        self._check_open()
        row = self._catalogue.check_row(values)
        time_ns = self._surroundings.time_ns() if time_ns is None else check_time(time_ns)
        if not self._collector.is_empty:
            await self._collector.flush()
        return await self._intake.put_row(time_ns, row, historical=historical)

    async def send_rows(self, rows: Iterable[tuple[int, Mapping[str, Value]]], *, historical: bool = False) -> int:
        """Rows of (time_ns, values) as one batch, or several where they are many; returns the last one's number.

        All are checked before the first is stored. Raises as send does; a SpoolError can leave the first of several
        batches stored.
        """
        self._check_open()
        checked = [(check_time(time_ns), self._catalogue.check_row(values)) for time_ns, values in rows]
        if not checked:
            raise ReadingError(Code.EMPTY, "", "there is no row")
        await self._collector.flush()
        return await self._intake.put_columns(columns_of_rows(checked, historical=historical))

    async def send_columns(
        self, times_ns: Sequence[int], values: Mapping[str, Sequence[Value]], *, historical: bool = False
    ) -> int:
        """The same from columns: a time per row, and per metric a value per row, None for no value."""
        self._check_open()
        times = [check_time(time_ns) for time_ns in times_ns]
        columns = self._catalogue.check_columns(values, len(times))
        await self._collector.flush()
        return await self._intake.put_columns(Columns(times, columns, historical))

    async def collect(
        self, values: Mapping[str, Value], time_ns: int | None = None, *, historical: bool = False
    ) -> None:
        """One row for the next batch, which is made after `flush_ms`, with many rows, or by flush().

        Waits only while MAX_COLLECTED_ROWS are there already. Raises as send does.
        """
        self._check_open()
        row = self._catalogue.check_row(values)
        time_ns = self._surroundings.time_ns() if time_ns is None else check_time(time_ns)
        await self._collector.add(Row(time_ns, row, historical))

    async def flush(self) -> None:
        """Puts what was collected into the spool; it is durable when this returns. Raises SpoolError."""
        self._check_open()
        await self._collector.flush()

    async def drain(self, timeout_s: float | None = None) -> None:
        """Returns when the hub has acknowledged everything. Raises TimeoutError, SpoolError, and as send does."""
        await self.flush()
        try:
            async with asyncio.timeout(timeout_s):
                while self.spool.acked < self.spool.next_seq - 1:
                    self._check_open()
                    await self._uplink.wait_change()
        except TimeoutError:
            raise TimeoutError(f"{self.spool.waiting} batches are not acknowledged after {timeout_s} s") from None

    async def wait_stopped(self) -> NoReturn:
        """Raises what stopped the uplink, when something does; for programs that would otherwise wait for a sensor."""
        while self._failure is None:
            await self._uplink.wait_change()
        self._failure_told = True
        raise self._failure

    def _check_open(self) -> None:
        if self._failure is not None:
            self._failure_told = True
            raise self._failure
        if not self._open:
            raise AgentError("the agent is not open")

    async def _wait_room(self, size_bytes: int) -> None:
        """Waits for acknowledgements to make room, or for the news that none will come."""
        room = asyncio.create_task(self.spool.wait_room(size_bytes))
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait((room, closing, self._tasks[0]), return_when=asyncio.FIRST_COMPLETED)
        finally:
            room.cancel()
            closing.cancel()
        if self._closing.is_set():
            raise SpoolError("the spool is full, and the agent is closed")
        self._check_open()

    def _fill_catalogue(self) -> None:
        """What is known from earlier runs, whose types hold, and what is declared now."""
        self.declare(self.spool.metrics.values())
        self.declare(self._declared)

    def _limit_batches(self, max_batch_bytes: int) -> None:
        self._intake.max_batch_bytes = min(max_batch_bytes, MAX_BATCH_BYTES)

    async def _watch(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except AgentError as error:
            self._failure = self._failure or error
        except Exception as error:  # noqa: BLE001 - whoever uses the agent is told
            _log.exception("a defect of the agent stopped it")
            self._failure = AgentError(f"a defect of the agent stopped it: {error!r}")
        self._uplink.wake()

    async def _drain_for(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.spool.acked < self.spool.next_seq - 1 and self._may_be_acknowledged():
                    await self._uplink.wait_change()

    def _may_be_acknowledged(self) -> bool:
        if self.spool.durable:
            return self._failure is None and self.state in (ConnectionState.CONNECTING, ConnectionState.ONLINE)
        return self._failure is None

    def _tell_what_is_left(self) -> None:
        waiting = self.spool.waiting
        if waiting and self.spool.durable:
            _log.info("%d batches stay in the spool and are sent next time", waiting)
        elif waiting:
            _log.warning("%d batches were not acknowledged and are lost with their spool, which was in memory", waiting)


def _spool_at(spool: Spool | str | Path | None, device: str) -> Spool:
    if spool is None:
        return MemorySpool()
    if isinstance(spool, str | Path):
        return SqliteSpool(spool, device=device)
    return spool
