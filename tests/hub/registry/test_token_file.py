"""The way in for commands: the same tokens, the same rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.model.identity import Role
from hub.registry import Registry, RegistryError, open_token_file
from wire.errors import Code


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


async def test_a_token_made_before_the_first_start_lets_in(path: Path) -> None:
    """`hub token create` on an empty directory, then `hub run`."""
    with open_token_file(path) as file:
        new = file.create_token(Role.DEVICE, pattern="boiler")
    async with Registry(path) as registry:
        assert registry.verify(new.text) == (new.token.id, Role.DEVICE, "boiler")


async def test_the_command_sees_what_the_hub_made(path: Path) -> None:
    """Both list the same tokens, also while the hub has the file open."""
    async with Registry(path) as registry:
        new = await registry.create_token(Role.VIEWER, label="wall")
        with open_token_file(path) as file:
            assert file.tokens() == [new.token]
            assert file.revoke([new.token.id, "unknown"]) == [new.token.id]


def test_a_refused_token_leaves_nothing(path: Path) -> None:
    """BAD_MESSAGE, and the list is as before."""
    with open_token_file(path) as file:
        with pytest.raises(RegistryError) as caught:
            file.create_token(Role.DEVICE, pattern="*")
        assert caught.value.code is Code.BAD_MESSAGE
        assert file.tokens() == []


async def test_a_command_signs_a_browser_in(path: Path) -> None:
    """With the rights of the token that was named, else of the first admin; never with those of nobody."""
    with open_token_file(path) as file:
        viewer = file.create_token(Role.VIEWER).token.id
        with pytest.raises(RegistryError, match="no admin token"):
            file.create_login_code()
        async with Registry(path) as registry:
            admin = file.create_token(Role.ADMIN).token.id
            logins = [await registry.redeem(file.create_login_code(named)) for named in (None, viewer)]
            identities = [registry.verify_session(login.value) for login in logins if login is not None]
    assert [identity.token_id for identity in identities if identity is not None] == [admin, viewer]


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    """STORAGE_FAILED with the path."""
    with pytest.raises(RegistryError, match="nowhere"), open_token_file(tmp_path / "nowhere" / "registry.db"):
        pass
