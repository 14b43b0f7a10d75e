"""Keys of requests that are stored: a client that sends a request again gets its first result, and nothing is stored.

The newest MAX_KEYS are in the journal. A key becomes durable in the transaction that stores its request, so that a
retry is recognised after a crash, too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

import msgspec
from msgspec import Struct

from hub.model.identity import Identity
from wire.plain import RefusedReading

MAX_KEYS = 10_000
"""Keys that are remembered, of all clients: at one request a second the last three hours. Each takes 0.5 kB in memory
and as much in the journal, 3 kB at most. A new key takes the place of the oldest."""

MAX_KEPT_REFUSALS = 3
"""Refused values that the result of a retry lists; their number is complete."""

MAX_KEY = 256
"""Characters of a key. A UUID has 36."""

PREFIX = "request:"
"""Beginning of the facts of the journal that contain keys. Each key has one of MAX_KEYS places."""


class KeyReused(Exception):
    """A key that another request had: nothing is stored."""

    def __init__(self) -> None:
        super().__init__(
            "this Idempotency-Key belongs to a request with another content, which is stored; nothing of this one is. "
            "Use a new key for each request, and the same one only to send it again"
        )


class KeyedRequest(NamedTuple):
    """Digests of a key with its sender, and of the content of the request."""

    key: str
    content: str

    @classmethod
    def of(cls, identity: Identity, key: str, *content: bytes) -> KeyedRequest:
        """Return the digests of a request. The same key of another token is another one."""
        digest = sha256()
        for part in content:
            digest.update(len(part).to_bytes(8, "big") + part)
        return cls(sha256(f"{identity.token_id}\n{key}".encode()).hexdigest()[:32], digest.hexdigest()[:32])

    def check(self, content: str) -> None:
        """Raise KeyReused if the request with this key had another content."""
        if content != self.content:
            raise KeyReused


class StoredRequest(Struct, frozen=True, array_like=True):
    """A stored request: its number among all with a key, its digests, and its result."""

    number: int
    key: str
    content: str
    readings: int
    refused_count: int = 0
    refused: tuple[RefusedReading, ...] = ()

    @property
    def place(self) -> str:
        """The name of the fact in the journal that contains it."""
        return f"{PREFIX}{self.number % MAX_KEYS}"


class RequestKeys:
    """The newest stored requests that have a key."""

    def __init__(self, facts: Iterable[tuple[str, object]] = ()) -> None:
        """Start with the facts of the journal. One that cannot be read is left out."""
        found = []
        for name, text in facts:
            if name.startswith(PREFIX) and isinstance(text, str):
                try:
                    found.append(msgspec.json.decode(text, type=StoredRequest))
                except msgspec.DecodeError:
                    continue
        found.sort(key=lambda stored: stored.number)
        self._next = found[-1].number + 1 if found else 0
        self._stored: OrderedDict[str, StoredRequest] = OrderedDict()
        for stored in found:
            self.confirm(stored)

    def find(self, request: KeyedRequest) -> StoredRequest | None:
        """Return the stored request with this key; None if there is none."""
        return self._stored.get(request.key)

    def add(
        self, request: KeyedRequest, readings: int, refused_count: int, refused: Iterable[RefusedReading]
    ) -> tuple[StoredRequest, str]:
        """Return a request that is being stored, and the text of its fact. `confirm` makes it known."""
        kept = tuple(refused)[:MAX_KEPT_REFUSALS]
        stored = StoredRequest(self._next, *request, readings, refused_count, kept)
        self._next += 1
        return stored, msgspec.json.encode(stored).decode()

    def confirm(self, stored: StoredRequest) -> None:
        """Record that a request is durable; forget the oldest beyond MAX_KEYS."""
        self._stored[stored.key] = stored
        if len(self._stored) > MAX_KEYS:
            self._stored.popitem(last=False)
