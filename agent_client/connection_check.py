"""The question to a hub whether it accepts a token for a device. No connection of a device is opened for it."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from agent_client.endpoint import DEVICE_PATH, Endpoint
from agent_client.hub_request import post_json

CHECK_PATH = "/api/v1/connection-check"


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
    answer = post_json(endpoint, CHECK_PATH, {"path": DEVICE_PATH, "device": device})
    if answer is None or answer.status != HTTPStatus.OK:
        return None
    try:
        return msgspec.json.decode(answer.body, type=HubAnswer)
    except msgspec.DecodeError:
        return None
