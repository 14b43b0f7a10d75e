"""Signals that stop a program, or that ask it to read its settings again. POSIX and Windows differ only here."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

if sys.platform == "win32":
    STOP_SIGNALS = (signal.SIGINT, signal.SIGBREAK)
    """Ctrl-C and Ctrl-Break. A process that is ended by another one gets no signal there."""

    RELOAD_SIGNALS: tuple[signal.Signals, ...] = ()
else:
    STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
    RELOAD_SIGNALS = (signal.SIGHUP,)


@contextmanager
def stopped_by_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Call `stop` in the running event loop for each signal that asks the program to end, within the block."""
    with _handled(STOP_SIGNALS, stop):
        yield


@contextmanager
def reloaded_by_signals(reload: Callable[[], object]) -> Iterator[None]:
    """Call `reload` for each signal that asks the program to read its settings again. Windows has none."""
    with _handled(RELOAD_SIGNALS, reload):
        yield


@contextmanager
def _handled(numbers: tuple[signal.Signals, ...], call: Callable[[], object]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    before = [signal.getsignal(number) for number in numbers]
    for number in numbers:
        if sys.platform == "win32":
            # Its event loops have no signal handlers; they only wake up for a signal.
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))
        else:
            loop.add_signal_handler(number, call)
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            if sys.platform != "win32":
                # This sets the default, but a program that nohup has started ignores SIGHUP.
                loop.remove_signal_handler(number)
            signal.signal(number, handler)
