"""Reading the settings: addresses, secrets in files, and values that only fail together.

tests/docs/test_configuration.py has one wrong value of each setting, and the precedence of the sources.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from hub.config.settings import MAX_SECRET_BYTES, SettingsError, browser_url, load_settings

STORE = "[store]\nurl = 'http://influxdb'\nbucket = 'b'\norg = 'o'\n"
BROKER = "[[mqtt]]\nname = '{name}'\nurl = '{url}'\nclient_id = '{client}'\npresets = ['tasmota']\n"


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:8600", ("127.0.0.1", 8600)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        (":80", ("0.0.0.0", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(listen: str, address: tuple[str, int]) -> None:
    """An address of IPv6 is in brackets; without a host it is every address."""
    assert load_settings(None, {"listen": listen}).address == address


@pytest.mark.parametrize("listen", ["8600", "host", "host:", "host:65536", "host:-1", "host:1e3"])
def test_an_address_without_a_port_is_rejected(listen: str) -> None:
    """When the settings are read, and not when the hub starts to listen."""
    with pytest.raises(SettingsError, match="listen: expected HOST:PORT"):
        load_settings(None, {"listen": listen})


@pytest.mark.parametrize(
    ("host", "tls", "url"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:8600"),
        ("0.0.0.0", False, "http://localhost:8600"),
        ("::", True, "https://localhost:8600"),
        ("::1", False, "http://[::1]:8600"),
        ("hub.example", True, "https://hub.example:8600"),
    ],
)
def test_a_browser_on_this_machine_has_a_url_for_every_address(host: str, tls: bool, url: str) -> None:
    """No browser can open 0.0.0.0."""
    assert browser_url(host, 8600, tls=tls) == url


def test_settings_do_not_change() -> None:
    """Nor do their sections."""
    loaded = load_settings()
    with pytest.raises(ValidationError):
        loaded.name = "other"
    with pytest.raises(ValidationError):
        loaded.store.threads = 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Because it is not there, is no text, or is no TOML."""
    (tmp_path / "latin").write_bytes(b"name = '\xfc'")
    (tmp_path / "wrong").write_text("name = 'a'\nname = 'b'")
    for name, reason in (("gone", "No such file"), ("latin", "codec can't decode"), ("wrong", "overwrite")):
        with pytest.raises(SettingsError, match=f"{name}: .*{reason}"):
            load_settings(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"\xff", "is not a text file"), (b" \n", "is empty"), (b"x" * (MAX_SECRET_BYTES + 1), "is too large")],
)
def test_a_secret_is_a_short_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str) -> None:
    """Anything else is the wrong file; the error does not show its content."""
    (tmp_path / "secret").write_bytes(content)
    monkeypatch.setenv("INFLUXDB_TOKEN_FILE", str(tmp_path / "secret"))
    with pytest.raises(SettingsError, match=reason) as error:
        load_settings()
    assert "xxx" not in str(error.value)


def test_the_longest_secret_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the white space around it."""
    (tmp_path / "hub.toml").write_text(STORE)
    (tmp_path / "secret").write_text(f" {'x' * (MAX_SECRET_BYTES - 2)}\n")
    monkeypatch.setenv("INFLUXDB_TOKEN_FILE", str(tmp_path / "secret"))
    token = load_settings(tmp_path / "hub.toml").store.token
    assert token is not None
    assert token.get_secret_value() == "x" * (MAX_SECRET_BYTES - 2)


def test_equal_values_of_two_variables_are_no_contradiction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Compose file may pass both."""
    (tmp_path / "hub.toml").write_text(STORE)
    monkeypatch.setenv("INFLUXDB_ORG", "plant")
    monkeypatch.setenv("HUB_STORE__ORG", "plant")
    assert load_settings(tmp_path / "hub.toml").store.org == "plant"


def test_every_wrong_setting_is_reported_at_once() -> None:
    """A person corrects them in one go."""
    with pytest.raises(SettingsError) as error:
        load_settings(None, {"name": "", "journal": {"keep_bytes": -1}, "log": {"level": "loud"}})
    assert [part.partition(":")[0] for part in str(error.value).split("; ")] == [
        "name", "journal.keep_bytes", "log.level"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "is_valid"),
    [
        (("a", "mqtt://one", "x"), ("b", "mqtt://one", "x"), False),
        (("a", "mqtt://one", "x"), ("b", "mqtt://one:1883", "x"), False),
        (("a", "mqtt://one", "x"), ("b", "mqtt://two", "x"), True),
        (("a", "mqtt://one", ""), ("b", "mqtt://one", ""), True),
        (("a", "mqtt://one", "x"), ("b", "mqtt://one", "y"), True),
    ],
)
def test_two_bridges_do_not_share_a_client_id_at_one_broker(
    tmp_path: Path, first: tuple[str, str, str], second: tuple[str, str, str], is_valid: bool
) -> None:
    """The broker would disconnect the first whenever the second connects."""
    tables = [BROKER.format(name=name, url=url, client=client) for name, url, client in (first, second)]
    (tmp_path / "hub.toml").write_text("".join(tables))
    if is_valid:
        assert len(load_settings(tmp_path / "hub.toml").mqtt) == 2
    else:
        with pytest.raises(SettingsError, match="two bridges use the client_id 'x' at one"):
            load_settings(tmp_path / "hub.toml")
