"""What the hub remembers besides readings: who may come in, which devices and series there are, what happened to them.

One SQLite file, registry.db in the data directory, which the running hub and `hub token` may use at the same time.
"""

from __future__ import annotations

from hub.registry.database import FILE_NAME
from hub.registry.errors import RegistryError
from hub.registry.event import Event
from hub.registry.fleet import KnownDevice
from hub.registry.registry import Login, Registry
from hub.registry.token import LOGIN_CODE_SECONDS, SESSION_SECONDS, Admin, NewToken, Token
from hub.registry.token_file import TokenFile, open_token_file

__all__ = [
    "FILE_NAME",
    "LOGIN_CODE_SECONDS",
    "SESSION_SECONDS",
    "Admin",
    "Event",
    "KnownDevice",
    "Login",
    "NewToken",
    "Registry",
    "RegistryError",
    "Token",
    "TokenFile",
    "open_token_file",
]
