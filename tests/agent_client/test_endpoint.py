"""A hub's address."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_client.endpoint import MAX_TOKEN_BYTES, AddressError, Endpoint, TokenFile, TokenFileError, device_url


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("ws://127.0.0.1:8600", "ws://127.0.0.1:8600/v1/device"),
        ("http://127.0.0.1:8600/", "ws://127.0.0.1:8600/v1/device"),
        ("https://hub.example", "wss://hub.example/v1/device"),
        (" wss://hub.example ", "wss://hub.example/v1/device"),
        ("https://hub.example/telemetry/", "wss://hub.example/telemetry/v1/device"),
        ("ws://hub.example/v1/device", "ws://hub.example/v1/device"),
        ("http://[::1]:8600", "ws://[::1]:8600/v1/device"),
    ],
)
def test_the_address_a_person_knows_is_enough(base: str, url: str) -> None:
    """http and ws mean the same, and the path of the endpoint is added once."""
    assert device_url(base) == url


@pytest.mark.parametrize(
    "base", ["", "hub.example", "ftp://hub.example", "ws://", "ws://me:secret@hub.example", "ws://hub.example?token=x"]
)
def test_an_invalid_address_is_rejected(base: str) -> None:
    """Anything that is not a hub's address is an error, credentials in it too."""
    with pytest.raises(AddressError):
        device_url(base)


def test_the_token_is_a_header() -> None:
    """The token travels as a bearer token, and is not there when there is none."""
    assert Endpoint("ws://hub.example/v1/device", "abc").headers == {"Authorization": "Bearer abc"}
    assert Endpoint("ws://hub.example/v1/device").headers == {}


def test_a_token_file_is_read_for_each_connection(tmp_path: Path) -> None:
    """While it cannot be read, the last token stays in use."""
    file = tmp_path / "token"
    file.write_text(" abc\n")
    endpoint = Endpoint("ws://hub.example/v1/device", TokenFile(file))
    assert endpoint.headers == {"Authorization": "Bearer abc"}
    before = endpoint.files
    file.write_text("def")
    assert (endpoint.headers, endpoint.files != before) == ({"Authorization": "Bearer def"}, True)
    file.unlink()
    assert endpoint.headers == {"Authorization": "Bearer def"}
    assert Endpoint("ws://hub.example/v1/device", "abc").files == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\xff", "is not a text file"),
        (b"two words", "contains more than a token"),
        (b"a\nb", "contains more than a token"),
        (b"x" * (MAX_TOKEN_BYTES + 1), "contains more than a token"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_token_says_why(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """The message names the file."""
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(TokenFileError, match=problem):
        TokenFile(tmp_path / "token")


@pytest.mark.parametrize(("mode", "is_problem"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_a_token_that_every_user_can_read_is_a_problem(tmp_path: Path, mode: int, is_problem: bool) -> None:
    """A group may read it, because a service often has a group of its own."""
    file = tmp_path / "token"
    file.write_text("abc")
    file.chmod(mode)
    assert (TokenFile(file).permission_problem is not None) == is_problem
