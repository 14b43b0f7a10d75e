"""`hub` with a slower disk: every fsync of an SQLite file takes some milliseconds more, and nothing else changes.

    python -m bench.slow_disk 5 run --data DIR

The first argument is the milliseconds, the rest is hub's own command line.
"""

from __future__ import annotations

import sys
import time

import apsw

SYSTEM_VFS = apsw.vfs_names()[0]
"""The default VFS before there was another: by its name, since an empty name means whichever is the default now."""


class SlowFile(apsw.VFSFile):
    """A file of the system's own VFS whose sync takes longer."""

    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], delay_s: float) -> None:
        super().__init__(SYSTEM_VFS, name, flags)
        self._delay_s = delay_s

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """The delay comes before the real sync, without the interpreter's lock, as a slow disk would."""
        time.sleep(self._delay_s)
        super().xSync(flags)

    def xLock(self, level: int) -> None:  # noqa: N802 - SQLite's name
        """A read-only connection tries for an exclusive lock when it closes and does not mind the refusal; only here
        the refusal would surface as an exception, unless it is a "busy"."""
        try:
            super().xLock(level)
        except apsw.IOError as error:
            raise apsw.BusyError(str(error)) from error


class SlowDisk(apsw.VFS):
    """The default VFS from now on, as long as the object lives."""

    def __init__(self, delay_s: float) -> None:
        super().__init__("slow_disk", SYSTEM_VFS, makedefault=True)
        self._delay_s = delay_s

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> SlowFile:  # noqa: N802 - SQLite's name
        return SlowFile(name, flags, self._delay_s)


def main() -> None:
    """Makes the disk slow and hands over to hub."""
    delay_s = float(sys.argv.pop(1)) / 1000
    disk = SlowDisk(delay_s)
    from hub.commands import main as hub

    hub()
    del disk


if __name__ == "__main__":
    main()
