"""The last known state of a registry, in a small file beside it: it shows a registry that was lost or is an older copy.

Every change of tokens and devices is an event, and ids of events only grow. The file is written without fsync, at most
once a second, so its number may be too low, and never too high.

A row that the disk did not write has an older content with a correct checksum: a revoked token would be valid again. So
the file also has a sum over the tokens, in any order. Tokens are created and revoked with an event, and never changed
but for their last use, so two states with the same highest event have the same sum.
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
    """The id of the hub, the highest id of an event, and a sum over the tokens; None in a file that has none."""

    hub: str
    event: int
    tokens: int | None = None


_TOKENS = (
    "SELECT coalesce(sum(1 + created_ns % 2147483647), 0) FROM tokens WHERE role <> 'viewer' OR expires_ns IS NULL"
)
"""Sum over the tokens: each was created at another time. Without those of commands that only read, which leave no
events."""


class _StoredState(msgspec.Struct, frozen=True):
    state: RegistryState
    checksum: int


def current_state(connection: apsw.Connection) -> RegistryState:
    """Return the state of an open registry."""
    hub = connection.execute("SELECT value FROM facts WHERE name = ?", (HUB_ID,)).get
    event = connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'").get
    return RegistryState(str(hub), event, connection.execute(_TOKENS).get)


def write_state(path: Path, state: RegistryState) -> None:
    """Write the file beside the registry at `path`. Raises OSError."""
    new = beside(path, ".state-new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(_StoredState(state, _checksum(state))) + b"\n")
    new.replace(beside(path, ".state"))


def read_state(path: Path) -> RegistryState | None:
    """Read the file beside the registry at `path`; None if it is missing or damaged."""
    try:
        sealed = msgspec.json.decode(beside(path, ".state").read_bytes(), type=_StoredState)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return sealed.state if _checksum(sealed.state) == sealed.checksum else None


def _checksum(state: RegistryState) -> int:
    """Return the checksum of a state. One without a sum is of an earlier version."""
    cells = (state.hub, state.event)
    return row_checksum(cells if state.tokens is None else (*cells, state.tokens))


def find_loss(now: RegistryState, last: RegistryState | None) -> str | None:
    """Return what the opened registry lacks, and what to do; None if it is the last known one. Pure."""
    if last is None or (last.hub == now.hub and last.event < now.event):
        return None
    if last.hub != now.hub:
        return (
            f"registry.db was removed, emptied or replaced: it was the registry of hub {last.hub}, and is now that of "
            f"hub {now.hub}. Its devices and tokens are not known any more. Restore the registry.db that belongs to "
            "the journal and the history"
        )
    if last.event == now.event:
        if None in (last.tokens, now.tokens) or last.tokens == now.tokens:
            return None
        return (
            "the tokens in registry.db are not those of its last state: the disk has lost a write, and a page is older "
            "than the others. A token that was revoked may be valid again, and a new one unknown. Look at `hub token "
            "list`, revoke the tokens that you do not expect, and check the disk"
        )
    return (
        f"registry.db is an older copy: its last {last.event - now.event:,} events are missing. Newer tokens and "
        "devices are not known, and tokens that were revoked since are valid again. Restore a newer copy, or create "
        "and revoke these tokens again"
    )
