"""The log of the agent's commands."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

from device_agent.log import JsonFormatter


def test_a_record_is_one_json_object() -> None:
    """Outside of a terminal; only known extra fields are in it, and a traceback stays readable."""
    record = logging.LogRecord("device_agent.x", logging.ERROR, "f.py", 1, "no %s\x1b", ("port",), None)
    record.created = 1_769_860_800.25
    record.lines, record.taskName = 5, "t"  # an extra field, and one that Python itself adds
    assert json.loads(JsonFormatter().format(record)) == {
        "event": r"no port\x1b", "level": "error", "logger": "device_agent.x", "lines": 5,
        "timestamp": "2026-01-31T12:00:00.250000Z",
    }  # fmt: skip
    try:
        raise ValueError("broken\x9b")
    except ValueError:
        record.exc_info = sys.exc_info()
    trace = json.loads(JsonFormatter().format(record))["exception"]
    assert trace.splitlines()[-1] == r"ValueError: broken\x9b"


def test_a_service_imports_no_library_that_it_does_not_use() -> None:
    """A small computer has no memory to spare: each of them takes 1 to 8 MB."""
    unused = {"structlog", "rich", "typer", "serial", "psutil", "pymodbus"}
    program = f"import sys, device_agent.service; print({unused!r} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_a_log_line_cannot_control_the_terminal() -> None:
    """On a terminal, control characters in the text of a hub are printed as escapes."""
    terminal, stderr = os.openpty()
    script = """
import logging
from device_agent.log import set_up_log
set_up_log("info")
logging.getLogger("a").warning("%s; next attempt", chr(27) + "[2J" + chr(0x9b))
"""
    try:
        subprocess.run([sys.executable, "-c", script], stderr=stderr, env={**os.environ, "NO_COLOR": "1"}, check=True)
        line = os.read(terminal, 4096).decode().rstrip("\r\n")
    finally:
        os.close(stderr)
        os.close(terminal)
    assert r"\x1b[2J\x9b; next attempt" in line
    assert line.isprintable()
