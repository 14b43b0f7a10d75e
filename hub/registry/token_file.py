"""The tokens of a data directory for a process that is not the hub, whether or not the hub runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from hub.model.identity import Role
from hub.registry import token
from hub.registry.database import open_database, transaction
from hub.registry.errors import RegistryError, translated
from wire.errors import Code


class TokenFile:
    """Reads and changes tokens at once; a running hub notices within a second."""

    def __init__(self, connection: apsw.Connection, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._clock = clock

    def tokens(self) -> list[token.Token]:
        """Every token, the oldest first."""
        with translated():
            return [held for held, _ in token.select_tokens(self._connection)]

    def create_token(
        self, role: Role, *, pattern: str = "", label: str = "", expires_ns: int | None = None
    ) -> token.NewToken:
        """Makes a token. Raises RegistryError: BAD_MESSAGE (pattern or label), TOO_MANY."""
        with transaction(self._connection):
            return token.insert_token(
                self._connection, role, self._clock(), pattern=pattern, label=label, expires_ns=expires_ns
            )

    def revoke(self, ids: Iterable[str]) -> list[str]:
        """Revokes tokens and all that hangs on them; returns the ids of those that there were."""
        with transaction(self._connection):
            return token.delete_tokens(self._connection, ids, self._clock())

    def create_login_code(self, token_id: str | None = None) -> str:
        """A code that logs one browser in, once, with the rights of this token, or (None) of the oldest admin token.

        Raises RegistryError(BAD_MESSAGE) when there is no such token.
        """
        with transaction(self._connection):
            now_ns = self._clock()
            if token_id is None:
                admin = token.find_admin(self._connection, now_ns)
                if admin is None:
                    raise RegistryError(Code.BAD_MESSAGE, "there is no admin token that has not expired; create one")
                token_id = admin.id
            return token.insert_login_code(self._connection, token_id, now_ns)


@contextmanager
def open_token_file(path: Path, *, clock: Callable[[], int] = time.time_ns) -> Iterator[TokenFile]:
    """The tokens in the registry at this path, which is made when it is missing. Raises RegistryError."""
    connection = open_database(path)
    try:
        yield TokenFile(connection, clock)
    finally:
        connection.close()
