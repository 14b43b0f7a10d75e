"""The log of `hub run`: its form, its level, and which lines of other libraries it shows."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import logging, sys, structlog
from hub.cli.run import set_up_log
from hub.config.sections import LogSettings
set_up_log(LogSettings(level=sys.argv[1], format=sys.argv[2]))
log = structlog.get_logger("a")
log.debug("fine", n=1)
log.info("plain", n=2)
logging.getLogger("other").warning("foreign %s", 3, extra={"store": "x", "text": "\\x1b[2J"})
for name in ("uvicorn.error", "uvicorn.access", "websockets.server", "asyncio"):
    logging.getLogger(name).info("noise")
try:
    raise ValueError("\\x1b[2J\\u202e" + "y" * 50_000)
except ValueError:
    log.exception("failed", path="x" * 50_000)
"""


def lines(level: str, form: str) -> list[str]:
    """Return what a process logs on stderr, which is no terminal."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, level, form], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize("form", ["json", "auto"])
def test_programs_get_json_lines(form: str) -> None:
    """Each with event, level, a time in UTC and its fields; a traceback is a field."""
    records = [json.loads(line) for line in lines("info", form)]
    assert [(r["event"], r["level"]) for r in records] == [
        ("plain", "info"),
        ("foreign 3", "warning"),
        ("failed", "error"),
    ]
    assert records[0]["n"] == 2
    assert records[0]["timestamp"].endswith("Z")
    assert records[1]["store"] == "x"
    assert records[2]["exception"].endswith("y" * 1_000)
    assert records[1]["text"] == r"\x1b[2J"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_text_from_outside_is_cut(form: str) -> None:
    """In a field, and as the message of an exception, whose traceback keeps its end."""
    found = lines("error", form)
    assert sum(map(len, found)) < 13_000
    assert any("x" * 1_000 in line and "x" * 1_001 not in line for line in found)
    assert any("y" * 1_000 in line for line in found)
    assert not any(character in line for line in found for character in "\x1b\u202e")


def test_the_level_decides_what_is_logged() -> None:
    """Lines of a connection of uvicorn, websockets and asyncio are never shown below a warning."""
    assert [json.loads(line)["event"] for line in lines("debug", "json")] == ["fine", "plain", "foreign 3", "failed"]
    assert [json.loads(line)["event"] for line in lines("error", "json")] == ["failed"]


def test_people_get_readable_lines() -> None:
    """Without colours where stderr is no terminal; a text from outside cannot control it."""
    found = lines("warning", "console")
    assert r"text=\x1b[2J" in found[0]
    assert "foreign 3" in found[0]
    assert "store=x" in found[0]
    assert not any("\x1b" in line for line in found)
