"""Command `make run` hands the terminal to the hub: Ctrl-C ends the hub in order, and make returns its exit code."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.lock import ROOT

HUB = """#!{python}
import signal, sys
def stop(number, frame):
    print("stopping after", signal.Signals(number).name, flush=True)
    sys.exit({exit_code})
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
print("started with", *sys.argv[1:], flush=True)
while True:
    signal.pause()
"""
INTERRUPT = b"\x03"
SILENCE_S = 30
"""Time limit, far above what make and the stand-in need."""


def make_run(folder: Path, exit_code: int) -> list[str]:
    """Return the command `make run` with finished set-up steps and a stand-in for the hub that only waits."""
    page = folder / "index.html"
    for stamp in (
        *(folder / "venv" / name for name in (".locked", ".ready")),
        *(folder / "web" / name for name in ("package-lock.json", ".npmrc", "node_modules/.ready")),
        page,
    ):
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    hub = folder / "venv" / "bin" / "hub"
    hub.parent.mkdir()
    hub.write_text(HUB.format(python=sys.executable, exit_code=exit_code))
    hub.chmod(0o755)
    places = (f"VENV={folder / 'venv'}", f"WEB={folder / 'web'}", f"PAGE={page}", "NODE_READY=")
    return ["make", "-C", str(ROOT), "run", *places, "ARGS=--listen 127.0.0.1:0"]


def read_until(terminal: int, text: bytes) -> bytes:
    """Return the terminal's output up to a text and the end of its line; fail when nothing more arrives."""
    shown = b""
    while text not in shown or not shown.endswith(b"\n"):
        readable, _, _ = select.select([terminal], [], [], SILENCE_S)
        assert readable, shown
        shown += os.read(terminal, 4096)
    return shown


@pytest.mark.parametrize("exit_code", [0, 1])
def test_ctrl_c_ends_the_hub_and_make_with_its_exit_code(exit_code: int, tmp_path: Path) -> None:
    """On a terminal Ctrl-C reaches the hub alone; make succeeds exactly if the hub does."""
    terminal, other_side = pty.openpty()
    # The first terminal that the leader of a new session opens becomes its controlling terminal.
    on_terminal = ["sh", "-c", 'tty=$1; shift; exec "$@" <"$tty" >"$tty" 2>&1', "sh", os.ttyname(other_side)]
    with subprocess.Popen([*on_terminal, *make_run(tmp_path, exit_code)], start_new_session=True) as make:
        shown = read_until(terminal, b"started with")
        os.write(terminal, INTERRUPT)
        shown += read_until(terminal, b"stopping after SIGINT")
        make.wait(timeout=30)
    os.close(other_side)
    os.close(terminal)
    assert b"started with run --demo --data ./data --listen 127.0.0.1:0" in shown
    assert (make.returncode == 0) == (exit_code == 0)


def test_without_a_terminal_the_hub_gets_the_signal_that_make_gets(tmp_path: Path) -> None:
    """A supervisor that terminates make also terminates the hub; no process remains."""
    with subprocess.Popen(make_run(tmp_path, 0), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as make:
        assert make.stdout is not None
        assert any("started with" in line for line in make.stdout)
        make.terminate()
        rest, _ = make.communicate(timeout=30)
    assert "stopping after SIGTERM" in rest
