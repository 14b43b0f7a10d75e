"""The log of the agent's commands: readable lines on a terminal, JSON elsewhere."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import TextIO

from device_agent.sources.lines import InputCounts
from wire.text import escape_log_event

EXTRAS = InputCounts.__struct_fields__
"""Fields of a record that are logged besides its message."""

QUIET_LOGGERS = ("websockets.client", "asyncio")
"""Loggers of libraries that report each connection."""


class JsonFormatter(logging.Formatter):
    """One JSON object for each record: event, level, logger, extra fields and the time in UTC.

    It needs no library: structlog, which formats lines for a terminal, takes 5 MB that a service does not have.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        event: dict[str, object] = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            **{name: value for name, value in vars(record).items() if name in EXTRAS},
            "timestamp": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(escape_log_event(None, "", event), default=repr)


def set_up_log(level: str) -> logging.StreamHandler[TextIO]:
    """Log to stderr, as console lines on a terminal and as JSON elsewhere; return the only handler."""
    handler: logging.StreamHandler[TextIO] = logging.StreamHandler()
    handler.setFormatter(_console_formatter() if sys.stderr.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    return handler


def _console_formatter() -> logging.Formatter:
    """Return the formatter of structlog for a terminal. NO_COLOR is respected."""
    import structlog

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(EXTRAS),
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            escape_log_event,
            structlog.dev.ConsoleRenderer(
                colors="NO_COLOR" not in os.environ, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
    )
