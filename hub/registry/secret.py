"""Secrets: how tokens, login codes and page sessions look, and the digests that are kept of them.

They are random, never chosen by people, so a plain SHA-256 is enough: with 160 bits there is nothing to guess, and a
slow hash would only cost time at each connection.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import NamedTuple

from hub.model.identity import Role
from wire.limits import MAX_TOKEN

PREFIX = "hub"
"""So that a token that got into a repository or a log is found by the scanners which look for such prefixes."""

ID_BYTES = 10
SECRET_BYTES = 20
"""160 random bits, 32 characters of base32: no sign in it that ends a word, so that a double click selects it all."""


class Secret(NamedTuple):
    """A new secret: `text` is given away once, `digest` is kept. `id` names a token in lists; it opens nothing."""

    id: str
    text: str
    digest: bytes


def new_token(role: Role) -> Secret:
    """A token: `hub_<role>_<id>_<secret>`."""
    token_id = _random_text(ID_BYTES)
    text = f"{PREFIX}_{role.value}_{token_id}_{_random_text(SECRET_BYTES)}"
    return Secret(token_id, text, digest(text))


def new_code() -> Secret:
    """A login code or the value of a session's cookie."""
    text = _random_text(SECRET_BYTES)
    return Secret("", text, digest(text))


def token_id(text: str) -> str | None:
    """The id in what claims to be a token; None when it does not even look like one. Not a proof of anything."""
    if len(text) > MAX_TOKEN:
        return None
    parts = text.split("_")
    if len(parts) != 4 or parts[0] != PREFIX:
        return None
    return parts[2]


def digest(text: str) -> bytes:
    """The SHA-256 of a secret; of any text at all, since what comes over the network is any text at all."""
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _random_text(size: int) -> str:
    return base64.b32encode(secrets.token_bytes(size)).decode().lower()
