"""The last known state of a registry: a file that was lost or is an older copy is reported."""

from __future__ import annotations

import shutil
import stat
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.identity import Role
from hub.registry.last_state import RegistryState, find_loss, read_state, write_state
from hub.registry.registry import Registry
from hub.registry.token import open_token_file
from integrity.checksum import row_checksum
from integrity.recovery import beside

STATES = st.builds(RegistryState, st.sampled_from(["a", "b"]), st.integers(0, 5), st.sampled_from([None, 1, 2]))


@given(now=STATES, last=st.none() | STATES)
def test_only_a_registry_that_lacks_something_is_reported(now: RegistryState, last: RegistryState | None) -> None:
    """The same one, a newer one, and one without a record are as they should be."""
    is_expected = last is None or (
        last.hub == now.hub
        and (last.event < now.event or (last.event == now.event and None in (last.tokens, now.tokens)) or last == now)
    )
    assert (find_loss(now, last) is None) is is_expected


def test_a_damaged_record_counts_for_nothing(tmp_path: Path) -> None:
    """The file is private, and a wrong byte in it raises no alarm."""
    path = tmp_path / "registry.db"
    write_state(path, RegistryState("a", 7))
    assert read_state(path) == RegistryState("a", 7)
    file = beside(path, ".state")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(file.read_bytes().replace(b"7", b"8"))
    assert read_state(path) is None
    assert read_state(tmp_path / "other.db") is None


@pytest.mark.parametrize(
    ("damage", "what"), [("older", "is an older copy: its last 2 events"), ("removed", "was removed")]
)
async def test_a_lost_token_is_reported(tmp_path: Path, damage: str, what: str) -> None:
    """Tokens that a command and a hub created after the copy are missing: the hub says so, once."""
    path, copy = tmp_path / "registry.db", tmp_path / "copy.db"
    async with Registry(path) as registry:
        assert registry.problem is None
    shutil.copy(path, copy)
    with open_token_file(path) as tokens:
        tokens.create_token(Role.ADMIN)
    async with Registry(path) as registry:
        await registry.create_token(Role.ADMIN)
        assert registry.problem is None
    path.unlink()
    if damage == "older":
        shutil.copy(copy, path)
    async with Registry(path) as registry:
        assert what in (registry.problem or "")
        (event,) = await registry.events(of_hub=True)
        assert (event.kind, event.detail) == ("registry lost or restored", registry.problem)
    async with Registry(path) as registry:
        assert registry.problem is None


def test_a_record_of_a_version_without_a_sum_is_read(tmp_path: Path) -> None:
    """It knows nothing about the tokens."""
    path = tmp_path / "registry.db"
    write_state(path, RegistryState("a", 7, 3))
    assert read_state(path) == RegistryState("a", 7, 3)
    beside(path, ".state").write_text(f'{{"state":{{"hub":"a","event":7}},"checksum":{row_checksum(("a", 7))}}}')
    assert read_state(path) == RegistryState("a", 7)


async def test_a_lost_write_of_a_page_with_tokens_is_reported(tmp_path: Path) -> None:
    """The page is the one from before a revocation, with correct checksums: the token is valid again."""
    path = tmp_path / "registry.db"
    with open_token_file(path) as tokens:
        revoked = tokens.create_token(Role.ADMIN).token.id
        tokens.create_token(Role.VIEWER)
    root, before = tokens_page(path)
    with open_token_file(path) as tokens:
        tokens.revoke([revoked])
    async with Registry(path) as registry:
        assert registry.problem is None
    content = bytearray(path.read_bytes())
    content[(root - 1) * 4096 : root * 4096] = before
    path.write_bytes(content)
    async with Registry(path) as registry:
        assert "A token that was revoked may be valid again" in (registry.problem or "")
        assert revoked in [token.id for token in registry.tokens()]
        (event,) = [event for event in await registry.events(of_hub=True) if event.kind == "registry lost or restored"]
        assert event.detail == registry.problem


def tokens_page(path: Path) -> tuple[int, bytes]:
    """Return the number and the content of the first page of the tokens."""
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("SELECT 1 FROM facts").fetchall()
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tokens'").get
    return root, path.read_bytes()[(root - 1) * 4096 : root * 4096]
