"""The hub's counts of accepted and stored readings of a fleet, from GET /api/v1/flow."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Container, Mapping
from urllib.parse import urlsplit, urlunsplit

import msgspec

from agent_client.endpoint import DEVICE_PATH
from agent_client.tls import ClientTls, describe_tls_failure, system_tls
from device_sim.report import HubCounts

FLOW_PATH = "/api/v1/flow"
ANSWER_SECONDS = 10.0
SETTLE_SECONDS = 15.0
"""Longest wait for the store after the last acknowledgement; then the report shows what is missing."""
POLL_SECONDS = 0.1


class HubCountsError(Exception):
    """The hub's counts cannot be read; the message has the reason."""


class HubDeviceCounts(msgspec.Struct, frozen=True):
    """All-time counts of one device, in readings and batches. `stored` is None while the store is unavailable."""

    device: str
    accepted: int = 0
    stored: int | None = 0
    duplicate_batches: int = 0
    quarantined_batches: int = 0
    lost_batches: int = 0
    quarantined: int = 0


class _Flow(msgspec.Struct, frozen=True):
    devices: list[HubDeviceCounts]


CountsByDevice = Mapping[str, HubDeviceCounts]


def flow_url(hub_url: str) -> str:
    """Return the URL of the counts for the address of a hub or of its device endpoint."""
    parts = urlsplit(hub_url)
    path = parts.path.rstrip("/").removesuffix(DEVICE_PATH) + FLOW_PATH
    # ws becomes http, and wss https; http and https stay.
    return urlunsplit((parts.scheme.replace("ws", "http"), parts.netloc, path, "", ""))


async def read_hub_counts(
    hub_url: str, token: str, devices: Container[str], tls: ClientTls | None = None
) -> CountsByDevice:
    """Return the counts of the devices that the hub knows. Raises HubCountsError."""
    url = flow_url(hub_url)
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})

    def fetch() -> _Flow:
        context = (tls or system_tls()).context if url.startswith("https:") else None
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS, context=context) as answer:
            return msgspec.json.decode(answer.read(), type=_Flow)

    try:
        flow = await asyncio.to_thread(fetch)
    except (OSError, msgspec.DecodeError) as error:
        reason = error.reason if isinstance(error, urllib.error.HTTPError) else error
        raise HubCountsError(
            f"the hub's counts could not be read: {describe_tls_failure(error, hub_url) or reason}"
        ) from error
    found = {counts.device: counts for counts in flow.devices if counts.device in devices}
    if any(counts.stored is None for counts in found.values()):
        raise HubCountsError("the hub's store is unavailable")
    return found


def difference(before: CountsByDevice, after: CountsByDevice) -> HubCounts:
    """Return the sum over all devices of what the hub counted in between."""
    counts = HubCounts(0, 0, 0, 0, 0, 0)
    for device, now in after.items():
        was = before.get(device, HubDeviceCounts(device))
        accepted, stored = now.accepted - was.accepted, (now.stored or 0) - (was.stored or 0)
        counts = HubCounts(
            accepted=counts.accepted + accepted,
            stored=counts.stored + stored,
            duplicated=counts.duplicated + max(0, stored - accepted),
            repeated_batches=counts.repeated_batches + now.duplicate_batches - was.duplicate_batches,
            quarantined_batches=counts.quarantined_batches + now.quarantined_batches - was.quarantined_batches,
            lost_batches=counts.lost_batches + now.lost_batches - was.lost_batches,
            quarantined=counts.quarantined + now.quarantined - was.quarantined,
        )
    return counts


async def settled_hub_counts(
    hub_url: str,
    token: str,
    before: CountsByDevice,
    devices: Container[str],
    acked: int,
    tls: ClientTls | None = None,
) -> HubCounts:
    """Return the counts when the store has `acked` readings, or after SETTLE_SECONDS. Raises HubCountsError."""
    deadline_s = time.monotonic() + SETTLE_SECONDS
    while True:
        counts = difference(before, await read_hub_counts(hub_url, token, devices, tls))
        if counts.stored >= max(counts.accepted, acked) or time.monotonic() > deadline_s:
            return counts
        await asyncio.sleep(POLL_SECONDS)
