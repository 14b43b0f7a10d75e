"""The agent as a library: it stores readings on disk, and delivers them however often the connection breaks.

    async with Agent("ws://127.0.0.1:8600", device="boiler-1", token=token, spool="boiler.spool") as agent:
        await agent.send({"temperature": 21.5})

The caller chooses how readings become batches, because a batch is the unit of acknowledgement and of durability. `send`
makes a batch of each call and returns when it is in the spool; concurrent calls share one fsync. `send_rows` and
`send_columns` make one batch of many rows. `collect` returns at once and gathers rows for at most `flush_ms`: a fast
sensor needs fewer fsyncs and smaller frames, and loses that much when the machine fails.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from agent_client.client import ConnectionState, Surroundings
from agent_client.endpoint import AddressError, Endpoint, TokenFile, device_url
from device_agent.access import AccessRequester
from device_agent.agent_options import AgentCounts, AgentOptions
from device_agent.batch import ReadingColumns, columns_of_rows
from device_agent.catalogue import MetricCatalogue, check_time, types_conflict
from device_agent.errors import AgentError, ReadingError, SpoolError, SpoolFailed
from device_agent.operator_commands.exchange import OperatorExchange
from device_agent.operator_commands.handler import (
    TIME_LIMIT_S,
    CommandHandler,
    Limits,
    check_time_limit,
    declare,
    setting_handler,
)
from device_agent.operator_commands.log import CommandEntry
from device_agent.operator_commands.setting_runner import SettingOverview
from device_agent.refusals import REPORT_SECONDS, RefusalTally
from device_agent.source_state import shorten
from device_agent.spool import MemorySpool, Spool, SqliteSpool
from device_agent.spool_writer import Batching, CollectedRow, Collector, SpoolWriter
from device_agent.uplink import AGENT_NAME, Uplink
from formats.record import RefusedInput
from wire import device as messages
from wire.device_session import ClockOffset
from wire.errors import Code
from wire.limits import MAX_BATCH_BYTES, MAX_EVENT_KIND, MAX_REASON, MAX_SOURCE_NAME, MAX_SOURCES
from wire.model import DeviceId, Metric, MetricType, Value
from wire.text import plural

MAX_WAITING_EVENTS = 100
"""Events that wait for the spool: more are only there while its disk is full, and then the oldest are dropped."""

DRAIN_SECONDS = 5.0
"""Longest wait for acknowledgements on leaving an agent; the rest stays in a durable spool."""

MAX_BATCHINGS = 16
"""Different bounds of batches: each has a task, and rows in memory."""

_Function = TypeVar("_Function", bound=Callable[..., Any])

EVENT_KIND = re.compile(f"[a-z][a-z ]{{0,{MAX_EVENT_KIND - 1}}}")

_log = logging.getLogger(__name__)


class Agent:
    """The agent of one device, an async context manager. All methods belong to one event loop.

    `url` is the hub's address (ws, wss, http or https). `spool` is the path of a durable spool, a spool, or None for a
    spool in memory. `metrics` declares types, units and descriptions, and corrects a type of an earlier run; the first
    value of an undeclared metric makes it a float, boolean or string. `on_ack` is called with the highest acknowledged
    number, `on_reject` with each batch that the hub put in quarantine. Raises AgentError for invalid arguments;
    entering raises SpoolError and ReadingError.

    Leaving writes collected rows and waits for acknowledgements for at most `drain_seconds` (not at all when a durable
    spool has no connection). It raises the error that stopped the uplink unless a method has raised it already.
    """

    def __init__(
        self,
        url: str,
        *,
        device: str,
        token: str | TokenFile | None = None,
        spool: Spool | str | Path | None = None,
        metrics: Iterable[Metric] = (),
        tags: Mapping[str, str] | None = None,
        drain_seconds: float = DRAIN_SECONDS,
        on_ack: Callable[[int], None] | None = None,
        on_reject: Callable[[messages.Reject], None] | None = None,
        surroundings: Surroundings | None = None,
        options: AgentOptions | None = None,
    ) -> None:
        options = options or AgentOptions()
        try:
            self.device = msgspec.convert(device, DeviceId)
            tags = msgspec.convert(dict(tags or {}), messages.Tags)
        except msgspec.ValidationError as error:
            raise AgentError(f"the device {device!r} and its tags {tags!r} are not valid: {error}") from None
        try:
            endpoint = Endpoint(device_url(url), token, options.format, options.proxy, options.tls, options.compression)
        except AddressError as error:
            raise AgentError(str(error)) from None
        self.spool: Spool = _spool_at(spool, device)
        self._declared = list(metrics)
        self._drain_s = drain_seconds
        self._surroundings = surroundings or Surroundings()
        self._operators = OperatorExchange(self.spool, self._surroundings, lambda: self._uplink.wake())
        self._uplink = Uplink(
            endpoint,
            self.spool,
            device,
            tags,
            self._limit_batches,
            on_ack,
            on_reject,
            self._surroundings,
            commands=self._operators,
        )
        if options.ask_access and isinstance(token, TokenFile):
            self._uplink.access = AccessRequester(endpoint, token, device, AGENT_NAME, self._uplink.wake)
        self._catalogue = MetricCatalogue()
        when_full = self._wait_room if options.when_full == "wait" else None
        self._writer = SpoolWriter(self.spool, self._catalogue, options.format, when_full)
        self._batching = Batching(options.flush_ms)
        self._collectors: dict[Batching, Collector] = {}
        self._refused: dict[str, RefusalTally] = {}
        self._has_refused = asyncio.Event()
        self._events: deque[messages.DeviceEvent] = deque(maxlen=MAX_WAITING_EVENTS)
        self._has_events = asyncio.Event()
        self._open = False
        self._closing = asyncio.Event()
        self._failure: AgentError | None = None
        self._failure_raised = False
        self._tasks: list[asyncio.Task[None]] = []
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Agent:
        await self._resources.enter_async_context(self.spool)
        try:
            # The metrics of earlier runs, whose types stay unless this run declares another one.
            self.declare(self._earlier_metrics())
            self.declare(self._declared)
            await self._operators.open()
        except BaseException:
            await self._resources.aclose()
            raise
        operators = self._operators.commands.run, self._operators.settings.run
        for work in (self._uplink.run, self._report_refused, self._report_events, *operators):
            self._start(work)
        if self._uplink.access is not None:
            self._start(self._uplink.access.run)
        self._open = True
        return self

    def _earlier_metrics(self) -> list[Metric]:
        """Return the metrics of earlier runs, without those whose type was corrected in the declarations of this run.

        Batches that wait keep their values; the hub puts those that it cannot store in quarantine.
        """
        declared = {metric.name: metric.type for metric in self._declared}
        return [
            known
            for known in self.spool.metrics.values()
            if not types_conflict(known.type, declared.get(known.name, known.type))
        ]

    async def __aexit__(self, exc_type: object, *rest: object) -> None:
        self._open = False
        self._closing.set()
        try:
            await self._operators.drain(self._drain_s)
            await self._flush_collected()
            await self._store_reports()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._drain_s):
                    while self.spool.acked < self.spool.next_seq - 1 and self._may_be_acknowledged():
                        await self._uplink.wait_change()
        except SpoolError as error:
            self._failure = self._failure or error
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            try:
                await self._operators.close()
            except SpoolError as error:
                self._failure = self._failure or error
            await self._resources.aclose()
            self._report_rest()
        if exc_type is None and self._failure is not None and not self._failure_raised:
            raise self._failure

    @property
    def state(self) -> ConnectionState:
        """The state of the connection."""
        return self._uplink.state

    @property
    def sources(self) -> list[messages.SourceState]:
        """The states of the sources that were reported."""
        return self._uplink.source_states()

    @property
    def hub_url(self) -> str:
        """The address of the hub's endpoint."""
        return self._uplink.endpoint.url

    @property
    def problem(self) -> str:
        """Why the last connection or attempt ended, or what the agent waits for; empty while there is a connection."""
        access = self._uplink.access
        return self._uplink.problem and ((access and access.notice) or self._uplink.problem)

    @property
    def clock(self) -> ClockOffset | None:
        """The offset of this computer's clock from the hub's, from the last welcome; None before the first."""
        return self._uplink.clock

    async def wait_change(self) -> None:
        """Wait for the next acknowledgement, or change of the connection or of a source."""
        await self._uplink.wait_change()

    @property
    def counts(self) -> AgentCounts:
        """The counters since the agent was opened."""
        tally = self._uplink.tally
        return AgentCounts(
            self._writer.sent,
            tally.acknowledged,
            tally.rejected,
            self.spool.lost,
            self.spool.waiting,
            tally.transmissions,
            tally.connections,
        )

    def declare(self, metrics: Iterable[Metric]) -> None:
        """Declare metrics before their first value, or change their units and descriptions. Raises ReadingError."""
        for metric in metrics:
            self._catalogue.declare(metric)

    def command(
        self,
        name: str,
        *,
        description: str = "",
        confirm: bool = False,
        limits: Mapping[str, Limits] | None = None,
        time_limit_s: float = TIME_LIMIT_S,
        concurrent: bool = False,
    ) -> Callable[[_Function], _Function]:
        """Make a function the handler of a command of operators: a decorator.

            @agent.command("set_speed", limits={"speed": Limits(0, 30, unit="m/s")})
            async def set_speed(speed: float) -> None:
                await motor.turn(speed)

        The parameters are those of the function, by their types: float, int, bool, str or a Literal of choices; one
        with a default need not be given. They are checked before the function is called. `confirm` asks the operator
        for a confirmation. A function that is not asynchronous runs in a thread. What it returns is the result, a JSON
        value of at most 4,096 bytes. An exception is a failure, and `Rejected` a refusal without any effect. After
        `time_limit_s` the command has failed. Handlers run one at a time, except `concurrent` ones.

        Declare handlers before the agent is entered, so that commands of an earlier run find theirs. Raises AgentError.
        """
        check_time_limit(name, time_limit_s)

        def add(function: _Function) -> _Function:
            declaration = declare(function, name, description=description, confirm=confirm, limits=limits)
            self.add_command(CommandHandler(declaration, function, time_limit_s, concurrent))
            return function

        return add

    def add_command(self, handler: CommandHandler) -> None:
        """Add a command whose declaration is made already. Raises AgentError."""
        self._operators.commands.add(handler)

    def setting(
        self,
        name: str,
        *,
        min: float | None = None,
        max: float | None = None,
        choices: Sequence[str | float] = (),
        unit: str = "",
        description: str = "",
        source: str = "",
        time_limit_s: float = TIME_LIMIT_S,
    ) -> Callable[[_Function], _Function]:
        """Make a function the handler of a setting, whose desired value operators choose: a decorator.

            @agent.setting("target_pressure", min=0, max=6, unit="bar")
            async def set_target(value: float) -> None:
                await pump.hold(value)

        It is called with the desired value at each start of the agent, and when the value changes; when it returns, the
        value is in force. `Rejected` refuses the value without any effect. After any other exception, and after
        `time_limit_s`, it is called again later. Handlers run one at a time, like those of commands. It is also called
        after `report_restart` of this `source`. Raises AgentError.
        """
        check_time_limit(name, time_limit_s)
        limits = Limits(min, max, tuple(choices), unit, description)

        def add(function: _Function) -> _Function:
            self.add_setting(setting_handler(function, name, limits, time_limit_s=time_limit_s, source=source))
            return function

        return add

    def add_setting(self, handler: CommandHandler) -> None:
        """Add a setting whose handler is made already. Raises AgentError."""
        self._operators.settings.add(handler)

    def report_setting(self, name: str, value: Value) -> None:
        """Report that the device itself has changed the value of a setting. Raises ReadingError."""
        self._operators.settings.report_value(name, value)

    def report_restart(self, source: str, reason: str) -> None:
        """Report that the board of a source has restarted: the handlers of its settings get their values again."""
        self._operators.settings.lose(source, reason)

    @property
    def settings(self) -> SettingOverview:
        """The settings: desired, in force, and why not."""
        return self._operators.settings.overview

    def recent_commands(self, ended: int) -> list[CommandEntry]:
        """Return the commands that have not ended, and the newest that have, at most `ended`."""
        return self._operators.commands.recent(ended)

    def wake_commands(self) -> None:
        """Continue with commands and settings that wait for a source to be open, after it has opened."""
        self._operators.wake()

    def metric_type(self, name: str) -> MetricType | None:
        """Return the type of a metric, None if it is not declared and had no value yet."""
        metric = self._catalogue.metrics.get(name)
        return None if metric is None else metric.type

    def report_source(self, name: str, error: str | None = None) -> None:
        """Report to the hub that a source of readings works, or why it does not; it shows this until the next report.

        `name` says what people have to look at, such as a port. Changes are sent at most once a second, and only the
        first 16 sources are reported. A hub of an older version does not know sources.
        """
        self._uplink.report_source(name, error)

    async def send(self, values: Mapping[str, Value], time_ns: int | None = None, *, historical: bool = False) -> int:
        """Store one row of values, of a time or of now, and return the number of its batch.

        Collected rows are written before it. None is no value. `historical` marks backfill. Raises ReadingError,
        SpoolError, and the error that stopped the uplink.
        """
        self._check_open()
        row = self._catalogue.check_row(values)
        time_ns = self._surroundings.time_ns() if time_ns is None else check_time(time_ns)
        await self._flush_collected()
        return await self._writer.put_row(time_ns, row, historical=historical)

    async def send_rows(self, rows: Iterable[tuple[int, Mapping[str, Value]]], *, historical: bool = False) -> int:
        """Store rows of (time_ns, values) as one batch, or several where they are many; return the last number.

        All are checked before the first is stored. Raises as send does; a SpoolError can leave the first of several
        batches stored.
        """
        self._check_open()
        checked = [(check_time(time_ns), self._catalogue.check_row(values)) for time_ns, values in rows]
        if not checked:
            raise ReadingError(Code.EMPTY, "", "there is no row")
        await self._flush_collected()
        return await self._writer.put_columns(columns_of_rows(checked, historical=historical))

    async def send_columns(
        self, times_ns: Sequence[int], values: Mapping[str, Sequence[Value]], *, historical: bool = False
    ) -> int:
        """Store columns: a time for each row, and for each metric a value for each row, None for no value."""
        self._check_open()
        times = [check_time(time_ns) for time_ns in times_ns]
        columns = self._catalogue.check_columns(values, len(times))
        await self._flush_collected()
        return await self._writer.put_columns(ReadingColumns(times, columns, historical))

    async def collect(
        self,
        values: Mapping[str, Value],
        time_ns: int | None = None,
        *,
        historical: bool = False,
        batching: Batching | None = None,
    ) -> None:
        """Add one row to the next batch, which is stored after `flush_ms`, with many rows, or by `flush`.

        `batching` has other bounds of the batch; rows of the same bounds share batches, in their order. Waits only
        while a full batch is written. Raises the same errors as `send`, and AgentError for more than MAX_BATCHINGS
        bounds.
        """
        self._check_open()
        collector = self._collector_of(batching or self._batching)
        row = self._catalogue.check_row(values)
        time_ns = self._surroundings.time_ns() if time_ns is None else check_time(time_ns)
        await collector.add(CollectedRow(time_ns, row, historical))

    def refuse(self, source: str, refusals: Sequence[RefusedInput]) -> None:
        """Count lines and values that a source refuses, and report them to the hub, with the first of each reason.

        A report is stored like a batch, at most once in REPORT_SECONDS and at the end. The first 16 sources are
        reported.
        """
        tally = self._refused.get(source)
        if tally is None:
            if len(self._refused) == MAX_SOURCES:
                return
            tally = self._refused[source] = RefusalTally()
        tally.add(refusals, self._surroundings.time_ns())
        self._has_refused.set()

    def report_event(self, kind: str, detail: str = "", *, source: str = "", time_ns: int | None = None) -> None:
        """Report something that happened to the device, such as a restart, at a time or now; charts show it.

        `kind` are some words in small letters a to z, up to 64. The event is stored like a batch, soon. A hub of a
        version before 1.3 of the protocol gets a gap with the text. Raises ReadingError for another kind.
        """
        if not EVENT_KIND.fullmatch(kind):
            raise ReadingError(Code.BAD_MESSAGE, "", f"{kind!r} is no kind of an event: write words of a to z")
        if len(self._events) == MAX_WAITING_EVENTS:
            _log.error("the oldest event that waits for the spool is dropped: %s", self._events[0].kind)
        time_ns = self._surroundings.time_ns() if time_ns is None else check_time(time_ns)
        source = shorten(source, MAX_SOURCE_NAME) if source else ""
        detail = shorten(detail, MAX_REASON) if detail else ""
        self._events.append(messages.DeviceEvent(1, time_ns, kind, source, detail))
        self._has_events.set()

    async def flush(self) -> None:
        """Store the collected rows, what was refused, and events; durable when this returns. Raises SpoolError."""
        self._check_open()
        await self._flush_collected()
        await self._store_reports()

    async def drain(self, timeout_s: float | None = None) -> None:
        """Wait until the hub has acknowledged everything. Raises TimeoutError and the same errors as `send`."""
        await self.flush()
        try:
            async with asyncio.timeout(timeout_s):
                while self.spool.acked < self.spool.next_seq - 1:
                    self._check_open()
                    await self._uplink.wait_change()
        except TimeoutError:
            waiting = plural(self.spool.waiting, "batch is", "batches are")
            raise TimeoutError(f"{waiting} not acknowledged after {timeout_s} s") from None

    async def wait_stopped(self) -> NoReturn:
        """Wait until the uplink stops and raise the reason; for programs that would otherwise wait for a sensor."""
        while self._failure is None:
            await self._uplink.wait_change()
        self._failure_raised = True
        raise self._failure

    def _collector_of(self, batching: Batching) -> Collector:
        collector = self._collectors.get(batching)
        if collector is None:
            if len(self._collectors) == MAX_BATCHINGS:
                raise AgentError(f"batches have at most {MAX_BATCHINGS} different bounds")
            collector = self._collectors[batching] = Collector(self._writer, batching)
            self._start(collector.run)
        return collector

    async def _flush_collected(self) -> None:
        """Store the collected rows. Raises SpoolError."""
        for collector in list(self._collectors.values()):
            if not collector.is_empty:
                await collector.flush()

    async def _report_refused(self) -> None:
        """Store a report of what sources refuse, at most once in REPORT_SECONDS. Raises SpoolFailed."""
        while True:
            await self._has_refused.wait()
            await asyncio.sleep(REPORT_SECONDS)
            try:
                await self._store_reports()
            except SpoolFailed:
                raise
            except SpoolError as error:
                _log.debug("report of refused lines not stored, it is kept: %s", error)

    async def _report_events(self) -> None:
        """Store events when there are some. Raises SpoolFailed."""
        while True:
            await self._has_events.wait()
            try:
                await self._store_events()
            except SpoolFailed:
                raise
            except SpoolError as error:
                _log.debug("event not stored, it is kept: %s", error)
                await asyncio.sleep(REPORT_SECONDS)

    async def _store_events(self) -> None:
        """Store the events that wait. Raises SpoolError; then nothing is lost."""
        while self._events:
            event = self._events.popleft()
            try:
                await self._writer.put_report(event)
            except SpoolError:
                self._events.appendleft(event)
                raise
        self._has_events.clear()

    async def _store_reports(self) -> None:
        """Store events, and what is refused and not reported. Raises SpoolError; then nothing is lost."""
        await self._store_events()
        self._has_refused.clear()
        for source, tally in self._refused.items():
            if tally.is_empty:
                continue
            report = tally.take(source)
            try:
                await self._writer.put_report(report)
            except SpoolError:
                tally.put_back(report)
                self._has_refused.set()
                raise

    def _check_open(self) -> None:
        if self._failure is not None:
            self._failure_raised = True
            raise self._failure
        if not self._open:
            raise AgentError("the agent is not open; use it inside `async with`")

    async def _wait_room(self, size_bytes: int) -> None:
        """Wait until acknowledgements make room, or until none can arrive any more."""
        room = asyncio.create_task(self.spool.wait_room(size_bytes))
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait((room, closing, self._tasks[0]), return_when=asyncio.FIRST_COMPLETED)
        finally:
            room.cancel()
            closing.cancel()
        if self._closing.is_set():
            raise SpoolError("the spool is full and the agent is closed; the batch is not stored")
        self._check_open()

    def _limit_batches(self, max_batch_bytes: int) -> None:
        self._writer.max_batch_bytes = min(max_batch_bytes, MAX_BATCH_BYTES)

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.append(asyncio.create_task(self._watch(work), name=f"agent {self.device}"))

    async def _watch(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except AgentError as error:
            self._failure = self._failure or error
        except Exception as error:  # noqa: BLE001 - the agent's caller gets it
            _log.exception("agent stopped by a defect")
            self._failure = AgentError(f"a defect stopped the agent; what is in a durable spool is kept: {error!r}")
        self._uplink.wake()

    def _may_be_acknowledged(self) -> bool:
        if self.spool.durable:
            return self._failure is None and self.state in (ConnectionState.CONNECTING, ConnectionState.ONLINE)
        return self._failure is None

    def _report_rest(self) -> None:
        waiting = self.spool.waiting
        # The warning about it may be hours old.
        why = f" ({self.problem})" if self.problem else ""
        if waiting and self.spool.durable:
            _log.info("%s in the spool until the next run%s", plural(waiting, "batch stays", "batches stay"), why)
        elif waiting:
            lost = plural(waiting, "batch was", "batches were")
            _log.warning("%s not acknowledged and lost: the spool was in memory%s", lost, why)


def _spool_at(spool: Spool | str | Path | None, device: str) -> Spool:
    if spool is None:
        return MemorySpool()
    if isinstance(spool, str | Path):
        return SqliteSpool(spool, device=device)
    return spool
