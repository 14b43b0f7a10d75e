"""Where a hub takes batches."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from importer.errors import MappingError

DEVICE_PATH = "/v1/device"

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def device_url(base: str) -> str:
    """The WebSocket URL of the device endpoint of a hub that a person knows by this URL. Raises MappingError."""
    parts = urlsplit(base.strip())
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise MappingError(f"{base!r} is not the URL of a hub; one looks like http://127.0.0.1:8600")
    if parts.username is not None or parts.query or parts.fragment:
        raise MappingError("a hub's URL has no user, query or fragment; give the token by itself")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + DEVICE_PATH, "", ""))
