"""Tokens, sessions and login codes: their secrets, their rows, and the file as a command uses it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.identity import Identity, NewToken, Role
from hub.registry import token
from hub.registry.database import RegistryError, open_database
from hub.registry.event import select_events
from hub.registry.registry import Registry
from hub.registry.token import digest, new_code, new_token, open_token_file, token_id
from wire.errors import Code
from wire.limits import MAX_TOKEN
from wire.timestamp import NS_PER_S


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = open_database(tmp_path / "registry.db")
    yield connection
    connection.close()


def test_no_secret_is_in_the_file(connection: apsw.Connection, tmp_path: Path) -> None:
    """A copy of the file reveals no token, no login code and no cookie."""
    new = token.insert_token(connection, Role.ADMIN, 0)
    code = token.insert_login_code(connection, new.token.id, 0)
    unused = token.insert_login_code(connection, new.token.id, 0)
    redeemed = token.redeem_login_code(connection, code, 0)
    assert redeemed is not None
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert new.token.id.encode() in content
    for secret in (new.text.rpartition("_")[2], code, unused, redeemed[0].text):
        assert secret.encode() not in content


def test_tokens_are_listed_as_they_were_created(connection: apsw.Connection) -> None:
    """The list begins with the oldest and contains all fields."""
    made = [
        token.insert_token(connection, Role.GATEWAY, 5, pattern="plant-*", label="bridge", expires_ns=9),
        token.insert_token(connection, Role.VIEWER, 7),
    ]
    token.update_used(connection, [(made[1].token.id, 8)])
    assert token.select_tokens(connection) == [
        (made[0].token, made[0].digest),
        (made[1].token._replace(last_used_ns=8), made[1].digest),
    ]


@pytest.mark.parametrize(
    ("role", "pattern", "label"),
    [
        (Role.DEVICE, "", ""),
        (Role.DEVICE, "a*", ""),
        (Role.VIEWER, "a", ""),
        (Role.ADMIN, "", "\x1b[31mred"),
        (Role.ADMIN, "", "x" * 129),
    ],
)
def test_an_invalid_token_is_rejected(connection: apsw.Connection, role: Role, pattern: str, label: str) -> None:
    """An invalid pattern, or a label with control characters, is BAD_MESSAGE."""
    with pytest.raises(RegistryError) as caught:
        token.insert_token(connection, role, 0, pattern=pattern, label=label)
    assert caught.value.code is Code.BAD_MESSAGE
    assert token.select_tokens(connection) == []


def test_tokens_are_bounded(connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """At MAX_TOKENS the next token is rejected, and is accepted after a revocation."""
    monkeypatch.setattr(token, "MAX_TOKENS", 2)
    made = [token.insert_token(connection, Role.VIEWER, 0).token.id for _ in range(2)]
    with pytest.raises(RegistryError) as caught:
        token.insert_token(connection, Role.VIEWER, 0)
    assert caught.value.code is Code.TOO_MANY
    token.delete_tokens(connection, made[:1], 0)
    token.insert_token(connection, Role.VIEWER, 0)


def test_a_revocation_ends_sessions_and_codes(connection: apsw.Connection) -> None:
    """Sessions and codes of other tokens stay."""
    revoked, kept = (token.insert_token(connection, Role.VIEWER, 0).token.id for _ in range(2))
    codes = [token.insert_login_code(connection, id, 0) for id in (revoked, revoked, kept, kept)]
    token.redeem_login_code(connection, codes[0], 0)
    token.redeem_login_code(connection, codes[2], 0)
    assert token.delete_tokens(connection, [revoked, "unknown", revoked], 0) == [revoked]
    assert [session.token_id for session in token.select_sessions(connection)] == [kept]
    assert token.redeem_login_code(connection, codes[1], 0) is None
    assert token.redeem_login_code(connection, codes[3], 0) is not None


def test_creation_and_revocation_are_recorded(connection: apsw.Connection) -> None:
    """The events of the hub name the token and contain no secret."""
    new = token.insert_token(connection, Role.DEVICE, 3, pattern="boiler", label="cellar")
    token.delete_tokens(connection, [new.token.id], 4)
    events = select_events(connection)
    assert [(event.kind, event.time_ns, event.device) for event in events] == [
        ("token_revoked", 4, None),
        ("token_created", 3, None),
    ]
    assert {event.detail for event in events} == {f"device boiler {new.token.id} cellar"}


def test_a_login_code_works_once(connection: apsw.Connection) -> None:
    """A second browser with the same code is rejected."""
    id = token.insert_token(connection, Role.VIEWER, 0).token.id
    code = token.insert_login_code(connection, id, 0)
    redeemed = token.redeem_login_code(connection, code, 1)
    assert redeemed is not None
    assert (redeemed[1].token_id, redeemed[1].expires_ns) == (id, 1 + token.SESSION_SECONDS * NS_PER_S)
    assert token.redeem_login_code(connection, code, 1) is None


@pytest.mark.parametrize(("late_ns", "accepted"), [(-1, True), (0, False)])
def test_a_login_code_is_short_lived(connection: apsw.Connection, late_ns: int, accepted: bool) -> None:
    """It is valid until LOGIN_CODE_SECONDS have passed."""
    id = token.insert_token(connection, Role.VIEWER, 0).token.id
    code = token.insert_login_code(connection, id, 0)
    redeemed = token.redeem_login_code(connection, code, token.LOGIN_CODE_SECONDS * NS_PER_S + late_ns)
    assert (redeemed is not None) == accepted


@pytest.mark.parametrize("code", ["", "wrong", "\ud800", "a" * 10_000])
def test_an_unknown_code_changes_nothing(connection: apsw.Connection, code: str) -> None:
    """Guessing causes no write."""
    before = connection.total_changes()
    assert token.redeem_login_code(connection, code, 0) is None
    assert connection.total_changes() == before


def test_a_code_needs_an_existing_token(connection: apsw.Connection) -> None:
    """The error is BAD_MESSAGE with the id."""
    with pytest.raises(RegistryError, match="no token nobody") as caught:
        token.insert_login_code(connection, "nobody", 0)
    assert caught.value.code is Code.BAD_MESSAGE


def test_codes_and_sessions_are_bounded(connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """At their bounds the oldest code stops working and the oldest session ends."""
    monkeypatch.setattr(token, "MAX_LOGIN_CODES", 3)
    monkeypatch.setattr(token, "MAX_SESSIONS_OF_TOKEN", 2)
    id = token.insert_token(connection, Role.VIEWER, 0).token.id
    codes = [token.insert_login_code(connection, id, now_ns) for now_ns in range(4)]
    redeemed = [token.redeem_login_code(connection, code, 10 + number) for number, code in enumerate(codes)]
    assert [answer is not None for answer in redeemed] == [False, True, True, True]
    newest = {answer[1].digest for answer in redeemed[2:] if answer is not None}
    assert {session.digest for session in token.select_sessions(connection)} == newest


def test_no_token_ends_the_sessions_of_another(connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound of a token its own oldest session ends; at the bound of all, the oldest of the token with most."""
    monkeypatch.setattr(token, "MAX_SESSIONS_OF_TOKEN", 3)
    monkeypatch.setattr(token, "MAX_SESSIONS", 6)
    admin, one, other = (token.insert_token(connection, Role.VIEWER, 0).token.id for _ in range(3))
    opened = [token.insert_session(connection, id, now) for now, id in enumerate([admin, *[one] * 5, *[other] * 5])]
    sessions = [session for session in opened if session is not None]
    held = sorted(session.created_ns for session in token.select_sessions(connection))
    assert held == [0, 4, 5, 8, 9, 10]
    ended = {session.session.digest for number, session in enumerate(sessions) if number not in held}
    assert {digest for session in sessions for digest in session.ended} == ended


def test_an_ended_token_opens_no_session(connection: apsw.Connection) -> None:
    """It may be revoked between its verification and the session."""
    assert token.insert_session(connection, "nobody", 0) is None


def test_an_admin_is_created_if_there_is_none(connection: apsw.Connection) -> None:
    """A valid admin token is reused; expired tokens and other roles do not count."""
    token.insert_token(connection, Role.OPERATOR, 0)
    token.insert_token(connection, Role.ADMIN, 0, expires_ns=10)
    made = token.ensure_admin(connection, 10)
    assert isinstance(made, NewToken)
    assert token.ensure_admin(connection, 11) == made.token


@pytest.mark.parametrize("role", list(Role))
def test_a_token_shows_its_role_and_id(role: Role) -> None:
    """The secret has at least 128 bits, and only its SHA-256 is stored."""
    secret = new_token(role)
    prefix, named, id, text = secret.text.split("_")
    assert (prefix, named, id) == ("hub", role.value, secret.id)
    assert re.fullmatch(r"[a-z2-7]+", text)
    assert len(text) * math.log2(32) >= 128
    assert text not in secret.id
    assert secret.digest == hashlib.sha256(secret.text.encode()).digest()
    assert len(secret.text) <= MAX_TOKEN


def test_no_two_secrets_are_alike() -> None:
    """Tokens, ids and codes are random."""
    tokens = [new_token(Role.DEVICE) for _ in range(100)]
    assert len({token.text for token in tokens}) == len({token.id for token in tokens}) == 100
    assert len({new_code().text for _ in range(100)}) == 100


@given(st.sampled_from(list(Role)))
def test_the_id_of_a_token_is_found_in_it(role: Role) -> None:
    """Verification begins with the id."""
    secret = new_token(role)
    assert token_id(secret.text) == secret.id


@given(st.text(st.characters(), max_size=300) | st.from_regex(r"hub_[a-z]*_[a-z]*_.*"))
def test_any_text_can_be_verified(text: str) -> None:
    """Clients may send any text, including lone surrogates."""
    assert len(digest(text)) == 32
    found = token_id(text)
    assert found is None or found in text


def test_a_text_longer_than_any_token_has_no_id() -> None:
    """A text that is too long for a token is never hashed."""
    assert token_id(f"hub_device_a_{'b' * MAX_TOKEN}") is None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


async def test_a_token_created_before_the_first_start_is_valid(path: Path) -> None:
    """`hub token create` works on an empty directory, before `hub run`."""
    with open_token_file(path) as file:
        new = file.create_token(Role.DEVICE, pattern="boiler")
    async with Registry(path) as registry:
        assert registry.verify(new.text) == Identity(new.token.id, Role.DEVICE, "boiler")


async def test_the_command_lists_tokens_of_the_hub(path: Path) -> None:
    """Both list the same tokens while the hub has the file open."""
    async with Registry(path) as registry:
        new = await registry.create_token(Role.VIEWER, label="wall")
        with open_token_file(path) as file:
            assert file.tokens() == [new.token]
            assert file.revoke([new.token.id, "unknown"]) == [new.token.id]


def test_a_rejected_token_stores_nothing(path: Path) -> None:
    """The error is BAD_MESSAGE, and the list is unchanged."""
    with open_token_file(path) as file:
        with pytest.raises(RegistryError) as caught:
            file.create_token(Role.DEVICE, pattern="*")
        assert caught.value.code is Code.BAD_MESSAGE
        assert file.tokens() == []


async def test_a_command_signs_a_browser_in(path: Path) -> None:
    """The code has the rights of the named token, else of the first admin, and needs one of them."""
    with open_token_file(path) as file:
        viewer = file.create_token(Role.VIEWER).token.id
        with pytest.raises(RegistryError, match="no admin token"):
            file.create_login_code()
        async with Registry(path) as registry:
            admin = file.create_token(Role.ADMIN).token.id
            logins = [await registry.redeem(file.create_login_code(named)) for named in (None, viewer)]
            identities = [registry.verify_session(login.value) for login in logins if login is not None]
    assert [identity.token_id for identity in identities if identity is not None] == [admin, viewer]


def test_a_missing_token_directory_is_reported(tmp_path: Path) -> None:
    """The error is STORAGE_FAILED with the path."""
    with pytest.raises(RegistryError, match="nowhere"), open_token_file(tmp_path / "nowhere" / "registry.db"):
        pass
