"""The question to a hub whether it accepts a token for a device. No connection of a device is opened for it."""

from __future__ import annotations

import http.client
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec

from agent_client.endpoint import DEVICE_PATH, Endpoint

CHECK_PATH = "/api/v1/connection-check"

TIMEOUT_SECONDS = 10.0
"""Longest time for each step of the request."""

MAX_ANSWER_BYTES = 64 * 1024
"""Bound of an answer, which has three short texts."""


class HubAnswer(msgspec.Struct, frozen=True):
    """Answer of the hub; `code` is `ok`, or the reason of a refusal."""

    code: str
    reason: str = ""
    remedy: str = ""

    @property
    def sentence(self) -> str:
        """The reason and the remedy, for people."""
        return "; ".join(filter(None, (f"{self.reason} ({self.code})", self.remedy)))


def ask_hub(endpoint: Endpoint, device: str) -> HubAnswer | None:
    """Return whether the hub would accept the device; None if it cannot be asked: it is older, or behind a proxy.

    It blocks. Raises OSError for a hub that does not answer.
    """
    if endpoint.proxy is not None:
        return None
    parts = urlsplit(endpoint.url)
    path = parts.path.removesuffix(DEVICE_PATH) + CHECK_PATH
    tls, host = endpoint.client_tls, parts.hostname or ""
    connection = (
        http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_SECONDS)
        if tls is None
        else http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT_SECONDS, context=tls.context)
    )
    body = msgspec.json.encode({"path": DEVICE_PATH, "device": device})
    try:
        connection.request("POST", path, body, {**endpoint.headers, "Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != HTTPStatus.OK:
            return None
        return msgspec.json.decode(answer.read(MAX_ANSWER_BYTES), type=HubAnswer)
    except (http.client.HTTPException, msgspec.DecodeError):
        return None
    finally:
        connection.close()
