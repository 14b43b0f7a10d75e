"""A server in a process of its own on a free port: started, its output read, stopped and started again."""

from __future__ import annotations

import abc
import collections
import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT_S = 60
"""Time limit until a server listens; it needs a second at most, more on a busy machine."""

STOP_TIMEOUT_S = 30
"""Time limit in which a stopped server writes its data; then it is killed."""

TOLD_LINES = 200
"""Lines of a server's last output."""

TRIES = 3
"""Attempts to start on a free port; another process may bind it first."""


class Server(abc.ABC):
    """A server with its data in `folder`; a context manager. It keeps its port and data over a restart."""

    name: str
    """Name of the program, for errors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._told: collections.deque[str] = collections.deque(maxlen=TOLD_LINES)

    @abc.abstractmethod
    def command(self) -> Sequence[str | Path]:
        """Return the command that starts the server on its port, and create its files in the folder."""

    @abc.abstractmethod
    def is_listening(self, line: str) -> bool:
        """Return whether this line of its output says that it listens."""

    def environment(self) -> dict[str, str]:
        """Return the variables for the server."""
        return dict(os.environ)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        for tries in range(1, TRIES + 1):
            self.port = free_port()
            try:
                self.start()
            except RuntimeError:
                if tries == TRIES:
                    raise
            else:
                break
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server on its port; return when it listens. Raise RuntimeError with its output."""
        if self._process is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            self.command(),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        known = threading.Event()
        listening = threading.Event()

        def read() -> None:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    text = line.decode(errors="replace")
                    self._told.append(text)
                    if self.is_listening(text):
                        listening.set()
                        known.set()
            known.set()

        self._process = process
        self._reader = threading.Thread(target=read, name=f"{self.name}-output")
        self._reader.start()
        known.wait(START_TIMEOUT_S)
        if not listening.is_set():
            self.kill()
            raise RuntimeError(f"{self.name} did not start:\n{self.log()}")

    def stop(self) -> None:
        """Stop it as an operator does (SIGTERM): it writes its data."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does (SIGKILL)."""
        self._end(signal.SIGKILL)

    @contextlib.contextmanager
    def down(self, *, kill: bool = False) -> Iterator[None]:
        """Keep the server stopped inside the block; it listens again at the end."""
        self.kill() if kill else self.stop()
        try:
            yield
        finally:
            self.start()

    def log(self) -> str:
        """Return its last output."""
        return "".join(self._told)

    def _end(self, how: signal.Signals) -> None:
        process, reader, self._process, self._reader = self._process, self._reader, None, None
        if process is None:
            return
        if how is signal.SIGTERM:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
        # Its workers keep the port and the output if the first process is killed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert reader is not None
        reader.join()


def free_port() -> int:
    """Return a TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
