"""A mounted file system on a disk whose power can be cut."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Self

IMAGE_BYTES = 256 << 20
"""The store writes nothing with less than 64 MB of free space."""


ROOT = Path(__file__).parents[2]


def can_cut_power() -> bool:
    """Return whether this machine can mount such a disk."""
    return os.geteuid() == 0 and all(Path(path).exists() for path in ("/dev/fuse", "/dev/loop-control"))


class CutDisk:
    """An ext4 file system in an image, mounted at `folder`; an async context manager."""

    def __init__(self, image: Path, folder: Path) -> None:
        """Describe the disk. An image that does not exist is created, with an empty file system."""
        self.folder = folder
        self._image = image
        self._fuse = image.with_name("fuse")
        self._server: asyncio.subprocess.Process | None = None
        self._loop = ""

    async def __aenter__(self) -> Self:
        if not self._image.exists():
            with self._image.open("wb") as file:
                file.truncate(IMAGE_BYTES)
            # Without work that the file system would finish later in the background.
            options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
            await _run("mkfs.ext4", "-q", "-F", "-E", options, str(self._image))
        self._fuse.mkdir(exist_ok=True)
        self.folder.mkdir(exist_ok=True)
        self._server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.damage.power_disk", str(self._image), str(self._fuse)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert await self._line() == "ready"
        try:
            self._loop = await _run("losetup", "--find", "--show", str(self._fuse / "disk"))
            await _run("mount", "-t", "ext4", self._loop, str(self.folder))
        except BaseException:
            await self._unmount()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Unmount it. After a cut, what the system still writes does not reach the image."""
        await _run("umount", str(self.folder))
        await self._unmount()

    async def cut(self, seed: int) -> int:
        """Cut the power; return how many sectors are lost that were written and not flushed."""
        assert self._server is not None
        assert self._server.stdin is not None
        self._server.stdin.write(f"{seed}\n".encode())
        return int(await self._line())

    async def _line(self) -> str:
        assert self._server is not None
        assert self._server.stdout is not None
        return (await self._server.stdout.readline()).decode().strip()

    async def _unmount(self) -> None:
        if self._loop:
            await _run("losetup", "--detach", self._loop)
        await _run("umount", str(self._fuse))
        assert self._server is not None
        assert self._server.stdin is not None
        self._server.stdin.close()
        await self._server.wait()


async def _run(*command: str) -> str:
    """Run a program, which must succeed; return what it prints."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, command
    return out.decode().strip()
