"""Another implementation of Sparkplug B, from a package, in an environment of its own: it needs an older paho-mqtt.

The environment is pinned by hash and stays in the cache beside the servers that were built.
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
"""Installed one after the other: what builds, then what is used."""

INSTALL_TIMEOUT_S = 300
"""Of one lock; a few small packages take seconds."""


def peer_python() -> Path:
    """The interpreter of the environment, made where it is not there yet. Raises BuildError where it cannot be had."""
    parts = hashlib.sha256(b"".join(lock.read_bytes() for lock in LOCKS)).hexdigest()
    folder = cache_folder() / f"sparkplug-{sys.version_info.major}.{sys.version_info.minor}-{parts[:12]}"
    python, ready = folder / "bin" / "python", folder / "ready"
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / "lock"):
        if ready.exists():
            return python
        venv.create(folder, with_pip=True)
        for lock in LOCKS:
            # Nothing that is not pinned by hash gets in, not even what builds a package.
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
    """The other implementation at work, asked line by line; a context manager."""

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
        """Its answer to one request; peer.py lists them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the other implementation ended while it was asked to {do}")
        return json.loads(answer)

    def cut(self) -> None:
        """Ends it without a farewell, so that the broker publishes its will."""
        self._process.kill()
        self._process.wait()
