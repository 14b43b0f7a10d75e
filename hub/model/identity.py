"""Identities: tokens, their roles, the rights of a role, and the devices that a token may write as. Pure.

The registry finds the identity of a token or a cookie. The endpoints ask the identity what is allowed.
"""

from __future__ import annotations

import re
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple, get_args

from wire.limits import MAX_DEVICE_ID
from wire.model import DeviceId


class Role(StrEnum):
    """Role of a token. The names are stored, printed in tokens and typed by people."""

    DEVICE = "device"
    """One device. It writes as that device only, and reads nothing."""
    GATEWAY = "gateway"
    """A program that writes as many devices (a simulator, a bridge, a collector): those whose ids match a pattern."""
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Action(StrEnum):
    """A right that a role can have."""

    WRITE = "write"
    """Send readings. `Identity.may_write` decides for each device."""
    READ_OWN = "read own data"
    """See the accounting and the quarantine of the devices that the token writes as, and which hub it is."""
    READ = "read"
    """See the fleet, live updates, history, events and counters."""
    OPERATE = "operate"
    """Retry and delete quarantined messages, retire devices, send commands to devices, decide about their access
    requests."""
    ADMINISTER = "administer"
    """Create and revoke tokens, end the sessions of browsers, change metrics."""


ALLOWED: dict[Role, frozenset[Action]] = {
    Role.DEVICE: frozenset({Action.WRITE}),
    Role.GATEWAY: frozenset({Action.WRITE, Action.READ_OWN}),
    Role.VIEWER: frozenset({Action.READ_OWN, Action.READ}),
    Role.OPERATOR: frozenset({Action.READ_OWN, Action.READ, Action.OPERATE}),
    Role.ADMIN: frozenset({Action.READ_OWN, Action.READ, Action.OPERATE, Action.ADMINISTER}),
}
"""Rights of each role. A device's token is in many places, and often outside the building: it reads nothing. A gateway
is a program that an operator runs, which checks what became of its readings. Only devices and gateways may write: with
a token of an admin, too, its holder could invent readings under the name of any device."""

LOCAL_ID = "local0"
"""Beginning of the id of a temporary token of the command line. No other token has it: random ids contain no 0."""

_DEVICE_ID = re.compile(get_args(DeviceId)[1].pattern)
_DEVICE_PATTERN = re.compile(rf"[A-Za-z0-9_.*?-]{{1,{MAX_DEVICE_ID}}}")


class Identity(NamedTuple):
    """Holder of a valid credential. `pattern` is a device id (role device), a pattern (role gateway) or empty.

    `session` is the id of the browser session whose cookie was the credential; None for the token itself. `label` is
    that of the token.
    """

    token_id: str
    role: Role
    pattern: str = ""
    session: str | None = None
    label: str = ""

    @property
    def operator(self) -> str:
        """Who acts, for records and events: the role and the id of the token, or the user of the local command line."""
        if self.token_id.startswith(LOCAL_ID):
            return self.label
        return f"{self.role} {self.token_id}"

    @property
    def credential(self) -> str:
        """The id of what ends the connection when it ends: the browser session, or else the token."""
        return self.session or self.token_id

    def may(self, action: Action) -> bool:
        """Return whether the role has the right."""
        return action in ALLOWED[self.role]

    def may_write(self, device: str) -> bool:
        """Return whether the credential may write as this device. False for an invalid device id."""
        if Action.WRITE not in ALLOWED[self.role] or not _DEVICE_ID.match(device):
            return False
        if self.role is Role.DEVICE:
            return device == self.pattern
        return fnmatchcase(device, self.pattern)


class Token(NamedTuple):
    """A token without its secret. Times in nanoseconds since 1970 UTC; `last_used_ns` is exact to a minute: an open
    connection is a use."""

    id: str
    role: Role
    pattern: str
    label: str
    created_ns: int
    last_used_ns: int | None
    expires_ns: int | None

    def usable(self, now_ns: int) -> bool:
        """Return whether the token has not expired."""
        return self.expires_ns is None or now_ns < self.expires_ns


class NewToken(NamedTuple):
    """A token that was created just now. `text` is the token itself; the hub keeps only its digest."""

    token: Token
    text: str
    digest: bytes


class RotatedToken(NamedTuple):
    """A new token with the rights of an old one, which is valid until `old_expires_ns`."""

    new: NewToken
    old_id: str
    old_expires_ns: int


class BrowserSession(NamedTuple):
    """A signed-in browser, without its secret. Times in nanoseconds since 1970 UTC.

    `last_used_ns` is the last request or connection since the hub started, or None.
    """

    id: str
    token_id: str
    created_ns: int
    last_used_ns: int | None
    expires_ns: int


class NewSession(NamedTuple):
    """A browser session that was created just now: the value of its cookie and its lifetime."""

    value: str
    max_age_s: int


def pattern_problem(role: Role, pattern: str) -> str | None:
    """Return why a token of this role cannot have this pattern, as a sentence, or None if it can.

    The pattern of a gateway contains characters of device ids, `*` (any characters) and `?` (one character).
    """
    if role is Role.DEVICE:
        if not _DEVICE_ID.match(pattern):
            return (
                f"a device token needs a device id: 1 to {MAX_DEVICE_ID} letters, digits, '.', '_' or '-', except "
                "'.' and '..'"
            )
    elif role is Role.GATEWAY:
        if not _DEVICE_PATTERN.fullmatch(pattern):
            return (
                f"a gateway token needs a pattern of device ids: 1 to {MAX_DEVICE_ID} letters, digits, '.', '_', '-', "
                "'*' (any characters) or '?' (one character)"
            )
    elif pattern:
        return f"a token of role {role} takes no device and no pattern"
    return None
