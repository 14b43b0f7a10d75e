"""The keys in memory: every token and session as it is on disk, so that judging a credential costs no disk. Pure.

It follows the file: whoever changes that tells the keyring afterwards, in the same order.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from hub.model.identity import Identity
from hub.registry.secret import digest, token_id
from hub.registry.token import SECOND_NS, Session, Token
from wire.limits import MAX_TOKEN

USED_RESOLUTION_NS = 60 * SECOND_NS
"""When a token was used last is kept to the minute: an agent that reconnects all the time is no reason to write."""


class Key:
    """A token in memory. `stored_used_ns` is what the file says of its last use."""

    __slots__ = ("digest", "identity", "stored_used_ns", "token", "used_ns")

    def __init__(self, token: Token, digest: bytes) -> None:
        self.token = token
        self.digest = digest
        self.identity = Identity(token.id, token.role, token.pattern)
        self.used_ns = self.stored_used_ns = token.used_ns or 0


class Keyring:
    """Tokens by id, sessions by the digest of their cookie, and which tokens ended since somebody asked."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._sessions: dict[bytes, Session] = {}
        self._ended: set[str] = set()
        self._used: set[Key] = set()
        self._next_expiry_ns: int | None = None
        self._expired_until_ns = -1

    def verify(self, text: str, now_ns: int) -> Identity | None:
        """The identity behind a token, or None.

        The id in it is public and may be looked up as it is; the digests are compared in constant time.
        """
        key = self._keys.get(token_id(text) or "")
        if key is None or not hmac.compare_digest(key.digest, digest(text)):
            return None
        return self._use(key, now_ns)

    def verify_session(self, value: str, now_ns: int) -> Identity | None:
        """The identity that the cookie's value stands for, or None.

        Looked up by digest: what the time of a look-up tells about a SHA-256 does not help to find its input.
        """
        if len(value) > MAX_TOKEN:
            return None
        session = self._sessions.get(digest(value))
        if session is None or now_ns >= session.expires_ns:
            return None
        key = self._keys.get(session.token_id)
        return None if key is None else self._use(key, now_ns)

    def tokens(self) -> list[Token]:
        """Every token, the oldest first, with its last use as known here."""
        keys = sorted(self._keys.values(), key=lambda key: (key.token.created_ns, key.token.id))
        return [key.token._replace(used_ns=key.used_ns or None) for key in keys]

    def replace(self, tokens: Iterable[tuple[Token, bytes]], sessions: Iterable[Session]) -> None:
        """Takes over all that the file holds. Tokens that are not in it any more have ended."""
        keys = {}
        for token, token_digest in tokens:
            key = keys[token.id] = Key(token, token_digest)
            known = self._keys.get(token.id)
            if known is not None and known.used_ns > key.used_ns:
                key.used_ns = known.used_ns
        self._ended |= self._keys.keys() - keys.keys()
        self._used = {keys[key.token.id] for key in self._used if key.token.id in keys}
        self._keys = keys
        self._sessions = {session.digest: session for session in sessions}
        self._plan_expiry()

    def add(self, token: Token, token_digest: bytes) -> None:
        """A token was made."""
        self._keys[token.id] = Key(token, token_digest)
        if token.expires_ns is not None and (self._next_expiry_ns or token.expires_ns) >= token.expires_ns:
            self._next_expiry_ns = token.expires_ns

    def remove(self, ids: Iterable[str]) -> None:
        """These tokens were revoked, and their sessions with them."""
        self._ended |= {gone for gone in ids if self._keys.pop(gone, None) is not None}
        self._sessions = {key: session for key, session in self._sessions.items() if session.token_id in self._keys}

    def add_session(self, session: Session) -> None:
        """A browser logged in."""
        self._sessions[session.digest] = session

    def remove_session(self, session_digest: bytes) -> None:
        """A browser logged out."""
        self._sessions.pop(session_digest, None)

    def take_ended(self, now_ns: int) -> frozenset[str]:
        """The ids of the tokens that were revoked or expired since the last call."""
        if self._next_expiry_ns is not None and now_ns >= self._next_expiry_ns:
            self._ended |= {key.token.id for key in self._keys.values() if self._expired_by(key.token, now_ns)}
            self._expired_until_ns = now_ns
            self._plan_expiry()
        ended = frozenset(self._ended)
        self._ended.clear()
        return ended

    def take_used(self) -> list[tuple[str, int]]:
        """(id, time_ns) of the tokens whose last use is worth writing down. What is taken counts as written."""
        used = [(key.token.id, key.used_ns) for key in self._used]
        for key in self._used:
            key.stored_used_ns = key.used_ns
        self._used.clear()
        return used

    def _use(self, key: Key, now_ns: int) -> Identity | None:
        if not key.token.usable(now_ns):
            return None
        if now_ns > key.used_ns:
            key.used_ns = now_ns
            if now_ns - key.stored_used_ns >= USED_RESOLUTION_NS:
                self._used.add(key)
        return key.identity

    def _expired_by(self, token: Token, now_ns: int) -> bool:
        """Whether the token has expired since the last look."""
        return token.expires_ns is not None and self._expired_until_ns < token.expires_ns <= now_ns

    def _plan_expiry(self) -> None:
        """When to look for expired tokens next: at the first expiry after the last look."""
        times = (key.token.expires_ns for key in self._keys.values())
        self._next_expiry_ns = min((at for at in times if at is not None and at > self._expired_until_ns), default=None)
