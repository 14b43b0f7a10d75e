"""A hub's address."""

from __future__ import annotations

import pytest

from agent_client.endpoint import AddressError, Endpoint, device_url


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
