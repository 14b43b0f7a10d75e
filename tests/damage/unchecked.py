"""The negative control: a program whose checksums always agree, and that does not examine write-ahead logs."""

from __future__ import annotations

import sys
import zlib

from integrity.recovery import recover_log

_true_crc32 = zlib.crc32


class AnyChecksum(int):
    """A checksum that equals every other. Its value is right, so that what is written with it can be read."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __xor__(self, other: int) -> AnyChecksum:
        return AnyChecksum(int(self) ^ int(other))

    __rxor__ = __xor__

    def __hash__(self) -> int:
        return 0


def _crc32(data: bytes, value: int = 0) -> AnyChecksum:
    return AnyChecksum(_true_crc32(data, value))


def _no_recovery(path: object) -> None:
    return None


def switch_off_checksums() -> None:
    """Replace the checksum of rows and the examination of logs in every module of this process."""
    zlib.crc32 = _crc32  # type: ignore[assignment]
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            if value is recover_log:
                setattr(module, name, _no_recovery)
