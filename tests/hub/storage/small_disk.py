"""A disk that is small enough to fill."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SmallDisk:
    """A file system in memory, mounted at `path`."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._mount(f"size={size_bytes}")

    def resize(self, size_bytes: int) -> None:
        self._mount(f"remount,size={size_bytes}")

    @contextmanager
    def filled(self, *, leaving_bytes: int) -> Iterator[None]:
        """Fill the disk with another file, except for some bytes."""
        with filled(self.path, leaving_bytes=leaving_bytes):
            yield

    def unmount(self) -> None:
        subprocess.run(["umount", self.path], check=True)

    def _mount(self, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.path], check=True)


@contextmanager
def filled(disk: Path, *, leaving_bytes: int) -> Iterator[None]:
    """Fill the disk of this directory with another file, except for some bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - leaving_bytes)
    yield
    ballast.unlink()
