"""The last known state of a registry, in a small file beside it: it shows a registry that was lost or is an older copy.

Every change of tokens and devices is an event, and ids of events only grow. The file is written without fsync, at most
once a second, so its number may be too low, and never too high.
"""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import msgspec

from hub.registry.schema import HUB_ID
from integrity.checksum import row_checksum
from integrity.recovery import beside


class RegistryState(msgspec.Struct, frozen=True):
    """The id of the hub, and the highest id of an event."""

    hub: str
    event: int


class _StoredState(msgspec.Struct, frozen=True):
    state: RegistryState
    checksum: int


def current_state(connection: apsw.Connection) -> RegistryState:
    """Return the state of an open registry."""
    hub = connection.execute("SELECT value FROM facts WHERE name = ?", (HUB_ID,)).get
    event = connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'").get
    return RegistryState(str(hub), event)


def write_state(path: Path, state: RegistryState) -> None:
    """Write the file beside the registry at `path`. Raises OSError."""
    new = beside(path, ".state-new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(_StoredState(state, row_checksum(msgspec.structs.astuple(state)))) + b"\n")
    new.replace(beside(path, ".state"))


def read_state(path: Path) -> RegistryState | None:
    """Read the file beside the registry at `path`; None if it is missing or damaged."""
    try:
        sealed = msgspec.json.decode(beside(path, ".state").read_bytes(), type=_StoredState)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return sealed.state if row_checksum(msgspec.structs.astuple(sealed.state)) == sealed.checksum else None


def find_loss(now: RegistryState, last: RegistryState | None) -> str | None:
    """Return what the opened registry lacks, and what to do; None if it is the last known one. Pure."""
    if last is None or (last.hub == now.hub and last.event <= now.event):
        return None
    if last.hub != now.hub:
        return (
            f"registry.db was removed, emptied or replaced: it was the registry of hub {last.hub}, and is now that of "
            f"hub {now.hub}. Its devices and tokens are not known any more. Restore the registry.db that belongs to "
            "the journal and the history"
        )
    return (
        f"registry.db is an older copy: its last {last.event - now.event:,} events are missing. Newer tokens and "
        "devices are not known, and tokens that were revoked since are valid again. Restore a newer copy, or create "
        "and revoke these tokens again"
    )
