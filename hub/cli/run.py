"""`hub run`: the server, and its log on stderr."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Annotated

import structlog
from typer import Option

from hub.cli.command import FAILED, Config, Data, fail, settings_or_exit
from hub.config.sections import LogSettings
from wire.text import escape_log_event


def run(
    config: Config = None,
    data: Data = None,
    listen: Annotated[
        str | None, Option(help="HOST:PORT to listen on; port 0 picks a free port.", show_default="127.0.0.1:8600")
    ] = None,
    demo: Annotated[
        bool, Option("--demo", help="Also start an agent for the sensors of this computer and 20 simulated devices.")
    ] = False,
) -> None:
    """Run the hub until Ctrl-C or SIGTERM.

    The first line on stdout contains the address. The first start also prints a one-time URL that signs a browser in.

    Examples:  hub run --demo  ·  hub run --data /var/lib/hub --listen 127.0.0.1:8600
    """
    # Imported here: the other commands need none of the server's libraries and start ten times as fast without them.
    from hub.app import HubError, run_hub

    settings = settings_or_exit(config, data=data, listen=listen)
    set_up_log(settings.log)
    with suppress(OSError, ValueError):  # stderr is no file
        # A file in memory that was cut ends the process with SIGBUS: the log then says where.
        faulthandler.enable()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            # Flushed, so that each line arrives without a delay, also in a pipe.
            runner.run(run_hub(settings, demo=demo, say=partial(print, flush=True)))
    except HubError as error:
        fail("hub", str(error), FAILED)


def set_up_log(log: LogSettings) -> None:
    """Log to stderr: readable lines on a terminal, else JSON lines. NO_COLOR is respected."""
    level = logging.getLevelNamesMapping()[log.level.upper()]
    console = log.format == "console" or (log.format == "auto" and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=not console),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty() and "NO_COLOR" not in os.environ,
            exception_formatter=structlog.dev.plain_traceback,
        )
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                escape_log_event,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # A line for each connection of each device floods the log; the events of the devices report connections.
    for name in ("uvicorn.error", "uvicorn.access", "websockets.server", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the event loop of uvloop if it is installed: each frame costs a third less."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop
