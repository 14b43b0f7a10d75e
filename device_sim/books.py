"""The hub's own books: what it says that it accepted and stored of a fleet, from GET /api/v1/flow."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit, urlunsplit

import msgspec

from agent_client.endpoint import DEVICE_PATH
from device_sim.report import HubBooks

FLOW_PATH = "/api/v1/flow"
ANSWER_SECONDS = 10.0
SETTLE_SECONDS = 15.0
"""How long the store may take after the last acknowledgement; then the report says what is missing."""
POLL_SECONDS = 0.1

_SCHEMES = {"ws": "http", "wss": "https"}


class BooksError(Exception):
    """The hub's books cannot be read; the message says why."""


class DeviceBooks(msgspec.Struct, frozen=True):
    """What the hub has counted of one device since ever; `accepted` and `stored` are readings.

    `stored` is None while the hub cannot ask its store.
    """

    device: str
    accepted: int = 0
    stored: int | None = 0
    duplicate_batches: int = 0
    quarantined_batches: int = 0
    lost_batches: int = 0


class _Flow(msgspec.Struct, frozen=True):
    devices: list[DeviceBooks]


Books = Mapping[str, DeviceBooks]


def flow_url(hub_url: str) -> str:
    """Where the books of the hub at this address are; the address may be that of its device endpoint."""
    parts = urlsplit(hub_url)
    path = parts.path.rstrip("/").removesuffix(DEVICE_PATH) + FLOW_PATH
    return urlunsplit((_SCHEMES.get(parts.scheme, parts.scheme), parts.netloc, path, "", ""))


async def read_books(hub_url: str, token: str, devices: Collection[str]) -> Books:
    """The books of these devices; one that the hub does not know has none. Raises BooksError."""
    request = urllib.request.Request(flow_url(hub_url), headers={"Authorization": f"Bearer {token}"})

    def fetch() -> bytes:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            body: bytes = answer.read()
            return body

    try:
        flow = msgspec.json.decode(await asyncio.to_thread(fetch), type=_Flow)
    except (OSError, msgspec.DecodeError) as error:
        reason = error.reason if isinstance(error, urllib.error.HTTPError) else error
        raise BooksError(f"the hub's books could not be read: {reason}") from error
    wanted = set(devices)
    found = {books.device: books for books in flow.devices if books.device in wanted}
    if any(books.stored is None for books in found.values()):
        raise BooksError("the hub's store is not available just now")
    return found


def difference(before: Books, after: Books) -> HubBooks:
    """What the hub counted of the devices in between."""
    changes = []
    for device, now in after.items():
        was = before.get(device, DeviceBooks(device))
        accepted, stored = now.accepted - was.accepted, (now.stored or 0) - (was.stored or 0)
        changes.append(
            HubBooks(
                accepted=accepted,
                stored=stored,
                duplicated=max(0, stored - accepted),
                repeated_batches=now.duplicate_batches - was.duplicate_batches,
                quarantined_batches=now.quarantined_batches - was.quarantined_batches,
                lost_batches=now.lost_batches - was.lost_batches,
            )
        )
    columns = zip(*map(msgspec.structs.astuple, changes), strict=True) if changes else [()] * 6
    return HubBooks(*(sum(column) for column in columns))


async def settled_books(hub_url: str, token: str, before: Books, devices: Collection[str], acked: int) -> HubBooks:
    """The books once the store has caught up with `acked` readings, or as they are after SETTLE_SECONDS.

    Raises BooksError.
    """
    deadline_s = time.monotonic() + SETTLE_SECONDS
    while True:
        books = difference(before, await read_books(hub_url, token, devices))
        if books.stored >= max(books.accepted, acked) or time.monotonic() > deadline_s:
            return books
        await asyncio.sleep(POLL_SECONDS)
