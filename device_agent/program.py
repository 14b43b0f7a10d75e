"""An agent with its sources as a program: its status line, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from agent_client.signals import stopped_by_signals
from device_agent.agent import Agent
from device_agent.control import control_channel
from device_agent.errors import AgentError
from device_agent.refusals import REPORT_SECONDS
from device_agent.source_delivery import Deliver, SourceDelivery
from device_agent.sources import Source
from device_agent.status_file import StatusFile, read_agent_status
from wire.text import plural

if TYPE_CHECKING:
    from rich.text import Text

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def run_until_stopped(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Run the coroutine in a new event loop; return None if a signal stopped it. A second signal stops its cleanup."""

    async def main() -> Result | None:
        task = asyncio.create_task(work)
        with stopped_by_signals(task.cancel):
            try:
                return await task
            except asyncio.CancelledError:
                return None

    return asyncio.run(main())


async def run_together(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run coroutines until all have ended, or the first has failed; return their results.

    The others are cancelled once and end in order, also when this is cancelled: a TaskGroup of Python 3.11 can lose a
    cancellation, and `gather` does not wait for the others.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class RunningSource(NamedTuple):
    """A source of an agent. One that is `finite` ends by itself; any other starts again after it failed or ended."""

    delivery: SourceDelivery
    is_finite: bool = False


async def run_source(
    agent: Agent, source: Source, deliver: Deliver, *, spool: Path, is_finite: bool, log: logging.Handler
) -> int:
    """Deliver the readings of one source as `run_sources` does, with a status line on a terminal."""
    with status_line([agent], log):
        return await run_sources(agent, [RunningSource(SourceDelivery(source, agent, deliver), is_finite)], spool=spool)


async def run_sources(
    agent: Agent,
    sources: Sequence[RunningSource],
    *,
    spool: Path,
    on_open: Callable[[], None] = lambda: None,
) -> int:
    """Deliver readings until all sources end; then wait until everything is acknowledged.

    The status of the agent is in a file beside its spool meanwhile. `on_open` is called when the agent is open. Returns
    how many readings were rejected. Raises AgentError, and what a finite source raises that is the only one.
    """

    async def work() -> int:
        rejected = await run_together(_deliver(running, alone=len(sources) == 1) for running in sources)
        await agent.drain()
        return sum(rejected)

    deliveries = [running.delivery for running in sources]
    async with agent, control_channel(spool, [delivery.source for delivery in deliveries]):
        before = read_agent_status(spool)
        if before is not None and before.input is not None:
            # A run that ends in order removes its status, and no other run has the spool.
            _log.warning(
                "the last run was killed: what its source refused in the %.0f s before is not reported", REPORT_SECONDS
            )
        on_open()
        status = asyncio.create_task(StatusFile(spool, agent, deliveries).keep())
        working = asyncio.create_task(work())
        stopped = asyncio.create_task(agent.wait_stopped())
        try:
            await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else stopped.result()
        finally:
            for task in (working, stopped, status):
                task.cancel()
            await asyncio.gather(working, stopped, status, return_exceptions=True)
            for delivery in deliveries:
                if delivery.source.health.input is not None:
                    _log.info("input ended", extra=msgspec.structs.asdict(delivery.source.health.input.counts))


async def _deliver(running: RunningSource, *, alone: bool) -> int:
    """Deliver the readings of a source. A finite source that fails ends alone if there are others."""
    delivery = running.delivery
    try:
        return await delivery.run(restart=not running.is_finite)
    except AgentError:
        raise
    except Exception as error:
        # A finite source raises what it cannot read, such as a damaged file. Alone it is the failure of the command;
        # beside others it must not end them, so the log and the hub show it.
        if alone:
            raise
        health = delivery.source.health
        _log.exception("source %s failed, and is not started again", health.name)
        health.fail("source", f"stopped: {error}")
        return delivery.failed


@contextmanager
def status_line(agents: Sequence[Agent], log: logging.Handler) -> Iterator[None]:
    """Show a line for each agent at the bottom of a terminal, with log lines above; show nothing elsewhere."""
    if not sys.stderr.isatty() or not isinstance(log, logging.StreamHandler):
        yield
        return
    # rich takes 6 MB, which a service without a terminal does not need.
    from rich.console import Console, Group
    from rich.live import Live

    console = Console(stderr=True)

    def lines() -> Group:
        return Group(*map(_status, agents))

    with Live(get_renderable=lines, console=console, refresh_per_second=2, transient=True):
        before = log.setStream(sys.stderr)  # rich replaced it, and writes above the line
        try:
            yield
        finally:
            log.setStream(before or sys.stderr)


def _status(agent: Agent) -> Text:
    from rich.text import Text

    counts = agent.counts
    parts = [
        agent.device,
        agent.state.value,
        f"{plural(counts.acknowledged.readings, 'reading')} acknowledged",
        plural(counts.waiting, "batch waits", "batches wait"),
    ]
    if counts.rejected.batches:
        parts.append(f"{counts.rejected.batches:,} rejected")
    elif counts.rejected.readings:
        parts.append(f"{plural(counts.rejected.readings, 'reading')} rejected")
    if counts.lost.batches:
        parts.append(f"{counts.lost.batches:,} lost")
    return Text(" · ".join(parts), style="dim", no_wrap=True, overflow="ellipsis")
