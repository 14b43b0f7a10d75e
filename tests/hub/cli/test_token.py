"""`hub token`: its output and its exit codes."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer import BadParameter
from typer.testing import CliRunner, Result

from hub.cli import token
from hub.config.address import RunningHub, published_address
from hub.model.identity import Role
from hub.registry.database import FILE_NAME
from hub.registry.registry import Registry

YEAR_S = 366 * 86_400


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(token.app, arguments)


def made(*arguments: str) -> str:
    result = run("create", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def listed() -> list[dict[str, object]]:
    result = run("list", "--json")
    assert result.exit_code == 0, result.output
    tokens: list[dict[str, object]] = json.loads(result.stdout)
    return tokens


def test_only_the_token_is_on_stdout(data: Path) -> None:
    """`TOKEN=$(hub token create …)` works; other output goes to stderr, without the secret."""
    result = run("create", "--role", "device", "--device", "boiler-1")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    text = result.stdout.strip()
    assert text.startswith("hub_device_")
    assert "boiler-1" in result.stderr
    assert text.rpartition("_")[2] not in result.stderr


def test_the_first_token_of_a_data_directory_says_for_which_hub_it_is(data: Path) -> None:
    """Someone in the wrong folder would otherwise get a token that no running hub knows."""
    first, second = (run("create", "--role", "viewer") for _ in range(2))
    assert f"no hub has used {data} yet" in first.stderr
    assert "no hub has used" not in second.stderr


async def test_a_created_token_is_valid(data: Path) -> None:
    """Each role has its device or pattern, as the hub verifies it."""
    device = made("--role", "device", "--device", "boiler-1")
    gateway = made("--role", "gateway", "--devices", "plant-*")
    viewer = made("--role", "viewer", "--label", "wall", "--expires-in", "30d")
    async with Registry(data / FILE_NAME) as registry:
        identities = [registry.verify(text) for text in (device, gateway, viewer)]
    assert [(found.role, found.pattern) for found in identities if found is not None] == [
        (Role.DEVICE, "boiler-1"),
        (Role.GATEWAY, "plant-*"),
        (Role.VIEWER, ""),
    ]


async def test_a_running_hub_applies_a_revocation(data: Path) -> None:
    """The command runs in its own process, and the hub reports which connections end."""
    text = made("--role", "viewer")
    async with Registry(data / FILE_NAME) as registry:
        identity = registry.verify(text)
        assert identity is not None
        ended: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        running = asyncio.create_task(registry.run(ended.put_nowait, tuple))
        arguments = ["-c", "from hub.cli.token import app; app()", "revoke", identity.token_id]
        command = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        assert await ended.get() == {identity.token_id}
        assert (await command.communicate())[0].decode() == f"revoked {identity.token_id}\n"
        assert command.returncode == 0
        assert registry.verify(text) is None
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


def test_a_list_contains_everything_but_the_secrets(data: Path) -> None:
    """As JSON and as a table: labels are shown unchanged, and ids are never shortened."""
    secrets = [
        made("--role", "gateway", "--devices", "plant-*", "--label", "the [red] one", "--expires-in", "12h"),
        made("--role", "admin"),
    ]
    gateway, admin = listed()
    assert (gateway["role"], gateway["devices"], gateway["label"]) == ("gateway", "plant-*", "the [red] one")
    assert (admin["devices"], admin["expires"], admin["last_used"], admin["expired"]) == (None, None, None, False)
    assert str(gateway["expires"]) > str(gateway["created"])
    table = run("list")
    assert table.exit_code == 0
    for text in (str(gateway["id"]), str(admin["id"]), "the [red] one", "plant-*", "never"):
        assert text in table.stdout
    for secret in secrets:
        assert secret.rpartition("_")[2] not in table.stdout + json.dumps([gateway, admin])


def test_an_empty_list_says_what_to_do(data: Path) -> None:
    """The hint goes to stderr, so a program reads an empty list."""
    made("--role", "viewer")
    assert run("revoke", str(listed()[0]["id"])).exit_code == 0
    assert listed() == []
    table = run("list")
    assert (table.stdout, table.exit_code) == ("", 0)
    assert "hub token create" in table.stderr


def test_revoking_an_unknown_id_fails_and_revokes_the_others(data: Path) -> None:
    """Exit code 1 with the unknown ids."""
    made("--role", "viewer")
    id = str(listed()[0]["id"])
    result = run("revoke", "nobody", id, id)
    assert result.exit_code == 1
    assert result.stdout == f"revoked {id}\n"
    assert "no token nobody" in result.stderr
    assert listed() == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--role", "device"], "--device ID"),
        (["--role", "device", "--devices", "a*"], "--device ID"),
        (["--role", "device", "--device", "a", "--devices", "a*"], "--device ID"),
        (["--role", "device", "--device", "a*"], "device id"),
        (["--role", "gateway"], "--devices PATTERN"),
        (["--role", "gateway", "--device", "a"], "--devices PATTERN"),
        (["--role", "gateway", "--devices", "a b"], "pattern"),
        (["--role", "admin", "--device", "a"], "neither"),
        (["--role", "viewer", "--devices", "*"], "neither"),
        (["--role", "king"], "'admin'"),
        (["--role", "viewer", "--expires-in", "soon"], "30d"),
        (["--role", "viewer", "--label", "a\x1b[1m"], "printable"),
        ([], "--role"),
    ],
)
def test_misuse_exits_with_2(data: Path, arguments: list[str], says: str) -> None:
    """No token is created, stdout stays empty, and stderr says what is missing."""
    result = run("create", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert not (data / FILE_NAME).exists() or listed() == []


@pytest.mark.parametrize(
    ("arguments", "listen", "public", "base"),
    [
        ([], "127.0.0.1:8600", "", "http://127.0.0.1:8600"),
        ([], "0.0.0.0:80", "", "http://localhost:80"),
        ([], "[::1]:8600", "", "http://[::1]:8600"),
        ([], "127.0.0.1:8600", "https://hub.example/telemetry/", "https://hub.example/telemetry"),
        (["--hub", "https://hub.example/"], "127.0.0.1:8600", "https://example.org/x", "https://hub.example"),
    ],
)
async def test_a_url_signs_one_browser_in(
    data: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], listen: str, public: str, base: str
) -> None:
    """The URL is alone on stdout, with the address of the hub, its public URL or the given one; its code works once."""
    monkeypatch.setenv("HUB_LISTEN", listen)
    monkeypatch.setenv("HUB_PUBLIC_URL", public)
    made("--role", "admin")
    result = run("url", *arguments)
    assert result.exit_code == 0
    before, separator, code = result.stdout.strip().partition("/open/")
    assert (before, separator) == (base, "/open/")
    async with Registry(data / FILE_NAME) as registry:
        login = await registry.redeem(code)
        assert login is not None
        identity = registry.verify_session(login.value)
        assert identity is not None
        assert identity.role is Role.ADMIN
        assert await registry.redeem(code) is None


@pytest.mark.parametrize(
    ("running", "arguments", "base"),
    [
        (RunningHub("http://127.0.0.1:41234"), [], "http://127.0.0.1:41234"),
        (RunningHub("http://127.0.0.1:41234", "https://hub.example/plant"), [], "https://hub.example/plant"),
        (RunningHub("http://127.0.0.1:41234"), ["--hub", "https://other.example"], "https://other.example"),
    ],
)
def test_a_url_has_the_address_of_the_running_hub(
    data: Path, monkeypatch: pytest.MonkeyPatch, running: RunningHub, arguments: list[str], base: str
) -> None:
    """It precedes the settings, and the option precedes both. Nothing is on stderr."""
    monkeypatch.setenv("HUB_LISTEN", "127.0.0.1:8600")
    made("--role", "admin")
    with published_address(data, running):
        result = run("url", *arguments)
    assert result.stdout.startswith(f"{base}/open/")
    assert result.stderr == ""


def test_a_url_without_a_running_hub_says_so(data: Path) -> None:
    """The URL is on stdout all the same: it works when the hub is started within 15 minutes."""
    made("--role", "admin")
    result = run("url")
    assert result.exit_code == 0
    assert result.stdout.startswith("http://127.0.0.1:8600/open/")
    assert f"no hub runs on the data in {data}" in result.stderr


def test_a_url_needs_a_token(data: Path) -> None:
    """Without an admin, or with an unknown id, the error says what is missing."""
    made("--role", "viewer")
    assert "no admin token" in run("url").stderr
    result = run("url", "--token", "nobody")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no token nobody" in result.stderr


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["revoke", "x"], ["url"]])
def test_only_create_makes_a_data_directory(data: Path, arguments: list[str]) -> None:
    """A wrong directory is reported with exit code 1 and not created."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--data" in result.stderr
    assert not data.exists()


def test_the_option_wins_over_the_environment(data: Path, tmp_path: Path) -> None:
    """--data precedes HUB_DATA."""
    made("--role", "viewer", "--data", str(tmp_path / "other"))
    assert (tmp_path / "other" / FILE_NAME).exists()
    assert not data.exists()


def test_a_directory_that_cannot_be_created_is_reported(data: Path) -> None:
    """Exit code 1 with the path and without a traceback."""
    data.write_text("a file, not a directory")
    result = run("create", "--role", "viewer")
    assert (result.exit_code, result.stdout) == (1, "")
    assert str(data) in result.stderr


@pytest.mark.parametrize("command", [[], ["create"], ["list"], ["revoke"], ["url"]])
def test_help_teaches(command: list[str]) -> None:
    """Each command describes itself; commands with arguments show an example."""
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "oken" in result.stdout
    if command and command != ["list"]:
        assert f"hub token {command[0]}" in result.stdout.partition("Example")[2]


@given(st.integers(1, 10**6), st.sampled_from("smhdw"))
def test_a_duration_is_a_number_and_a_unit(number: int, unit: str) -> None:
    """The maximum is a hundred years; without a duration a token does not expire."""
    seconds = number * {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}[unit]
    if seconds <= 100 * YEAR_S:
        assert token.duration_ns(f"{number}{unit}") == seconds * 10**9
    else:
        with pytest.raises(BadParameter):
            token.duration_ns(f"{number}{unit}")


@pytest.mark.parametrize("text", ["", "0d", "-1d", "d", "1", "1.5h", "1 h", "1y", "１d", "1d1h", "99999999999s"])
def test_an_invalid_duration_is_rejected(text: str) -> None:
    """The message contains an example."""
    with pytest.raises(BadParameter, match="for example 12h"):
        token.duration_ns(text)


async def test_a_rotated_token_is_valid_during_the_overlap(data: Path) -> None:
    """The new one has the same rights and label; the list shows until when the old one is valid. A running hub applies
    it. An unknown or expired token cannot be rotated."""
    old = made("--role", "device", "--device", "boiler-1", "--label", "hall")
    (before,) = listed()
    async with Registry(data / FILE_NAME) as registry:
        result = await asyncio.to_thread(run, "rotate", str(before["id"]), "--overlap", "1h")
        assert result.exit_code == 0, result.output
        await registry.refresh()
        new = result.stdout.strip()
        identities = [registry.verify(text) for text in (old, new)]
        assert [identity and identity.pattern for identity in identities] == ["boiler-1", "boiler-1"]
    assert "which is valid until" in result.stderr
    shown_old, shown_new = listed()
    assert (shown_old["expired"], shown_new["expires"]) == (False, None)
    assert shown_old["expires"] is not None
    assert [shown_new[key] for key in ("role", "devices", "label")] == ["device", "boiler-1", "hall"]
    assert run("rotate", "nothing").exit_code == 2
