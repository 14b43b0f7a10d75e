"""Another implementation of Sparkplug B, in an environment of its own because it needs an older paho-mqtt.

The environment is pinned by hash and stays in the cache beside the built servers.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import venv
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.services.built import BuildError, alone, cache_folder

HERE = Path(__file__).parent
LOCKS = (HERE / "build.txt", HERE / "requirements.txt")
"""Locks that are installed in order: the build tools, then the packages."""

INSTALL_TIMEOUT_S = 300
"""Time limit of one lock; a few small packages take seconds."""


def peer_python() -> Path:
    """Return the interpreter of the environment; create it where it is missing. Raise BuildError where that fails."""
    parts = hashlib.sha256(b"".join(lock.read_bytes() for lock in LOCKS)).hexdigest()
    folder = cache_folder() / f"sparkplug-{sys.version_info.major}.{sys.version_info.minor}-{parts[:12]}"
    python, ready = folder / "bin" / "python", folder / "ready"
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / "lock"):
        if ready.exists():
            return python
        venv.create(folder, with_pip=True)
        for lock in LOCKS:
            # Every package must be pinned by hash, including the tools that build a package.
            options = ["--quiet", "--disable-pip-version-check", "--no-build-isolation", "--require-hashes"]
            try:
                ran = subprocess.run(
                    [python, "-m", "pip", "install", *options, "-r", lock],
                    capture_output=True,
                    text=True,
                    timeout=INSTALL_TIMEOUT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise BuildError(f"pip did not install {lock.name} in {INSTALL_TIMEOUT_S} s") from None
            if ran.returncode:
                raise BuildError(f"pip does not install {lock.name}: {ran.stderr.strip().splitlines()[-1:]}")
        ready.touch()
    return python


class SparkplugPeer:
    """The other implementation, controlled line by line; a context manager."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, HERE / "peer.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, do: str, **what: Any) -> Any:
        """Return its answer to one request; peer.py lists the requests."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the other implementation ended while it was asked to {do}")
        return json.loads(answer)

    def cut(self) -> None:
        """End it without a disconnect, so that the broker publishes its will."""
        self._process.kill()
        self._process.wait()
