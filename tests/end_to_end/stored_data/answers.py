"""The answers of a hub that depend on its data directory alone."""

from __future__ import annotations

from typing import Any

from tests.end_to_end.hub import Hub

ACCOUNTING = (
    "accepted_batches", "accepted", "duplicate_batches", "quarantined_batches", "lost_batches", "moved",
    "stored", "waiting", "refused", "expired", "difference",
)  # fmt: skip


async def answers_of(hub: Hub) -> dict[str, Any]:
    """Return the answers as JSON, without fields that belong to the process or to the wording of a version."""
    identity = await hub.get("/api/v1/hub")
    devices = [*(await hub.get("/api/v1/devices"))["devices"], await hub.get("/api/v1/devices/old")]
    quarantine = (await hub.get("/api/v1/quarantine"))["quarantine"]
    flow = await hub.get("/api/v1/flow")
    tokens = (await hub.get("/api/v1/tokens"))["tokens"]
    events = {}
    for device in devices:
        events[device["device"]] = (await hub.get(f"/api/v1/devices/{device['device']}/events"))["events"]
    return {
        "hub": {name: identity[name] for name in ("hub", "journal")},
        "devices": [known_device(device) for device in devices],
        "latest": (await hub.get("/api/v1/latest"))["latest"],
        "history": (await hub.get("/api/v1/history", device="*", points=0, **{"from": "0"}))["series"],
        "quarantine": [await message_of(hub, entry["offset"]) for entry in quarantine],
        "events": events,
        "tokens": {token["id"]: without(token, "last_used_ns") for token in tokens},
        "accounting": {
            "total": {name: flow["totals"][name] for name in ACCOUNTING},
            **{device["device"]: {name: device[name] for name in ACCOUNTING} for device in flow["devices"]},
        },
    }


async def message_of(hub: Hub, offset: int) -> dict[str, Any]:
    """Return a message in quarantine, readable, without the advice and what earlier versions did not return."""
    message = await hub.get(f"/api/v1/quarantine/{offset}")
    return without(message, "advice", "retryable", "partial", "values", "readings", "raw")


def known_device(device: dict[str, Any]) -> dict[str, Any]:
    """Return a device without its sources and its presence, which earlier versions did not know."""
    known = without(device, "sources", "source_refused", "presence", "presence_since", "stale")
    return known | {"metrics": [without(metric, "freshness") for metric in device["metrics"]]}


def without(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the answer without some fields."""
    return {key: value for key, value in answer.items() if key not in names}
