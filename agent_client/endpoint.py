"""Address of a hub and the credentials for it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from agent_client.tls import ClientTls, system_tls
from wire.codec import Format
from wire.device import (
    PROTOCOL_JSON,
    PROTOCOL_JSON_1_1,
    PROTOCOL_JSON_1_2,
    PROTOCOL_JSON_1_3,
    PROTOCOL_JSON_1_4,
    PROTOCOL_MSGPACK,
    PROTOCOL_MSGPACK_1_1,
    PROTOCOL_MSGPACK_1_2,
    PROTOCOL_MSGPACK_1_3,
    PROTOCOL_MSGPACK_1_4,
)

DEVICE_PATH = "/v1/device"

SUBPROTOCOLS: dict[Format, tuple[str, ...]] = {
    "json": (PROTOCOL_JSON_1_4, PROTOCOL_JSON_1_3, PROTOCOL_JSON_1_2, PROTOCOL_JSON_1_1, PROTOCOL_JSON),
    "msgpack": (
        PROTOCOL_MSGPACK_1_4,
        PROTOCOL_MSGPACK_1_3,
        PROTOCOL_MSGPACK_1_2,
        PROTOCOL_MSGPACK_1_1,
        PROTOCOL_MSGPACK,
    ),
}
"""Offered subprotocols, the newest first. An older hub chooses the one that it knows."""

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


MAX_TOKEN_BYTES = 4096
"""Bound of a file with a token; a larger file is the wrong one."""


class TokenFileError(ValueError):
    """A file of a token cannot be used. The message names the file and the problem."""


class AddressError(ValueError):
    """The address is not the address of a hub; the message shows a valid one."""


class TokenFile:
    """A file that contains a token, read again for each connection: a corrected token needs no restart.

    While the file cannot be read, the last token stays in use. A file that `may_be_missing` contains none until a
    request for access has stored one.
    """

    def __init__(self, path: Path, *, may_be_missing: bool = False) -> None:
        """Read the file. Raises TokenFileError."""
        self.path = path
        self._token = None if may_be_missing and not path.exists() else self._read()

    def keep(self, token: str) -> None:
        """Use this token, which could not be stored in the file."""
        self._token = token

    @property
    def token(self) -> str | None:
        """The token for the next connection; None while the file is missing."""
        with suppress(TokenFileError):
            self._token = self._read()
        return self._token

    @property
    def permission_problem(self) -> str | None:
        """A sentence if other users of this computer can read or replace the token; None if they cannot."""
        try:
            mode = self.path.stat().st_mode
        except OSError:
            return None
        if os.name != "posix" or not mode & 0o007:
            return None
        return f"every user of this computer can read or change {self.path}: run chmod 600 {self.path}"

    def _read(self) -> str:
        try:
            with self.path.open("rb") as file:
                content = file.read(MAX_TOKEN_BYTES + 1)
            token = content.decode().strip()
        except OSError as error:
            raise TokenFileError(f"{self.path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise TokenFileError(f"{self.path} is not a text file") from None
        if not token or len(content) > MAX_TOKEN_BYTES or not token.isprintable() or " " in token:
            raise TokenFileError(f"{self.path} {'is empty' if not token else 'contains more than a token'}")
        return token


class Endpoint(NamedTuple):
    """Device endpoint of one hub. `url` is complete, see `device_url`; `proxy` is the URL of a proxy.

    `tls` is for wss://; None trusts the authorities of the system. With `compression`, permessage-deflate is offered.
    """

    url: str
    token: str | TokenFile | None = None
    format: Format = "msgpack"
    proxy: str | None = None
    tls: ClientTls | None = None
    compression: bool = False

    @property
    def client_tls(self) -> ClientTls | None:
        """The settings of TLS; None for a connection without it."""
        return (self.tls or system_tls()) if self.url.startswith("wss:") else None

    @property
    def files(self) -> tuple[object, ...]:
        """The current content of the files of credentials, to compare; empty if there is no such file."""
        token = (self.token.token,) if isinstance(self.token, TokenFile) else ()
        return token if self.tls is None else (*token, self.tls.context)

    @property
    def current_token(self) -> str | None:
        """The token for the next connection; None without one."""
        return self.token.token if isinstance(self.token, TokenFile) else self.token

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that prove the identity. The token is never a part of the URL, because URLs end up in logs."""
        token = self.current_token
        return {} if token is None else {"Authorization": f"Bearer {token}"}


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
