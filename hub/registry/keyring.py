"""The tokens and sessions in memory, so that verifying a credential costs no disk access. Pure.

The keyring follows the file: after each change of the file the registry applies the change here, in the same order.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Set
from itertools import islice

from hub.model.identity import BrowserSession, Identity, Token
from hub.registry.token import PageSession, digest, token_id
from wire.limits import MAX_TOKEN
from wire.timestamp import NS_PER_S

USED_RESOLUTION_NS = 60 * NS_PER_S
"""The last use of a token is stored at most once a minute: an agent that reconnects all the time must not
cause writes."""


class TokenState:
    """A token in memory. `stored_used_ns` is its last use in the file."""

    __slots__ = ("digest", "identity", "stored_used_ns", "token", "used_ns")

    def __init__(self, token: Token, digest: bytes) -> None:
        self.token = token
        self.digest = digest
        self.identity = Identity(token.id, token.role, token.pattern, label=token.label)
        self.used_ns = self.stored_used_ns = token.last_used_ns or 0


class Keyring:
    """Tokens by id, sessions by the digest of their cookie, and the credentials that ended since the last call."""

    def __init__(self) -> None:
        self._tokens: dict[str, TokenState] = {}
        self._sessions: dict[bytes, PageSession] = {}
        self._session_used_ns: dict[bytes, int] = {}
        self._ended: set[str] = set()
        self._used: set[TokenState] = set()
        self._next_expiry_ns: int | None = None
        self._expired_until_ns = -1

    def verify(self, text: str, now_ns: int) -> Identity | None:
        """Return the identity of a token, or None.

        The id in the token is public and is used for the lookup; the digests are compared in constant time.
        """
        state = self._tokens.get(token_id(text) or "")
        if state is None or not hmac.compare_digest(state.digest, digest(text)):
            return None
        return self._use(state, now_ns)

    def verify_session(self, value: str, now_ns: int) -> Identity | None:
        """Return the identity of a cookie, or None.

        The lookup uses the digest: its timing reveals nothing that helps to find the input of a SHA-256.
        """
        if len(value) > MAX_TOKEN:
            return None
        session = self._sessions.get(digest(value))
        if session is None or now_ns >= session.expires_ns:
            return None
        state = self._tokens.get(session.token_id)
        identity = None if state is None else self._use(state, now_ns)
        if identity is None:
            return None
        self._session_used_ns[session.digest] = now_ns
        return identity._replace(session=session.id)

    def record_use(self, ids: Iterable[str], now_ns: int) -> None:
        """Record that these tokens are used now, without verifying them again: their connections are open."""
        for id in ids:
            state = self._tokens.get(id)
            if state is not None:
                self._use(state, now_ns)

    def tokens(self) -> list[Token]:
        """Return every token, the oldest first, with its last use in this process."""
        states = sorted(self._tokens.values(), key=lambda state: (state.token.created_ns, state.token.id))
        return [state.token._replace(last_used_ns=state.used_ns or None) for state in states]

    def sessions(self, now_ns: int) -> list[BrowserSession]:
        """Return every valid session, the oldest first, with its last use in this process."""
        sessions = [
            BrowserSession(
                held.id, held.token_id, held.created_ns, self._session_used_ns.get(held.digest), held.expires_ns
            )
            for held in self._sessions.values()
            if now_ns < held.expires_ns and self._is_usable(held.token_id, now_ns)
        ]
        return sorted(sessions, key=lambda session: (session.created_ns, session.id))

    def find_session(self, id: str) -> PageSession | None:
        """Return the session with this id, or None."""
        return next((session for session in self._sessions.values() if session.id == id), None)

    def replace(self, tokens: Iterable[tuple[Token, bytes]], sessions: Iterable[PageSession]) -> None:
        """Replace everything with the content of the file. Tokens and sessions that are missing in it have ended."""
        states: dict[str, TokenState] = {}
        for token, token_digest in tokens:
            state = states[token.id] = TokenState(token, token_digest)
            known = self._tokens.get(token.id)
            if known is not None and known.used_ns > state.used_ns:
                state.used_ns = known.used_ns
        self._ended |= self._tokens.keys() - states.keys()
        self._used = {states[state.token.id] for state in self._used if state.token.id in states}
        self._tokens = states
        self._keep_sessions({session.digest: session for session in sessions})
        self._plan_expiry()

    def add(self, token: Token, token_digest: bytes) -> None:
        """Add a new token."""
        self._tokens[token.id] = TokenState(token, token_digest)
        if token.expires_ns is not None and (self._next_expiry_ns or token.expires_ns) >= token.expires_ns:
            self._next_expiry_ns = token.expires_ns

    def expire(self, id: str, expires_ns: int) -> None:
        """Let a token expire at this time."""
        state = self._tokens.get(id)
        if state is not None:
            state.token = state.token._replace(expires_ns=expires_ns)
            self._plan_expiry()

    def remove(self, ids: Iterable[str]) -> None:
        """Remove revoked tokens and their sessions."""
        self._ended |= {id for id in ids if self._tokens.pop(id, None) is not None}
        self._keep_sessions(
            {cookie: session for cookie, session in self._sessions.items() if session.token_id in self._tokens}
        )

    def add_session(self, session: PageSession, ended: Set[bytes] = frozenset()) -> None:
        """Add the session of a browser that logged in. `ended` are the digests of those that end for it."""
        if ended:
            self._keep_sessions({cookie: held for cookie, held in self._sessions.items() if cookie not in ended})
        self._sessions[session.digest] = session

    def remove_session(self, session_digest: bytes) -> None:
        """Remove the session of a browser that logged out."""
        self._keep_sessions({cookie: held for cookie, held in self._sessions.items() if cookie != session_digest})

    def drain_ended(self, now_ns: int) -> frozenset[str]:
        """Return and clear the ids of the tokens and sessions that ended since the last call.

        A token ends when it is revoked or expires, and its sessions with it.
        """
        if self._next_expiry_ns is not None and now_ns >= self._next_expiry_ns:
            expired = {state.token.id for state in self._tokens.values() if self._expired_by(state.token, now_ns)}
            self._ended |= expired
            self._ended |= {session.id for session in self._sessions.values() if session.token_id in expired}
            self._expired_until_ns = now_ns
            self._plan_expiry()
        ended = frozenset(self._ended)
        self._ended.clear()
        return ended

    def drain_used(self, most: int | None = None) -> list[tuple[str, int]]:
        """Return and clear the last uses to store, `most` of them or all: (id, time_ns). They count as stored."""
        drained = list(islice(self._used, most))
        for state in drained:
            state.stored_used_ns = state.used_ns
        self._used.difference_update(drained)
        return [(state.token.id, state.used_ns) for state in drained]

    def _keep_sessions(self, kept: dict[bytes, PageSession]) -> None:
        """Replace the sessions. Those that are missing in `kept` have ended."""
        self._ended |= {session.id for cookie, session in self._sessions.items() if cookie not in kept}
        self._sessions = kept
        self._session_used_ns = {cookie: used for cookie, used in self._session_used_ns.items() if cookie in kept}

    def _use(self, state: TokenState, now_ns: int) -> Identity | None:
        if not state.token.usable(now_ns):
            return None
        if now_ns > state.used_ns:
            state.used_ns = now_ns
            if now_ns - state.stored_used_ns >= USED_RESOLUTION_NS:
                self._used.add(state)
        return state.identity

    def _is_usable(self, token_id: str, now_ns: int) -> bool:
        state = self._tokens.get(token_id)
        return state is not None and state.token.usable(now_ns)

    def _expired_by(self, token: Token, now_ns: int) -> bool:
        """Return whether the token has expired since the last check."""
        return token.expires_ns is not None and self._expired_until_ns < token.expires_ns <= now_ns

    def _plan_expiry(self) -> None:
        """Set the next check for expired tokens to the first expiry after the last check."""
        times = (state.token.expires_ns for state in self._tokens.values())
        self._next_expiry_ns = min(
            (time_ns for time_ns in times if time_ns is not None and time_ns > self._expired_until_ns), default=None
        )
