"""Signals of a running event loop."""

from __future__ import annotations

import os
import signal

import pytest

from agent_client.signals import reloaded_by_signals, stopped_by_signals
from tests.conditions import until


@pytest.mark.parametrize("hangup", [signal.SIG_DFL, signal.SIG_IGN])
async def test_signals_call_within_the_block_only(hangup: signal.Handlers) -> None:
    """Both signals stop, and another one reloads; afterwards their handlers are those of before."""
    first = signal.signal(signal.SIGHUP, hangup)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    heard: list[str] = []
    with stopped_by_signals(lambda: heard.append("stop")), reloaded_by_signals(lambda: heard.append("reload")):
        for number, count in ((signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGHUP, 3)):
            os.kill(os.getpid(), number)
            await until(lambda count=count: len(heard) == count)  # type: ignore[misc]
    assert heard == ["stop", "stop", "reload"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    signal.signal(signal.SIGHUP, first)
