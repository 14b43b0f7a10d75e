"""The registry: access tokens, devices, series and events in one SQLite file, registry.db in the data directory.

The running hub and the command `hub token` may use the file at the same time.
"""

from __future__ import annotations

from hub.registry.database import FILE_NAME, RegistryError
from hub.registry.fleet import KnownDevice
from hub.registry.registry import Registry
from hub.registry.token import LOGIN_CODE_SECONDS, SESSION_SECONDS, AdminToken, TokenFile, open_token_file

__all__ = [
    "FILE_NAME",
    "LOGIN_CODE_SECONDS",
    "SESSION_SECONDS",
    "AdminToken",
    "KnownDevice",
    "Registry",
    "RegistryError",
    "TokenFile",
    "open_token_file",
]
