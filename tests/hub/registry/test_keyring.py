"""Verification in memory gives the same answers as the file."""

from __future__ import annotations

import apsw
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from hub.model.identity import Identity, NewToken, Role, Token
from hub.registry import token
from hub.registry.keyring import USED_RESOLUTION_NS, Keyring
from hub.registry.schema import create_tables
from hub.registry.token import PageSession, digest, new_code, new_token

MINUTE_NS = 60 * 1_000_000_000


def made(role: Role = Role.VIEWER, pattern: str = "", expires_ns: int | None = None) -> NewToken:
    secret = new_token(role)
    return NewToken(Token(secret.id, role, pattern, "", 0, None, expires_ns), secret.text, secret.digest)


def keyring_of(*tokens: NewToken) -> Keyring:
    keyring = Keyring()
    for new in tokens:
        keyring.add(new.token, new.digest)
    return keyring


def test_a_token_has_its_identity() -> None:
    """Id, role and pattern come from the stored row, not from the text of the token."""
    new = made(Role.DEVICE, "boiler")
    assert keyring_of(new).verify(new.text, 0) == Identity(new.token.id, Role.DEVICE, "boiler")


def test_every_character_of_a_token_counts() -> None:
    """A token with a changed, added or missing character is invalid, and so is one with the id of another."""
    new, other = made(), made()
    keyring = keyring_of(new, other)
    swapped = new.text.replace(new.token.id, other.token.id)
    wrong = [new.text[:n] + ("a" if new.text[n] != "a" else "b") + new.text[n + 1 :] for n in range(len(new.text))]
    for text in [*wrong, swapped, new.text + "a", new.text[:-1], new.text.upper(), "", "_", "hub___", new.token.id]:
        assert keyring.verify(text, 0) is None, text


def test_a_token_is_valid_until_it_expires() -> None:
    """From the nanosecond of its expiry it is invalid, it is reported once, and its sessions end."""
    new = made(expires_ns=100)
    keyring = keyring_of(new, made(), made(expires_ns=200))
    code = new_code()
    session = PageSession(code.digest, new.token.id, 10, 1_000)
    keyring.add_session(session)
    assert keyring.verify(new.text, 99)
    assert keyring.drain_ended(99) == frozenset()
    assert keyring.verify(new.text, 100) is None
    assert keyring.verify_session(code.text, 100) is None
    assert keyring.sessions(100) == []
    assert keyring.drain_ended(100) == {new.token.id, session.id}
    assert keyring.drain_ended(101) == frozenset()


def test_a_list_of_sessions_has_the_last_use_of_each() -> None:
    """The oldest is first. An expired session is not listed, and a rejected cookie is no use."""
    new = made()
    keyring = keyring_of(new)
    codes = [new_code() for _ in range(3)]
    sessions = [
        PageSession(code.digest, new.token.id, created, 100) for code, created in zip(codes, (3, 1, 2), strict=True)
    ]
    sessions[2] = sessions[2]._replace(expires_ns=50)
    for session in sessions:
        keyring.add_session(session)
    keyring.verify_session(codes[0].text, 60)
    keyring.verify_session(codes[1].text + "x", 60)
    assert [(held.id, held.created_ns, held.last_used_ns) for held in keyring.sessions(60)] == [
        (sessions[1].id, 1, None),
        (sessions[0].id, 3, 60),
    ]


def test_a_session_that_ends_for_another_is_reported() -> None:
    """It ends in memory as the file deletes it at its bound."""
    new = made()
    keyring = keyring_of(new)
    sessions = [PageSession(digest(str(number)), new.token.id, number, 10_000) for number in range(3)]
    for session in sessions[:2]:
        keyring.add_session(session)
    keyring.add_session(sessions[2], {sessions[0].digest, b"unknown"})
    assert [held.id for held in keyring.sessions(0)] == [sessions[1].id, sessions[2].id]
    assert keyring.drain_ended(0) == {sessions[0].id}


def test_an_expiry_is_reported_before_a_later_one() -> None:
    """Tokens may expire in another order than they are created."""
    late, early = made(expires_ns=200), made(expires_ns=100)
    keyring = keyring_of(late, early)
    assert keyring.drain_ended(150) == {early.token.id}
    assert keyring.drain_ended(250) == {late.token.id}


def test_a_token_missing_in_the_file_has_ended() -> None:
    """Tokens that another process revoked are reported once; others are not, nor earlier expiries."""
    kept, gone, expired = made(), made(), made(expires_ns=5)
    keyring = keyring_of(kept, gone, expired)
    assert keyring.drain_ended(10) == {expired.token.id}
    keyring.replace([(kept.token, kept.digest), (expired.token, expired.digest)], [])
    assert keyring.drain_ended(10) == {gone.token.id}
    assert keyring.drain_ended(10) == frozenset()


def test_the_last_use_is_stored_to_the_minute() -> None:
    """The first use is stored at once, the next one after a minute; a list shows it to the nanosecond."""
    new = made()
    keyring = keyring_of(new)
    start = USED_RESOLUTION_NS
    keyring.verify(new.text, start)
    assert keyring.drain_used() == [(new.token.id, start)]
    keyring.verify(new.text, start + USED_RESOLUTION_NS - 1)
    assert keyring.drain_used() == []
    assert keyring.tokens()[0].last_used_ns == start + USED_RESOLUTION_NS - 1
    keyring.verify(new.text, start + USED_RESOLUTION_NS)
    assert keyring.drain_used() == [(new.token.id, start + USED_RESOLUTION_NS)]


def test_an_open_connection_counts_as_a_use_and_many_are_stored_in_parts() -> None:
    """Unknown ids and expired tokens have no use. What one part leaves is in the next one."""
    tokens, expired = [made() for _ in range(3)], made(expires_ns=5)
    keyring = keyring_of(*tokens, expired)
    ids = [new.token.id for new in tokens]
    keyring.record_use([*ids, expired.token.id, "unknown"], USED_RESOLUTION_NS)
    parts = [keyring.drain_used(2), keyring.drain_used(2), keyring.drain_used(2)]
    assert [len(part) for part in parts] == [2, 1, 0]
    assert sorted(parts[0] + parts[1]) == sorted((id, USED_RESOLUTION_NS) for id in ids)


def test_a_failed_attempt_is_no_use() -> None:
    """Knowledge of the id alone does not change the last use."""
    new = made()
    keyring = keyring_of(new)
    keyring.verify(new.text[:-1] + "!", USED_RESOLUTION_NS)
    assert keyring.drain_used() == []


class KeyringFollowsFile(RuleBasedStateMachine):
    """A keyring that receives every change verifies like one that has just read the file."""

    tokens = Bundle("tokens")
    cookies = Bundle("cookies")

    def __init__(self) -> None:
        super().__init__()
        self.connection = apsw.Connection(":memory:")
        self.connection.pragma("foreign_keys", True)
        create_tables(self.connection)
        self.keyring = Keyring()
        self.now_ns = MINUTE_NS
        self.texts: list[str] = []
        self.values: list[str] = []
        self.alive: set[str] = set()

    @rule(target=tokens, life=st.none() | st.integers(1, 5))
    def create(self, life: int | None) -> str:
        expires_ns = None if life is None else self.now_ns + life * MINUTE_NS
        new = token.insert_token(self.connection, Role.VIEWER, self.now_ns, expires_ns=expires_ns)
        self.keyring.add(new.token, new.digest)
        self.texts.append(new.text)
        self.alive.add(new.token.id)
        return new.token.id

    @rule(ids=st.lists(tokens, max_size=3))
    def revoke(self, ids: list[str]) -> None:
        self.keyring.remove(token.delete_tokens(self.connection, ids, self.now_ns))

    @rule(ids=st.lists(tokens, max_size=3))
    def revoke_elsewhere(self, ids: list[str]) -> None:
        token.delete_tokens(self.connection, ids, self.now_ns)
        self.keyring.replace(token.select_tokens(self.connection), token.select_sessions(self.connection))

    @rule(target=cookies, id=tokens)
    def log_in(self, id: str) -> str:
        if all(held.id != id for held, _ in token.select_tokens(self.connection)):
            return ""
        code = token.insert_login_code(self.connection, id, self.now_ns)
        redeemed = token.redeem_login_code(self.connection, code, self.now_ns)
        assert redeemed is not None
        self.keyring.add_session(redeemed.session, redeemed.ended)
        self.values.append(redeemed.secret.text)
        if self.keyring.verify_session(redeemed.secret.text, self.now_ns) is not None:
            self.alive.add(redeemed.session.id)
        return redeemed.secret.text

    @rule(value=cookies)
    def log_out(self, value: str) -> None:
        token.delete_session(self.connection, digest(value))
        self.keyring.remove_session(digest(value))

    @rule(minutes=st.integers(1, 3))
    def wait(self, minutes: int) -> None:
        self.now_ns += minutes * MINUTE_NS

    @invariant()
    def judges_like_the_file(self) -> None:
        fresh = Keyring()
        fresh.replace(token.select_tokens(self.connection), token.select_sessions(self.connection))
        for text in self.texts:
            assert self.keyring.verify(text, self.now_ns) == fresh.verify(text, self.now_ns)
        for value in self.values:
            assert self.keyring.verify_session(value, self.now_ns) == fresh.verify_session(value, self.now_ns)

    @invariant()
    def tells_each_end(self) -> None:
        self.alive -= self.keyring.drain_ended(self.now_ns)
        usable = {held.id for held, _ in token.select_tokens(self.connection) if held.usable(self.now_ns)}
        usable |= {
            session.id
            for session in token.select_sessions(self.connection)
            if session.token_id in usable and self.now_ns < session.expires_ns
        }
        assert self.alive == usable
        assert {session.id for session in self.keyring.sessions(self.now_ns)} <= usable


TestFollowingTheFile = KeyringFollowsFile.TestCase
TestFollowingTheFile.settings = settings(max_examples=40, stateful_step_count=20)
