"""Who a connection is and what it may do: the roles, their rights, and the devices that a credential stands for.

Pure. The registry finds the identity that belongs to a token or a cookie; the endpoints ask it what is allowed.
"""

from __future__ import annotations

import re
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple, get_args

from wire.limits import MAX_DEVICE_ID
from wire.model import DeviceId


class Role(StrEnum):
    """What a token is for. The names are stored, printed in tokens and typed by people."""

    DEVICE = "device"
    """One device: writes as that device and as no other."""
    GATEWAY = "gateway"
    """Something that speaks for many devices (a simulator, a bridge, a collector): those whose ids match a pattern."""
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Action(StrEnum):
    """What can be allowed."""

    WRITE = "write"
    """Send readings; as which devices says `Identity.may_write`."""
    READ = "read"
    """See the fleet, live updates, history, events and counters."""
    COMMAND = "command"
    """Send commands to devices, deal with alarms and with the quarantine."""
    ADMINISTER = "administer"
    """Make and revoke tokens, delete data, change what the hub keeps."""


ALLOWED: dict[Role, frozenset[Action]] = {
    Role.DEVICE: frozenset({Action.WRITE}),
    Role.GATEWAY: frozenset({Action.WRITE}),
    Role.VIEWER: frozenset({Action.READ}),
    Role.OPERATOR: frozenset({Action.READ, Action.COMMAND}),
    Role.ADMIN: frozenset({Action.READ, Action.COMMAND, Action.ADMINISTER}),
}
"""The whole of who may do what. Nobody but a device or its gateway may write: an admin's credential, too, would let its
holder invent readings under any device's name."""

_DEVICE_ID = re.compile(get_args(DeviceId)[1].pattern)
_DEVICE_PATTERN = re.compile(rf"[A-Za-z0-9_.*?-]{{1,{MAX_DEVICE_ID}}}")


class Identity(NamedTuple):
    """Whom a valid credential stands for. `pattern` is a device id (role device), a pattern (gateway) or empty."""

    token_id: str
    role: Role
    pattern: str = ""

    def may(self, action: Action) -> bool:
        """Whether the role allows the action at all."""
        return action in ALLOWED[self.role]

    def may_write(self, device: str) -> bool:
        """Whether readings of this device are taken from this credential; never for what is no device id."""
        if Action.WRITE not in ALLOWED[self.role] or not _DEVICE_ID.match(device):
            return False
        if self.role is Role.DEVICE:
            return device == self.pattern
        return fnmatchcase(device, self.pattern)


def pattern_problem(role: Role, pattern: str) -> str | None:
    """Why a token of this role cannot have this pattern, as a sentence; None when it can.

    A gateway's pattern is made of the characters of device ids, `*` (any run) and `?` (any one character).
    """
    if role is Role.DEVICE:
        if not _DEVICE_ID.match(pattern):
            return (
                f"a device token needs a device id: 1 to {MAX_DEVICE_ID} letters, digits, '.', '_' or '-', and neither "
                "'.' nor '..'"
            )
    elif role is Role.GATEWAY:
        if not _DEVICE_PATTERN.fullmatch(pattern):
            return (
                f"a gateway token needs a pattern of device ids: 1 to {MAX_DEVICE_ID} letters, digits, '.', '_', '-', "
                "'*' (any run) or '?' (any one character)"
            )
    elif pattern:
        return f"a token of role {role} is not bound to devices"
    return None
