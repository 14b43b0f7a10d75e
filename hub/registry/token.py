"""Tokens, page sessions and login codes as rows: the statements, used by the hub and by the commands alike.

Every function takes a connection; the writing ones must run inside a transaction. Nothing of a secret is in the file
but its SHA-256. A revoked token is a row that is gone, and its sessions and codes with it: what is not there cannot be
accepted by mistake. That it was revoked is told by an event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import apsw

from hub.model.identity import Role, pattern_problem
from hub.registry.database import data_version
from hub.registry.errors import RegistryError
from hub.registry.event import Event, insert_events
from hub.registry.secret import Secret, digest, new_code, new_token
from wire.errors import Code

MAX_TOKENS = 100_000
"""One for each of the devices that a hub may have (see MAX_DEVICES). More are refused: revoke some."""

MAX_LABEL = 128

MAX_SESSIONS = 1_000
"""Browsers that are logged in. The one that logged in first is logged out for the next."""

MAX_LOGIN_CODES = 32
"""One-time URLs that were printed and not opened. The oldest stops working for the next."""

SESSION_SECONDS = 30 * 86_400
"""A page stays logged in for 30 days: a dashboard on a wall is not to ask for a new URL every morning."""

LOGIN_CODE_SECONDS = 15 * 60
"""From printing a one-time URL to opening it; what stays in a terminal's or a browser's history is soon worthless."""

SECOND_NS = 1_000_000_000


class Token(NamedTuple):
    """What is known of a token. Times in nanoseconds since 1970 UTC; `used_ns` is true to a minute."""

    id: str
    role: Role
    pattern: str
    label: str
    created_ns: int
    used_ns: int | None
    expires_ns: int | None

    def usable(self, now_ns: int) -> bool:
        """Whether it has not expired."""
        return self.expires_ns is None or now_ns < self.expires_ns


class NewToken(NamedTuple):
    """A token that was just made: `text` is the token itself, which nobody can find out again."""

    token: Token
    text: str
    digest: bytes


class Admin(NamedTuple):
    """The oldest token of role admin. `text` is the token itself when it was just made, None otherwise."""

    token_id: str
    text: str | None


class Session(NamedTuple):
    """A browser that is logged in: the digest of its cookie, the token it stands for, when it ends."""

    digest: bytes
    token_id: str
    expires_ns: int


class Keys(NamedTuple):
    """All that the file holds of tokens and sessions, at this version of the file (see data_version)."""

    version: int
    tokens: list[tuple[Token, bytes]]
    sessions: list[Session]


def insert_token(
    connection: apsw.Connection,
    role: Role,
    now_ns: int,
    *,
    pattern: str = "",
    label: str = "",
    expires_ns: int | None = None,
) -> NewToken:
    """Makes a token. Raises RegistryError: BAD_MESSAGE for a wrong pattern or label, TOO_MANY."""
    problem = pattern_problem(role, pattern) or _label_problem(label)
    if problem is not None:
        raise RegistryError(Code.BAD_MESSAGE, problem)
    if connection.execute("SELECT count(*) FROM tokens").get >= MAX_TOKENS:
        raise RegistryError(Code.TOO_MANY, f"there are {MAX_TOKENS} tokens; revoke some that are not used")
    secret = new_token(role)
    token = Token(secret.id, role, pattern, label, now_ns, None, expires_ns)
    connection.execute(
        "INSERT INTO tokens (id, digest, role, pattern, label, created_ns, expires_ns) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (token.id, secret.digest, role.value, pattern, label, now_ns, expires_ns),
    )
    _record(connection, now_ns, "token_created", token)
    return NewToken(token, secret.text, secret.digest)


def delete_tokens(connection: apsw.Connection, ids: Iterable[str], now_ns: int) -> list[str]:
    """Revokes the tokens with these ids; returns those that there were."""
    revoked = []
    for named in ids:
        for row in connection.execute(f"DELETE FROM tokens WHERE id = ? RETURNING {_TOKEN}", (named,)):
            revoked.append(named)
            _record(connection, now_ns, "token_revoked", _token(*row))
    return revoked


def select_tokens(connection: apsw.Connection) -> list[tuple[Token, bytes]]:
    """Every token with its digest, the oldest first."""
    rows = connection.execute(f"SELECT {_TOKEN}, digest FROM tokens ORDER BY created_ns, id")
    return [(_token(*row[:-1]), row[-1]) for row in rows]


def update_used(connection: apsw.Connection, used: Iterable[tuple[str, int]]) -> None:
    """Keeps when tokens were used last: (id, time_ns)."""
    connection.executemany("UPDATE tokens SET used_ns = ? WHERE id = ?", [(at_ns, used_id) for used_id, at_ns in used])


def find_admin(connection: apsw.Connection, now_ns: int) -> Token | None:
    """The oldest token of role admin that has not expired."""
    admins = (held for held, _ in select_tokens(connection) if held.role is Role.ADMIN and held.usable(now_ns))
    return next(admins, None)


def ensure_admin(connection: apsw.Connection, now_ns: int) -> Token | NewToken:
    """The oldest token of role admin that has not expired; made when there is none."""
    found = find_admin(connection, now_ns)
    return found or insert_token(connection, Role.ADMIN, now_ns, label="made at the first start")


def insert_login_code(connection: apsw.Connection, token_id: str, now_ns: int) -> str:
    """Makes a one-time code for a session that stands for this token. Raises RegistryError(BAD_MESSAGE)."""
    if connection.execute("SELECT count(*) FROM tokens WHERE id = ?", (token_id,)).get == 0:
        raise RegistryError(Code.BAD_MESSAGE, f"there is no token {token_id}")
    code = new_code()
    connection.execute("DELETE FROM login_codes WHERE expires_ns <= ?", (now_ns,))
    _keep_newest(connection, "login_codes", "expires_ns", MAX_LOGIN_CODES - 1)
    connection.execute(
        "INSERT INTO login_codes VALUES (?, ?, ?)", (code.digest, token_id, now_ns + LOGIN_CODE_SECONDS * SECOND_NS)
    )
    return code.text


def redeem_login_code(connection: apsw.Connection, code: str, now_ns: int) -> tuple[Secret, Session] | None:
    """Uses the code up and makes a session; None for a code that is unknown, used or too old.

    Nothing is written for an unknown code, so guessing costs no disk.
    """
    used: tuple[str, int] | None = connection.execute(
        "DELETE FROM login_codes WHERE digest = ? RETURNING token, expires_ns", (digest(code),)
    ).get
    if used is None or now_ns >= used[1]:
        return None
    connection.execute("DELETE FROM sessions WHERE expires_ns <= ?", (now_ns,))
    _keep_newest(connection, "sessions", "created_ns", MAX_SESSIONS - 1)
    value = new_code()
    session = Session(value.digest, used[0], now_ns + SESSION_SECONDS * SECOND_NS)
    connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?)", (*session[:2], now_ns, session.expires_ns))
    return value, session


def delete_session(connection: apsw.Connection, session_digest: bytes) -> None:
    """Logs a browser out."""
    connection.execute("DELETE FROM sessions WHERE digest = ?", (session_digest,))


def select_sessions(connection: apsw.Connection) -> list[Session]:
    """Every session, expired ones too."""
    return [Session(*row) for row in connection.execute("SELECT digest, token, expires_ns FROM sessions")]


def select_keys(connection: apsw.Connection) -> Keys:
    """Every token and session, and the version that says whether they are still all."""
    # The version first: what another process changes while this reads is then read again.
    return Keys(data_version(connection), select_tokens(connection), select_sessions(connection))


_TOKEN = "id, role, pattern, label, created_ns, used_ns, expires_ns"


def _token(
    id: str, role: str, pattern: str, label: str, created_ns: int, used_ns: int | None, expires_ns: int | None
) -> Token:
    return Token(id, Role(role), pattern, label, created_ns, used_ns, expires_ns)


def _label_problem(label: str) -> str | None:
    # It is shown in terminals: no control characters, no escape sequences.
    if len(label) > MAX_LABEL or not label.isprintable():
        return f"a label is at most {MAX_LABEL} printable characters"
    return None


def _keep_newest(connection: apsw.Connection, table: str, age: str, count: int) -> None:
    connection.execute(
        f"DELETE FROM {table} WHERE digest IN (SELECT digest FROM {table} ORDER BY {age} DESC LIMIT -1 OFFSET ?)",
        (count,),
    )


def _record(connection: apsw.Connection, now_ns: int, kind: str, token: Token) -> None:
    detail = " ".join(part for part in (token.role.value, token.pattern, token.id, token.label) if part)
    insert_events(connection, [Event(0, None, now_ns, kind, detail)])
