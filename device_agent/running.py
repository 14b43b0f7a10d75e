"""An agent with one source as a program: what it says while it runs, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.live import Live
from rich.text import Text

from device_agent.agent import Agent
from device_agent.pump import Deliver, pump
from device_agent.sources.reading import Source

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Result = TypeVar("Result")


def run_until_stopped(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Runs it in a new event loop; None when a signal stopped it. A second signal stops even the orderly stopping."""

    async def main() -> Result | None:
        task = asyncio.create_task(work)
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(main())


async def run_source(agent: Agent, source: Source, deliver: Deliver, *, drain: bool, log: logging.Handler) -> int:
    """Takes readings from the source until it ends, and with `drain` until all are acknowledged.

    Returns how many readings were not taken. Raises AgentError, and what the source raises.
    """
    async with agent:
        working = asyncio.create_task(_work(agent, source, deliver, drain=drain))
        stopped = asyncio.create_task(agent.wait_stopped())
        try:
            with _status_line(agent, log):
                await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else stopped.result()
        finally:
            working.cancel()
            stopped.cancel()
            await asyncio.gather(working, stopped, return_exceptions=True)


async def _work(agent: Agent, source: Source, deliver: Deliver, *, drain: bool) -> int:
    not_taken = await pump(source, agent, deliver)
    if drain:
        await agent.drain()
    return not_taken


@contextmanager
def _status_line(agent: Agent, log: logging.Handler) -> Iterator[None]:
    """One line at the bottom of a terminal; log lines go above it. Nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal or not isinstance(log, logging.StreamHandler):
        yield
        return
    with Live(get_renderable=lambda: _status(agent), console=console, refresh_per_second=2, transient=True):
        before = log.setStream(sys.stderr)  # which writes above the line for as long as it is shown
        try:
            yield
        finally:
            log.setStream(before or sys.stderr)


def _status(agent: Agent) -> Text:
    counts = agent.counts
    parts = [
        agent.device,
        agent.state.value,
        f"{counts.acknowledged.readings:,} readings acknowledged",
        f"{counts.waiting:,} batches wait",
    ]
    if counts.rejected.batches:
        parts.append(f"{counts.rejected.batches:,} rejected")
    if counts.lost.batches:
        parts.append(f"{counts.lost.batches:,} lost")
    return Text(" · ".join(parts), style="dim", no_wrap=True, overflow="ellipsis")
