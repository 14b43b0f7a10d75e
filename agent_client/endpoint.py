"""Address of a hub and the credentials for it."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from agent_client.tls import ClientTls, system_tls
from wire.codec import Format
from wire.device import (
    PROTOCOL_JSON,
    PROTOCOL_JSON_1_1,
    PROTOCOL_JSON_1_2,
    PROTOCOL_MSGPACK,
    PROTOCOL_MSGPACK_1_1,
    PROTOCOL_MSGPACK_1_2,
)

DEVICE_PATH = "/v1/device"

SUBPROTOCOLS: dict[Format, tuple[str, ...]] = {
    "json": (PROTOCOL_JSON_1_2, PROTOCOL_JSON_1_1, PROTOCOL_JSON),
    "msgpack": (PROTOCOL_MSGPACK_1_2, PROTOCOL_MSGPACK_1_1, PROTOCOL_MSGPACK),
}
"""Offered subprotocols, the newest first. An older hub chooses the one that it knows."""

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class AddressError(ValueError):
    """The address is not the address of a hub; the message shows a valid one."""


class Endpoint(NamedTuple):
    """Device endpoint of one hub. `url` is complete, see `device_url`; `proxy` is the URL of a proxy.

    `tls` is for wss://; None trusts the authorities of the system.
    """

    url: str
    token: str | None = None
    format: Format = "msgpack"
    proxy: str | None = None
    tls: ClientTls | None = None

    @property
    def client_tls(self) -> ClientTls | None:
        """The settings of TLS; None for a connection without it."""
        return (self.tls or system_tls()) if self.url.startswith("wss:") else None

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that prove the identity. The token is never a part of the URL, because URLs end up in logs."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}


def device_url(base: str) -> str:
    """Return the WebSocket URL of a hub's device endpoint.

    `base` is the address that people use: http(s):// or ws(s)://, with or without a path prefix. Raises AddressError
    for anything else, and for an address that contains credentials.
    """
    parts = urlsplit(base.strip())
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise AddressError(
            f"{base!r} is not the URL of a hub; use a URL like http://127.0.0.1:8600 or wss://hub.example"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise AddressError("the URL of a hub has no user, query or fragment; give the token separately")
    path = parts.path.rstrip("/")
    if not path.endswith(DEVICE_PATH):
        path += DEVICE_PATH
    return urlunsplit((scheme, parts.netloc, path, "", ""))
