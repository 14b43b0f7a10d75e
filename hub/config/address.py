"""The address of a running hub, in a file of its data directory, for the commands on the same machine.

The hub holds a lock on the file as long as it runs, so that a file that a killed hub left is not mistaken for a hub.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

FILE_NAME = "address.json"
"""Name of the file in the data directory."""

MAX_BYTES = 16_384
"""Two URLs and a path. A larger file is no address."""


class RunningHub(Struct, frozen=True):
    """Addresses of a running hub: the one that it listens on, and `public_url` if browsers use another one.

    `certificate` is the file of its certificate; None without TLS.
    """

    url: str
    public_url: str | None = None
    certificate: str | None = None

    @property
    def browser_url(self) -> str:
        """The address for a browser."""
        return self.public_url or self.url


@contextmanager
def published_address(directory: Path, hub: RunningHub) -> Iterator[None]:
    """Publish the address of the hub that runs on this data directory, until the context ends. Raises OSError."""
    path = directory / FILE_NAME
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        new.chmod(0o600)
        file.write(msgspec.json.encode(hub))
        file.flush()
        # The file is locked before it has its name: a reader never finds it without the lock.
        fcntl.flock(file, fcntl.LOCK_EX)
        new.replace(path)
        try:
            yield
        finally:
            with suppress(OSError):  # a file that stays is not locked, and so it counts for nothing
                path.unlink()


def find_running_hub(directory: Path) -> RunningHub | None:
    """Return the addresses of the hub that runs on this data directory; None if none does."""
    try:
        with (directory / FILE_NAME).open("rb") as file:
            content = file.read(MAX_BYTES)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return msgspec.json.decode(content, type=RunningHub)
    except (OSError, msgspec.DecodeError):
        return None
    return None
