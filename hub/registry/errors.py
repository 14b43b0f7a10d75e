"""The registry's error, and the one place where SQLite's errors become it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from wire.errors import Code, WireError


class RegistryError(WireError):
    """The registry could not do what was asked; nothing of the request is stored.

    It is a WireError, so that a connection which meets it ends with its code and the close code of that. The codes:
    BUSY (another process holds the lock), STORAGE_FULL, STORAGE_FAILED, TOO_MANY (a bound of this room), BAD_MESSAGE
    (an argument that cannot be stored), SHUTTING_DOWN (it is closed).
    """


@contextmanager
def translated() -> Iterator[None]:
    """Raises RegistryError for every error of SQLite inside."""
    try:
        yield
    except apsw.Error as error:
        raise _translation(error) from error


def _translation(error: apsw.Error) -> RegistryError:
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return RegistryError(Code.BUSY, "another process holds the registry's lock; try again")
    if isinstance(error, apsw.FullError):
        return RegistryError(
            Code.STORAGE_FULL, "there is no room for the registry: make room on the disk that holds the data directory"
        )
    if isinstance(error, apsw.CantOpenError | apsw.PermissionsError | apsw.ReadOnlyError | apsw.AuthError):
        return RegistryError(
            Code.STORAGE_FAILED,
            f"the registry cannot be opened for writing ({error}): check who owns the data directory",
        )
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return RegistryError(Code.STORAGE_FAILED, f"the registry's file is damaged ({error}): restore it from a copy")
    return RegistryError(Code.STORAGE_FAILED, f"the registry failed: {error}")
