"""A disk with a volatile write cache, for power cuts: `python -m tests.damage.power_disk IMAGE FOLDER`.

The program serves a file `disk` in FOLDER with the FUSE protocol of Linux (include/uapi/linux/fuse.h). A loop device on
that file is a block device of which every write and every flush arrives here, in their order. What was flushed is
durable. A cut keeps it, and of the later writes any part, in sectors, as the cache of a real disk may.

It is a process of its own, because a program must not wait for its own file system. A line with a seed on stdin cuts
the power: IMAGE is then what the disk has, and the program answers with the number of sectors that are lost.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

SECTOR_BYTES = 512
MAX_WRITE_BYTES = 128 * 1024
ROOT, FILE = 1, 2
NAME = b"disk"
INIT_BYTES = 64
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 1, 2, 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, INTERRUPT, DESTROY, BATCH_FORGET = 20, 25, 26, 36, 38, 42
SILENT = (FORGET, BATCH_FORGET, INTERRUPT)
"""Requests without an answer."""

FLUSH_S = 0.01
"""Time that a flush takes, as on a disk that rotates: most cuts then meet writes that are not flushed."""

FOREVER_S = 1 << 30
"""Validity of names and sizes: they never change."""

IN_HEADER = struct.Struct("<IIQQIIIHH")
OUT_HEADER = struct.Struct("<IiQ")
READ_WRITE = struct.Struct("<QQIIQII")
ATTRIBUTES = struct.Struct("<6Q10I")
ENTRY = struct.Struct("<4QII")


class CachedDisk:
    """Contents of a disk: an image with what is durable, a copy with all that was written, and what is between them."""

    def __init__(self, image: Path) -> None:
        """Open the disk of this image. A cut leaves what is durable in the image."""
        self._durable = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self.size_bytes = image.stat().st_size
        copy = image.with_name(image.name + ".written")
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        self._written = os.open(copy, os.O_RDWR | os.O_CLOEXEC)
        copy.unlink()
        self._unflushed: list[tuple[int, bytes]] = []
        self._lock = threading.Lock()
        self._has_power = True

    def read(self, at: int, size: int) -> bytes:
        """Return what was written, flushed or not."""
        return os.pread(self._written, size, at)

    def write(self, at: int, data: bytes) -> None:
        """Write into the cache."""
        with self._lock:
            os.pwrite(self._written, data, at)
            self._unflushed.append((at, data))

    def flush(self) -> None:
        """Make everything durable that was written."""
        time.sleep(FLUSH_S)
        with self._lock:
            if not self._has_power:
                return
            for at, data in self._unflushed:
                os.pwrite(self._durable, data, at)
            self._unflushed.clear()

    def cut(self, dice: random.Random) -> int:
        """Cut the power; return how many sectors are lost that were written and not flushed.

        Each write of the cache reached the disk, or did not, or did with some of its sectors.
        """
        dropped = 0
        with self._lock:
            self._has_power = False
            for at, data in self._unflushed:
                share = dice.choice((0.0, 0.5, 1.0))
                for start in range(0, len(data), SECTOR_BYTES):
                    if dice.random() < share:
                        os.pwrite(self._durable, data[start : start + SECTOR_BYTES], at + start)
                    else:
                        dropped += 1
            return dropped


class FuseServer:
    """File system with one file, the disk."""

    def __init__(self, disk: CachedDisk, folder: Path) -> None:
        """Mount the file system. Raises OSError."""
        self._disk = disk
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"power_disk", os.fsencode(folder), b"fuse", 0, options.encode()):
            raise OSError(ctypes.get_errno(), "mount")

    def run(self) -> None:
        """Serve requests until the file system is unmounted."""
        while True:
            try:
                request = os.read(self._device, MAX_WRITE_BYTES + 8192)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return  # ENODEV: unmounted
            _, operation, unique, node, *_ = IN_HEADER.unpack_from(request)
            answer = self._answer(operation, node, request[IN_HEADER.size :])
            if operation in SILENT:
                continue
            error_number, data = (-answer, b"") if isinstance(answer, int) else (0, answer)
            os.write(self._device, OUT_HEADER.pack(OUT_HEADER.size + len(data), error_number, unique) + data)

    def _answer(self, operation: int, node: int, body: bytes) -> bytes | int:
        """Return the answer to a request, or an error number."""
        if operation == INIT:
            # Version 7.31 of the protocol, no optional feature.
            head = struct.pack("<4I2H2I2H", 7, 31, 0, 0, 16, 12, MAX_WRITE_BYTES, 1, 0, 0)
            return head + bytes(INIT_BYTES - len(head))
        if operation == LOOKUP:
            if body.rstrip(b"\0") != NAME:
                return errno.ENOENT
            return ENTRY.pack(FILE, 0, FOREVER_S, FOREVER_S, 0, 0) + self._attributes(FILE)
        if operation in (GETATTR, SETATTR):
            return struct.pack("<QII", FOREVER_S, 0, 0) + self._attributes(node)
        if operation == OPEN:
            return bytes(16)
        if operation == READ:
            _, at, size, *_ = READ_WRITE.unpack_from(body)
            return self._disk.read(at, size)
        if operation == WRITE:
            _, at, size, *_ = READ_WRITE.unpack_from(body)
            self._disk.write(at, body[READ_WRITE.size : READ_WRITE.size + size])
            return struct.pack("<II", size, 0)
        if operation == STATFS:
            return bytes(40) + struct.pack("<4I", 4096, 255, 4096, 0) + bytes(24)
        if operation == FSYNC:
            self._disk.flush()
        return b"" if operation in (FSYNC, RELEASE, FLUSH, DESTROY) else errno.ENOSYS

    def _attributes(self, node: int) -> bytes:
        mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o600
        size = 0 if node == ROOT else self._disk.size_bytes
        return ATTRIBUTES.pack(node, size, size // SECTOR_BYTES, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def main(image: Path, folder: Path) -> None:
    """Serve the image until stdin ends or the file system is unmounted."""
    disk = CachedDisk(image)
    server = FuseServer(disk, folder)
    threading.Thread(target=server.run, daemon=True).start()
    print("ready", flush=True)
    for seed in sys.stdin:
        print(disk.cut(random.Random(int(seed))), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
