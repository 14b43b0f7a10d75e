"""The request of an agent for a token: what it asks the hub, and where the token is stored.

It is the device authorization grant (RFC 8628) in the form of the hub's API: docs/api.md, "Access requests".
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec

from agent_client.endpoint import Endpoint
from agent_client.hub_request import post_json
from agent_client.refusal import hub_sentence

ASK_PATH = "/api/v1/access-requests"
POLL_PATH = "/api/v1/access-requests/poll"

MAX_INTERVAL_S = 60.0
"""Longest time between two polls, whatever the hub says: a person waits at the device."""

MAX_SHOWN = 300
"""Characters of an address that are shown."""

_Answer = TypeVar("_Answer")


class PendingAccess(msgspec.Struct, frozen=True):
    """A request that waits for an operator: the code to compare, and the page's address."""

    code: str
    secret: str
    page: str
    expires_in_s: float
    interval_s: float


class AccessState(msgspec.Struct, frozen=True):
    """The state of a request, with the token of one that was approved."""

    state: Literal["waiting", "slow_down", "approved", "refused", "expired"]
    interval_s: float = 5.0
    token: str | None = None


class NotAsked(NamedTuple):
    """Reason why the hub did not take a question. A `final` one does not change by asking again.

    `retry_s` is when the hub takes the next one; None if it did not say.
    """

    reason: str
    is_final: bool = False
    retry_s: float | None = None


def ask_access(endpoint: Endpoint, device: str, program: str) -> PendingAccess | NotAsked:
    """Ask for the token of a device. It blocks."""
    return _post(endpoint, ASK_PATH, {"device": device, "program": program}, PendingAccess)


def poll_access(endpoint: Endpoint, secret: str) -> AccessState | NotAsked:
    """Return the state of a request. It blocks."""
    return _post(endpoint, POLL_PATH, {"secret": secret}, AccessState)


def _post(endpoint: Endpoint, path: str, body: object, expected: type[_Answer]) -> _Answer | NotAsked:
    if endpoint.proxy is not None:
        return NotAsked("a request for access cannot pass the proxy", is_final=True)
    try:
        answer = post_json(endpoint, path, body)
    except OSError as error:
        return NotAsked(f"the hub does not answer: {error}")
    if answer is None:
        return NotAsked("the answer is not that of a hub")
    if answer.status in (HTTPStatus.OK, HTTPStatus.CREATED):
        try:
            return msgspec.json.decode(answer.body, type=expected)
        except msgspec.DecodeError:
            return NotAsked("the answer is not that of a hub")
    if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return NotAsked("this hub is older, and takes no requests for access", is_final=True)
    retry_s = None
    with suppress(ValueError):
        retry_s = float(answer.headers.get("retry-after", ""))
    return NotAsked(hub_sentence(answer) or f"the hub answered HTTP {answer.status}", retry_s=retry_s)


def save_token(path: Path, token: str) -> None:
    """Store a token in a file that only its user can read, complete or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # created with 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{token}\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def can_save(path: Path) -> bool:
    """Return whether a token can be stored at this path: a token that was received and lost needs another decision."""
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
