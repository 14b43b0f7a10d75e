"""Tokens, page sessions and login codes: their secrets, their rows, and the file as a command uses it.

Secrets are random and never chosen by people, so a plain SHA-256 is enough: nobody guesses 160 bits, and a slow hash
would only cost time at each connection. The file contains no secret, only its digest. A revoked token is a deleted row,
and its sessions and codes are deleted with it; an event records the revocation.

Every function that takes a connection and writes must run inside a transaction.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from hub.model.event import Event
from hub.model.identity import LOCAL_ID, NewToken, Role, RotatedToken, Token, pattern_problem
from hub.registry.database import RegistryError, damaged_row, data_version, open_database, transaction, translated
from hub.registry.event import insert_events
from hub.registry.last_state import current_state, find_loss, read_state, write_state
from hub.registry.schema import INTACT
from wire.errors import Code
from wire.limits import MAX_TOKEN
from wire.timestamp import NS_PER_S

PREFIX = "hub"
"""Scanners that search repositories and logs for leaked tokens find them by this prefix."""

ID_BYTES = 10
SECRET_BYTES = 20
"""160 random bits, 32 characters of base32. None of them ends a word, so a double click selects the whole secret."""

MAX_TOKENS = 100_000
"""One for each device that a hub may have (see MAX_DEVICES). Further tokens are rejected with TOO_MANY."""

MAX_LABEL = 128

MAX_SESSIONS = 1_000
"""Browsers that are logged in. At the bound the oldest session of the token that has most ends."""

MAX_SESSIONS_OF_TOKEN = 50
"""Browsers that are logged in with one token. At the bound its oldest session ends: no token signs out the browsers of
another."""

MAX_LOGIN_CODES = 32
"""One-time URLs that were printed and not opened. At the bound the oldest stops working."""

SESSION_SECONDS = 30 * 86_400
"""A page stays logged in for 30 days: a dashboard on a wall must not need a new URL every morning."""

LOGIN_CODE_SECONDS = 15 * 60
"""Validity of a one-time URL. A copy in the history of a terminal or a browser expires soon."""


class Secret(NamedTuple):
    """New secret. `text` is shown once, `digest` is kept. `id` names a token in lists and grants nothing."""

    id: str
    text: str
    digest: bytes


def new_token(role: Role, *, is_local: bool = False) -> Secret:
    """Return a new token: `hub_<role>_<id>_<secret>`. `is_local`: it is one of the command line on this machine."""
    token_id = _random_text(ID_BYTES)
    if is_local:
        token_id = LOCAL_ID + token_id[len(LOCAL_ID) :]
    text = f"{PREFIX}_{role.value}_{token_id}_{_random_text(SECRET_BYTES)}"
    return Secret(token_id, text, digest(text))


def new_code() -> Secret:
    """Return a new login code, or the value of a session cookie."""
    text = _random_text(SECRET_BYTES)
    return Secret("", text, digest(text))


def token_id(text: str) -> str | None:
    """Return the id in a text that looks like a token, or None. The id proves nothing."""
    if len(text) > MAX_TOKEN:
        return None
    parts = text.split("_")
    if len(parts) != 4 or parts[0] != PREFIX:
        return None
    return parts[2]


def digest(text: str) -> bytes:
    """Return the SHA-256 of a secret. Accepts any text, because clients send any text."""
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _random_text(size: int) -> str:
    return base64.b32encode(secrets.token_bytes(size)).decode().lower()


class AdminToken(NamedTuple):
    """The oldest token of role admin. `text` is the token itself if it was created just now, else None."""

    token_id: str
    text: str | None


class PageSession(NamedTuple):
    """A logged-in browser: the digest of its cookie, its token, and the begin and the end of the session."""

    digest: bytes
    token_id: str
    created_ns: int
    expires_ns: int

    @property
    def id(self) -> str:
        """The name of the session in lists. It grants nothing: a half of the digest does not reveal the cookie."""
        return base64.b32encode(self.digest[:ID_BYTES]).decode().lower()


class OpenedSession(NamedTuple):
    """A new session: the value of its cookie, and the digests of the sessions that ended for it."""

    secret: Secret
    session: PageSession
    ended: frozenset[bytes]


class Credentials(NamedTuple):
    """All tokens and sessions in the file, with the version of the file (see data_version)."""

    version: int
    tokens: list[tuple[Token, bytes]]
    sessions: list[PageSession]


def insert_token(
    connection: apsw.Connection,
    role: Role,
    now_ns: int,
    *,
    pattern: str = "",
    label: str = "",
    expires_ns: int | None = None,
    is_recorded: bool = True,
    is_local: bool = False,
) -> NewToken:
    """Create a token, with an event unless `is_recorded` is False. `is_local`: for the command line on this machine.

    Raises RegistryError: BAD_MESSAGE for an invalid pattern or label, TOO_MANY.
    """
    problem = pattern_problem(role, pattern)
    # Terminals show the label: it must not contain control characters or escape sequences.
    if problem is None and (len(label) > MAX_LABEL or not label.isprintable()):
        problem = f"a label has at most {MAX_LABEL} printable characters"
    if problem is not None:
        raise RegistryError(Code.BAD_MESSAGE, problem)
    if connection.execute("SELECT count(*) FROM tokens").get >= MAX_TOKENS:
        raise RegistryError(
            Code.TOO_MANY, f"there are {MAX_TOKENS} tokens, the maximum: revoke unused ones with `hub token revoke`"
        )
    secret = new_token(role, is_local=is_local)
    token = Token(secret.id, role, pattern, label, now_ns, None, expires_ns)
    connection.execute(
        "INSERT INTO tokens (id, digest, role, pattern, label, created_ns, expires_ns) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (token.id, secret.digest, role.value, pattern, label, now_ns, expires_ns),
    )
    if is_recorded:
        _record(connection, now_ns, "token_created", token)
    return NewToken(token, secret.text, secret.digest)


def rotate_token(connection: apsw.Connection, id: str, now_ns: int, overlap_ns: int) -> RotatedToken:
    """Create a token with the rights, the label and the lifetime of another one, which expires after `overlap_ns`.

    One that expires earlier anyway does so. Raises RegistryError: BAD_MESSAGE for a token that does not exist or has
    expired, TOO_MANY.
    """
    row = connection.execute(f"SELECT {_TOKEN} FROM tokens WHERE id = ?", (id,)).get
    if row is None:
        raise RegistryError(Code.BAD_MESSAGE, f"there is no token {id}: `hub token list` shows the ids")
    old = _token(*row)
    if not old.usable(now_ns):
        raise RegistryError(Code.BAD_MESSAGE, f"the token {id} has expired: create a new one with `hub token create`")
    old_expires_ns = now_ns + overlap_ns if old.expires_ns is None else min(old.expires_ns, now_ns + overlap_ns)
    expires_ns = None if old.expires_ns is None else now_ns + old.expires_ns - old.created_ns
    new = insert_token(
        connection, old.role, now_ns, pattern=old.pattern, label=old.label, expires_ns=expires_ns, is_recorded=False
    )
    connection.execute("UPDATE tokens SET expires_ns = ? WHERE id = ?", (old_expires_ns, id))
    _record(connection, now_ns, "token_rotated", old, f"replaced by {new.token.id}")
    return RotatedToken(new, id, old_expires_ns)


def delete_tokens(
    connection: apsw.Connection, ids: Iterable[str], now_ns: int, *, is_recorded: bool = True
) -> list[str]:
    """Revoke the tokens with these ids, with an event unless `is_recorded` is False. Return the ids that existed."""
    revoked = []
    for id in ids:
        for row in connection.execute(f"DELETE FROM tokens WHERE id = ? RETURNING {_TOKEN}", (id,)):
            revoked.append(id)
            if is_recorded:
                _record(connection, now_ns, "token_revoked", _token(*row))
    return revoked


def select_tokens(connection: apsw.Connection) -> list[tuple[Token, bytes]]:
    """Return every token with its digest, the oldest first. Raises RegistryError if one of them is damaged."""
    _verify(connection, "tokens")
    rows = connection.execute(f"SELECT {_TOKEN}, digest FROM tokens ORDER BY created_ns, id")
    return [(_token(*row[:-1]), row[-1]) for row in rows]


def update_used(connection: apsw.Connection, used: Iterable[tuple[str, int]]) -> None:
    """Store the last use of tokens: (id, time_ns)."""
    connection.executemany("UPDATE tokens SET used_ns = ? WHERE id = ?", [(used_ns, id) for id, used_ns in used])


def find_admin(connection: apsw.Connection, now_ns: int) -> Token | None:
    """Return the oldest token of role admin that has not expired, or None."""
    admins = (token for token, _ in select_tokens(connection) if token.role is Role.ADMIN and token.usable(now_ns))
    return next(admins, None)


def ensure_admin(connection: apsw.Connection, now_ns: int) -> Token | NewToken:
    """Return the oldest token of role admin that has not expired. Create one if there is none."""
    found = find_admin(connection, now_ns)
    return found or insert_token(connection, Role.ADMIN, now_ns, label="created at the first start")


def insert_login_code(connection: apsw.Connection, token_id: str, now_ns: int) -> str:
    """Create a one-time code for a session with the rights of this token. Raises RegistryError(BAD_MESSAGE)."""
    if connection.execute("SELECT count(*) FROM tokens WHERE id = ?", (token_id,)).get == 0:
        raise RegistryError(Code.BAD_MESSAGE, f"there is no token {token_id}: `hub token list` shows the ids")
    code = new_code()
    connection.execute("DELETE FROM login_codes WHERE expires_ns <= ?", (now_ns,))
    connection.execute(
        "DELETE FROM login_codes WHERE digest IN "
        "(SELECT digest FROM login_codes ORDER BY expires_ns DESC LIMIT -1 OFFSET ?)",
        (MAX_LOGIN_CODES - 1,),
    )
    connection.execute(
        "INSERT INTO login_codes (digest, token, expires_ns) VALUES (?, ?, ?)",
        (code.digest, token_id, now_ns + LOGIN_CODE_SECONDS * NS_PER_S),
    )
    return code.text


def redeem_login_code(connection: apsw.Connection, code: str, now_ns: int) -> OpenedSession | None:
    """Use a code and create a session. Return None for a code that is unknown, used or expired.

    An unknown code writes nothing, so guessing costs no disk.
    """
    used: tuple[str, int] | None = connection.execute(
        "DELETE FROM login_codes WHERE digest = ? RETURNING token, expires_ns", (digest(code),)
    ).get
    if used is None or now_ns >= used[1]:
        return None
    return insert_session(connection, used[0], now_ns)


def insert_session(connection: apsw.Connection, token_id: str, now_ns: int) -> OpenedSession | None:
    """Log a browser in with the rights of this token. Return None if there is no such token.

    At a bound another session ends: see MAX_SESSIONS_OF_TOKEN and MAX_SESSIONS.
    """
    if connection.execute("SELECT count(*) FROM tokens WHERE id = ?", (token_id,)).get == 0:
        return None
    ended = {
        *_delete_sessions(connection, "SELECT digest FROM sessions WHERE expires_ns <= ?", (now_ns,)),
        *_make_session_room(connection, token_id),
    }
    value = new_code()
    session = PageSession(value.digest, token_id, now_ns, now_ns + SESSION_SECONDS * NS_PER_S)
    connection.execute("INSERT INTO sessions (digest, token, created_ns, expires_ns) VALUES (?, ?, ?, ?)", session)
    return OpenedSession(value, session, frozenset(ended))


def _make_session_room(connection: apsw.Connection, token_id: str) -> Iterator[bytes]:
    """Delete the sessions above the bounds, so that one more fits. Yield their digests."""
    oldest_own = "SELECT digest FROM sessions WHERE token = ? ORDER BY created_ns DESC LIMIT -1 OFFSET ?"
    yield from _delete_sessions(connection, oldest_own, (token_id, MAX_SESSIONS_OF_TOKEN - 1))
    surplus = connection.execute("SELECT count(*) FROM sessions").get - (MAX_SESSIONS - 1)
    for _ in range(surplus):
        oldest_of_most = (
            "SELECT digest FROM sessions JOIN (SELECT token, count(*) AS number FROM sessions GROUP BY token) "
            "USING (token) ORDER BY number DESC, created_ns LIMIT 1"
        )
        yield from _delete_sessions(connection, oldest_of_most, ())


def _delete_sessions(connection: apsw.Connection, selection: str, bindings: tuple[str | int, ...]) -> list[bytes]:
    rows = connection.execute(f"DELETE FROM sessions WHERE digest IN ({selection}) RETURNING digest", bindings)
    return [row[0] for row in rows]


def delete_session(connection: apsw.Connection, session_digest: bytes) -> None:
    """Log a browser out."""
    connection.execute("DELETE FROM sessions WHERE digest = ?", (session_digest,))


def select_sessions(connection: apsw.Connection) -> list[PageSession]:
    """Return every session, including expired ones. Raises RegistryError if one of them is damaged."""
    _verify(connection, "sessions")
    rows = connection.execute("SELECT digest, token, created_ns, expires_ns FROM sessions")
    return [PageSession(*row) for row in rows]


def select_credentials(connection: apsw.Connection) -> Credentials:
    """Return every token and session, and the version of the file that they belong to."""
    # The version first: a change by another process during this read is then read again.
    return Credentials(data_version(connection), select_tokens(connection), select_sessions(connection))


def _verify(connection: apsw.Connection, table: str) -> None:
    damaged = connection.execute(f"SELECT count(*) FROM {table} WHERE NOT {INTACT[table]}").get
    if damaged:
        raise damaged_row(f"{damaged} of the rows of {table}")


_TOKEN = "id, role, pattern, label, created_ns, used_ns, expires_ns"


def _token(id: str, role: str, *facts: Any) -> Token:
    return Token(id, Role(role), *facts)


def _record(connection: apsw.Connection, now_ns: int, kind: str, token: Token, note: str = "") -> None:
    detail = " ".join(part for part in (token.role.value, token.pattern, token.id, note, token.label) if part)
    insert_events(connection, [Event(0, None, now_ns, kind, detail)])


@dataclass(slots=True, eq=False)
class TokenDatabase:
    """The tokens of a data directory for a command. A running hub applies changes within a second."""

    connection: apsw.Connection
    clock: Callable[[], int]

    def tokens(self) -> list[Token]:
        """Return every token, the oldest first."""
        with translated():
            return [token for token, _ in select_tokens(self.connection)]

    def create_token(
        self, role: Role, *, pattern: str = "", label: str = "", expires_ns: int | None = None
    ) -> NewToken:
        """Create a token. Raises RegistryError: BAD_MESSAGE (pattern or label), TOO_MANY."""
        with transaction(self.connection):
            return insert_token(
                self.connection, role, self.clock(), pattern=pattern, label=label, expires_ns=expires_ns
            )

    def rotate_token(self, id: str, overlap_ns: int) -> RotatedToken:
        """Replace a token; the old one expires after `overlap_ns`. Raises RegistryError: BAD_MESSAGE, TOO_MANY."""
        with transaction(self.connection):
            return rotate_token(self.connection, id, self.clock(), overlap_ns)

    def revoke(self, ids: Iterable[str]) -> list[str]:
        """Revoke tokens with their sessions and codes. Return the ids that existed."""
        with transaction(self.connection):
            return delete_tokens(self.connection, ids, self.clock())

    @contextmanager
    def temporary_token(self, role: Role, *, pattern: str, label: str, expires_ns: int) -> Iterator[NewToken]:
        """Create a token and revoke it at the end.

        One that only reads leaves no events: a command that is run every minute would hide all others.
        """
        is_recorded = role is not Role.VIEWER
        with transaction(self.connection):
            new = insert_token(
                self.connection,
                role,
                self.clock(),
                pattern=pattern,
                label=label,
                expires_ns=expires_ns,
                is_recorded=is_recorded,
                is_local=True,
            )
        try:
            yield new
        finally:
            with transaction(self.connection):
                delete_tokens(self.connection, [new.token.id], self.clock(), is_recorded=is_recorded)

    def extend(self, id: str, expires_ns: int) -> None:
        """Let a token that exists expire at this time."""
        with transaction(self.connection):
            self.connection.execute("UPDATE tokens SET expires_ns = ? WHERE id = ?", (expires_ns, id))

    def create_login_code(self, token_id: str | None = None) -> str:
        """Create a code that logs one browser in, once, with the rights of this token.

        None stands for the oldest admin token. Raises RegistryError(BAD_MESSAGE) if there is no such token.
        """
        with transaction(self.connection):
            now_ns = self.clock()
            if token_id is None:
                admin = find_admin(self.connection, now_ns)
                if admin is None:
                    raise RegistryError(
                        Code.BAD_MESSAGE, "no admin token is valid: create one with `hub token create --role admin`"
                    )
                token_id = admin.id
            return insert_login_code(self.connection, token_id, now_ns)


@contextmanager
def open_token_file(path: Path, *, clock: Callable[[], int] = time.time_ns) -> Iterator[TokenDatabase]:
    """Open the tokens of the registry at this path, and create the file if it is missing. Raises RegistryError."""
    connection = open_database(path)
    try:
        yield TokenDatabase(connection, clock)
        with suppress(OSError), translated():
            last, now = read_state(path), current_state(connection)
            # A registry that was lost is reported by the hub.
            if find_loss(now, last) is None and now != last:
                write_state(path, now)
    finally:
        connection.close()
