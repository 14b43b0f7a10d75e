"""Where a hub is: its address and what an agent says to get in."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from device_agent.errors import AgentError
from wire.codec import Format
from wire.device import PROTOCOL_JSON, PROTOCOL_MSGPACK

DEVICE_PATH = "/v1/device"


def _agent_name() -> str:
    try:
        return f"telemetry-hub-agent/{version('telemetry-hub')}"
    except PackageNotFoundError:
        return "telemetry-hub-agent"


AGENT_NAME = _agent_name()
"""What the hello and the User-Agent header say."""

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}

SUBPROTOCOLS: dict[Format, str] = {"json": PROTOCOL_JSON, "msgpack": PROTOCOL_MSGPACK}


class Endpoint(NamedTuple):
    """One hub as one agent sees it. `url` is complete; `proxy` is a proxy's URL, None for none."""

    url: str
    token: str | None = None
    format: Format = "msgpack"
    proxy: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What proves the identity; never a part of the URL, which ends up in logs."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}


def device_url(base: str) -> str:
    """The WebSocket URL of a hub's device endpoint.

    `base` is what a person knows the hub by: http(s):// or ws(s)://, with or without a path it is mounted under. Raises
    AgentError for anything else, and for credentials in it.
    """
    parts = urlsplit(base.strip())
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise AgentError(f"{base!r} is not the URL of a hub; one looks like ws://127.0.0.1:8600 or https://hub.example")
    if parts.username is not None or parts.query or parts.fragment:
        raise AgentError("a hub's URL has no user, query or fragment; give the token by itself")
    path = parts.path.rstrip("/")
    if not path.endswith(DEVICE_PATH):
        path += DEVICE_PATH
    return urlunsplit((scheme, parts.netloc, path, "", ""))
