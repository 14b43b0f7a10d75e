"""The presence of devices and the cadence of series while the hub is down, in a small file beside the registry.

The file is written without fsync: what a crash of the system loses is learned again.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import msgspec

from hub.live.presence import SavedPresence
from integrity.recovery import beside

SUFFIX = ".presence"

_BEGIN = b"THPR\x00\x00\x00\x01"
"""Mark and format of the file. The CRC-32 of the rest follows."""

_CRC_BYTES = 4


class _StoredPresence(msgspec.Struct, frozen=True, array_like=True):
    hub: str
    presence: SavedPresence


def write_presence(path: Path, hub: str, presence: SavedPresence) -> None:
    """Write the file beside the registry at `path`, of the hub with this id. Raises OSError."""
    content = msgspec.msgpack.encode(_StoredPresence(hub, presence))
    new = beside(path, f"{SUFFIX}-new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(_BEGIN + zlib.crc32(content).to_bytes(_CRC_BYTES, "big") + content)
    new.replace(beside(path, SUFFIX))


def read_presence(path: Path, hub: str) -> SavedPresence | None:
    """Read the file beside the registry at `path`; None if it is missing, damaged, or of another hub or format."""
    try:
        file = beside(path, SUFFIX).read_bytes()
    except OSError:
        return None
    begin, content = file[: len(_BEGIN) + _CRC_BYTES], file[len(_BEGIN) + _CRC_BYTES :]
    if begin != _BEGIN + zlib.crc32(content).to_bytes(_CRC_BYTES, "big"):
        return None
    try:
        stored = msgspec.msgpack.decode(content, type=_StoredPresence)
    except msgspec.MsgspecError:
        return None
    return stored.presence if stored.hub == hub else None
