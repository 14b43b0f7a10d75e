"""Tokens, sessions and login codes as rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from hub.model.identity import Role
from hub.registry import token
from hub.registry.database import open_database
from hub.registry.errors import RegistryError
from hub.registry.event import select_events
from hub.registry.token import SECOND_NS
from wire.errors import Code


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = open_database(tmp_path / "registry.db")
    yield connection
    connection.close()


def test_no_secret_is_in_the_file(connection: apsw.Connection, tmp_path: Path) -> None:
    """Whoever copies the file has no token, no login code and no cookie."""
    new = token.insert_token(connection, Role.ADMIN, 0)
    code = token.insert_login_code(connection, new.token.id, 0)
    unused = token.insert_login_code(connection, new.token.id, 0)
    redeemed = token.redeem_login_code(connection, code, 0)
    assert redeemed is not None
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert new.token.id.encode() in content
    for secret in (new.text.rpartition("_")[2], code, unused, redeemed[0].text):
        assert secret.encode() not in content


def test_tokens_are_listed_as_they_were_made(connection: apsw.Connection) -> None:
    """The oldest first, with all that is known of them."""
    made = [
        token.insert_token(connection, Role.GATEWAY, 5, pattern="plant-*", label="bridge", expires_ns=9),
        token.insert_token(connection, Role.VIEWER, 7),
    ]
    token.update_used(connection, [(made[1].token.id, 8)])
    assert token.select_tokens(connection) == [
        (made[0].token, made[0].digest),
        (made[1].token._replace(used_ns=8), made[1].digest),
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
def test_a_token_that_makes_no_sense_is_not_made(
    connection: apsw.Connection, role: Role, pattern: str, label: str
) -> None:
    """A wrong pattern or a label that would upset a terminal is BAD_MESSAGE."""
    with pytest.raises(RegistryError) as caught:
        token.insert_token(connection, role, 0, pattern=pattern, label=label)
    assert caught.value.code is Code.BAD_MESSAGE
    assert token.select_tokens(connection) == []


def test_tokens_are_bounded(connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """At MAX_TOKENS one more is refused, and can be made after one was revoked."""
    monkeypatch.setattr(token, "MAX_TOKENS", 2)
    made = [token.insert_token(connection, Role.VIEWER, 0).token.id for _ in range(2)]
    with pytest.raises(RegistryError) as caught:
        token.insert_token(connection, Role.VIEWER, 0)
    assert caught.value.code is Code.TOO_MANY
    token.delete_tokens(connection, made[:1], 0)
    token.insert_token(connection, Role.VIEWER, 0)


def test_revoking_takes_sessions_and_codes_along(connection: apsw.Connection) -> None:
    """What hangs on a token ends with it; what hangs on another does not."""
    revoked, kept = (token.insert_token(connection, Role.VIEWER, 0).token.id for _ in range(2))
    codes = [token.insert_login_code(connection, id, 0) for id in (revoked, revoked, kept, kept)]
    token.redeem_login_code(connection, codes[0], 0)
    token.redeem_login_code(connection, codes[2], 0)
    assert token.delete_tokens(connection, [revoked, "unknown", revoked], 0) == [revoked]
    assert [session.token_id for session in token.select_sessions(connection)] == [kept]
    assert token.redeem_login_code(connection, codes[1], 0) is None
    assert token.redeem_login_code(connection, codes[3], 0) is not None


def test_making_and_revoking_leave_a_trace(connection: apsw.Connection) -> None:
    """The hub's events tell which token came and went, and nothing secret."""
    new = token.insert_token(connection, Role.DEVICE, 3, pattern="boiler", label="cellar")
    token.delete_tokens(connection, [new.token.id], 4)
    events = select_events(connection)
    assert [(event.kind, event.time_ns, event.device) for event in events] == [
        ("token_revoked", 4, None),
        ("token_created", 3, None),
    ]
    assert {event.detail for event in events} == {f"device boiler {new.token.id} cellar"}


def test_a_login_code_works_once(connection: apsw.Connection) -> None:
    """The second browser that comes with it stays out."""
    id = token.insert_token(connection, Role.VIEWER, 0).token.id
    code = token.insert_login_code(connection, id, 0)
    redeemed = token.redeem_login_code(connection, code, 1)
    assert redeemed is not None
    assert (redeemed[1].token_id, redeemed[1].expires_ns) == (id, 1 + token.SESSION_SECONDS * SECOND_NS)
    assert token.redeem_login_code(connection, code, 1) is None


@pytest.mark.parametrize(("late_ns", "accepted"), [(-1, True), (0, False)])
def test_a_login_code_is_short_lived(connection: apsw.Connection, late_ns: int, accepted: bool) -> None:
    """It works up to LOGIN_CODE_SECONDS, not from then on."""
    id = token.insert_token(connection, Role.VIEWER, 0).token.id
    code = token.insert_login_code(connection, id, 0)
    redeemed = token.redeem_login_code(connection, code, token.LOGIN_CODE_SECONDS * SECOND_NS + late_ns)
    assert (redeemed is not None) == accepted


@pytest.mark.parametrize("code", ["", "wrong", "\ud800", "a" * 10_000])
def test_an_unknown_code_changes_nothing(connection: apsw.Connection, code: str) -> None:
    """Guessing does not even cost a write."""
    before = connection.total_changes()
    assert token.redeem_login_code(connection, code, 0) is None
    assert connection.total_changes() == before


def test_a_code_for_no_token_is_not_made(connection: apsw.Connection) -> None:
    """BAD_MESSAGE with the id."""
    with pytest.raises(RegistryError, match="no token nobody") as caught:
        token.insert_login_code(connection, "nobody", 0)
    assert caught.value.code is Code.BAD_MESSAGE


def test_codes_and_sessions_are_bounded(connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """At their bounds the oldest code stops working and the oldest session ends."""
    monkeypatch.setattr(token, "MAX_LOGIN_CODES", 3)
    monkeypatch.setattr(token, "MAX_SESSIONS", 2)
    id = token.insert_token(connection, Role.VIEWER, 0).token.id
    codes = [token.insert_login_code(connection, id, now_ns) for now_ns in range(4)]
    redeemed = [token.redeem_login_code(connection, code, 10 + number) for number, code in enumerate(codes)]
    assert [answer is not None for answer in redeemed] == [False, True, True, True]
    newest = {answer[1].digest for answer in redeemed[2:] if answer is not None}
    assert {session.digest for session in token.select_sessions(connection)} == newest


def test_the_admin_is_made_when_there_is_none(connection: apsw.Connection) -> None:
    """An admin token that can be used is found again; expired ones and other roles do not count."""
    token.insert_token(connection, Role.OPERATOR, 0)
    token.insert_token(connection, Role.ADMIN, 0, expires_ns=10)
    made = token.ensure_admin(connection, 10)
    assert isinstance(made, token.NewToken)
    assert token.ensure_admin(connection, 11) == made.token
