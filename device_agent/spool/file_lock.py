"""Lock of an open file against other processes: `flock` of POSIX, or a locked byte on Windows."""

from __future__ import annotations

import os
import sys

_PLACE = 1 << 30
"""Byte that is locked on Windows, where nobody else can read a locked byte: far behind the content of the file."""

if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int, *, shared: bool = False) -> bool:
        """Lock the file until its descriptor is closed; return False if another process has the lock.

        `shared` is not available on Windows: such a lock excludes every other one, too.
        """
        before = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, before, os.SEEK_SET)
        return True
else:
    import fcntl

    def try_lock(descriptor: int, *, shared: bool = False) -> bool:
        """Lock the file until its descriptor is closed; return False if another process has the lock.

        With `shared` several processes can have it at once.
        """
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
