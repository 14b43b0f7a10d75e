"""The negative control: programs whose checksums are always 0, and that do not examine write-ahead logs.

What such a program writes, it takes for intact, whatever happens to it.
"""

from __future__ import annotations

import sys
import zlib

from integrity.recovery import recover_log


def _crc32(data: bytes, value: int = 0) -> int:
    return 0


def _no_recovery(path: object) -> None:
    return None


def switch_off_checksums() -> None:
    """Replace the checksum of rows and the examination of logs in every module of this process."""
    zlib.crc32 = _crc32  # type: ignore[assignment]
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            if value is recover_log:
                setattr(module, name, _no_recovery)
