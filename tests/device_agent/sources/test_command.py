"""Programs as sources: their lines, their ends, and what they leave."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import ValidationError, convert

from device_agent.sources.command import CommandSettings
from device_agent.sources.connection import Connection, ConnectionSource
from device_agent.sources.settings import SourceContext
from tests.conditions import until
from tests.device_agent.collected import collected


def source_of(*command: str, **settings: object) -> ConnectionSource[Connection]:
    made = convert({"command": command, **settings}, CommandSettings, dec_hook=lambda kind, value: kind(value))
    return made.source(SourceContext("boiler"))


SAY = "import json\ndef say(n, **how): print(json.dumps({'n': n}), **how)\n"


def python(text: str, **settings: object) -> ConnectionSource[Connection]:
    """Return a program in Python with a function that prints a value as JSON, whose format is known at once."""
    return source_of(sys.executable, "-c", SAY + text, **settings)


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    return False


async def test_each_line_is_a_reading() -> None:
    """Also while the program runs, and although Python writes to a pipe in blocks; standard input is empty."""
    text = "import sys, time\nfor n in range(3): say(n)\nprint(sys.stdin.read(), end='')\ntime.sleep(60)"
    async with collected(python(text)) as found:
        await found.until_values(*({"n": n} for n in range(3)))
    assert found.errors == []


async def test_a_program_that_fails_is_started_again(tmp_path: Path) -> None:
    """The error of the source is its exit code and its last line on standard error; its lines are kept."""
    runs = tmp_path / "runs"
    text = (
        f"import sys\nwith open({str(runs)!r}, 'a+') as f: f.write('x'); f.seek(0); n = len(f.read())\n"
        "say(n)\n"
        "if n < 3: print('usage: ...\\nno such sensor\\n', file=sys.stderr); sys.exit(3)\n"
        "import time; time.sleep(60)"
    )
    async with collected(python(text)) as found:
        await found.until_values(*({"n": n} for n in (1, 2, 3)))
    assert found.errors == ["not running: it ended with exit code 3: no such sensor", None] * 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pass", "not running: it ended by itself"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "not running: it was ended by SIGKILL"),
        ("raise ValueError('no port')", "not running: it ended with exit code 1: ValueError: no port"),
        ("import sys; sys.stderr.write('x' * 10**6 + 'end'); sys.exit(1)", f"exit code 1: {'x' * 93}"),
    ],
)
async def test_the_end_of_a_program_has_a_reason(text: str, reason: str) -> None:
    """The end of a long output on standard error is kept."""
    async with collected(python(text)) as found:
        error = await found.until_error(reason)
    assert len(error) < 5000


async def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    """So is a directory; a file that is no program has the reason of the system."""
    (text := tmp_path / "text").write_text("no program")
    for source, reason in (
        (source_of("no-such-program"), "not running: 'no-such-program' does not exist"),
        (source_of(sys.executable, directory="/no/such/folder"), "not running: '/no/such/folder' does not exist"),
        (source_of(str(text)), f"not running: '{text}' cannot be run: Permission denied"),
    ):
        async with collected(source) as found:
            await found.until_error(reason)
    assert [key for key, _ in CommandSettings(command=("no-such-program",)).problems()] == ["command"]


async def test_stopping_ends_the_whole_group(tmp_path: Path) -> None:
    """A program that ignores SIGTERM is killed, and so is one that it started and that holds its output."""
    pids = tmp_path / "pids"
    inner = f"{SAY}import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); say(2); time.sleep(600)"
    text = (
        f"import os, signal, subprocess, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {inner!r}])\n"
        f"open({str(pids)!r}, 'w').write('%d %d' % (os.getpid(), child.pid))\nsay(1)\ntime.sleep(600)"
    )
    async with collected(python(text)) as found:
        await until(lambda: len(found.values) == 2)
        running = [int(pid) for pid in pids.read_text().split()]
        assert all(map(is_alive, running))
    await until(lambda: not any(map(is_alive, running)))


async def test_a_program_that_left_another_one_ends_it(tmp_path: Path) -> None:
    """The one that was left holds the output, and would be read forever."""
    pids = tmp_path / "pids"
    text = (
        "import os, subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(str(child.pid))\nsay(1)\nsay(2)\n"
        "os.kill(os.getpid(), 9)"
    )
    async with collected(python(text)) as found:
        await until(lambda: len(found.values) == 2)
        await found.until_error("it was ended by SIGKILL")
        running = int(pids.read_text())
        await until(lambda: not is_alive(running))


async def test_a_program_that_prints_once_runs_on_a_schedule(caplog: pytest.LogCaptureFixture) -> None:
    """Its end is no failure, and its last line needs no line end; the log has one line about all runs."""
    caplog.set_level(logging.INFO, logger="device_agent")
    text = "say(1, end='')"
    async with collected(python(text, interval_s=0.05)) as found:
        await until(lambda: len(found.values) >= 3)
    assert (found.values[:3], found.errors) == ([{"n": 1}] * 3, [])
    assert [record.getMessage() for record in caplog.records if "reading from" in record.getMessage()] == [
        f"reading from {found.source.health.name}"
    ]


async def test_a_silent_program_is_started_again() -> None:
    """If a longest silence is set."""
    text = "import time; say(1); time.sleep(600)"
    async with collected(python(text, silence_s=0.3)) as found:
        await found.until_error("not running: nothing arrived for 0.3 s")
        await until(lambda: len(found.values) >= 2)


async def test_a_program_that_writes_more_than_is_read_leaves_no_pipe() -> None:
    """Its output is not read to the end when the source stops."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
    for _ in range(3):
        source = python("while True: print('x' * 1000)")
        readings = source.readings()
        first = asyncio.ensure_future(anext(readings))
        assert source.health.input is not None
        counts = source.health.input.counts
        await until(lambda counts=counts: counts.lines > 0)  # type: ignore[misc]
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await readings.aclose()
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # noqa: PTH208


async def test_an_endless_line_is_refused_once() -> None:
    """Memory stays bounded, and the next line is read."""
    text = (
        "import sys, time\nsay(1)\nsay(2)\nfor _ in range(60): sys.stdout.write('x' * 65536)\n"
        "print()\nsay(3)\ntime.sleep(60)"
    )
    async with collected(python(text)) as found:
        await found.until_values({"n": 1}, {"n": 2}, {"n": 3})
    assert [refusal.code for refusal in found.refused] == ["size"]
    assert all(len(refusal.raw) <= 4096 for refusal in found.refused)


async def test_a_program_does_not_get_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a secret of the agent. Other variables are passed on."""
    monkeypatch.setenv("HUB_TOKEN", "secret")
    monkeypatch.setenv("SENSOR", "7")
    text = "import os, time; say([os.environ['SENSOR'], 'HUB_TOKEN' in os.environ]); time.sleep(60)"
    async with collected(python(text)) as found:
        await found.until_values({"n.0": 7, "n.1": False})


@pytest.mark.parametrize("settings", [{"command": []}, {"command": [""]}, {"command": ["a\0b"]}, {}])
def test_a_command_is_a_program(settings: dict[str, object]) -> None:
    """An empty one is an error."""
    with pytest.raises(ValidationError):
        convert(settings, CommandSettings)


def test_the_name_has_no_arguments() -> None:
    """One of them may be a secret."""
    settings = CommandSettings(command=("/usr/bin/mosquitto_sub", "-P", "secret"))
    assert settings.default_name == "command mosquitto_sub"
