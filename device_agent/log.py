"""Log set-up of the commands: structlog renders what the library says through standard logging, on stderr."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

import structlog


def set_up_log(level: str) -> logging.StreamHandler[TextIO]:
    """Console lines for people, JSON lines for programs; NO_COLOR is honoured. Returns the handler of it all."""
    console = sys.stderr.isatty()
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    renderers: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler: logging.StreamHandler[TextIO] = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("websockets.client", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return handler
