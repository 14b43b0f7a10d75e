"""Log records of the agent, without the event loop's warnings about a slow machine."""

from __future__ import annotations

import logging

import pytest


def agent_records(caplog: pytest.LogCaptureFixture, level: int = logging.NOTSET) -> list[logging.LogRecord]:
    """The records of the agent's own modules from this level on."""
    return [record for record in caplog.records if record.name.startswith("device_agent") and record.levelno >= level]
