"""/api/v1/devices/retire: devices that are gone for good leave the fleet; what they have sent stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple, Protocol

import msgspec
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from hub.http.caller import Operator
from hub.http.problem import problems
from hub.http.question import DEVICE_SELECTORS
from hub.http.schemas import TimeNs
from wire import limits

MAX_NAMED = 1_000
"""Devices named in an answer; of more the number is told."""

Selector = Annotated[str, Field(min_length=1, max_length=limits.MAX_METRIC_NAME)]


class ToRetire(BaseModel):
    """Which devices."""

    model_config = ConfigDict(extra="forbid")

    devices: list[Selector] = Field(min_length=1, max_length=limits.MAX_SELECTORS, description=DEVICE_SELECTORS)
    unseen_since_ns: TimeNs | None = Field(
        default=None, description="Only those that sent nothing since then. Null: all."
    )
    dry_run: bool = Field(default=False, description="Only tell which these are.")


class Retired(BaseModel):
    """What was retired, or would be."""

    count: int
    devices: list[str] = Field(description=f"In order of ids, the first {MAX_NAMED:,}.")
    connected: int = Field(description="So many of them are connected: they are back with the next that they send.")


class Chosen(NamedTuple):
    """Ids of devices, and how many of these are connected."""

    devices: Sequence[str]
    connected: int


class Retirement(Protocol):
    """What takes devices out of service."""

    def choose(self, selectors: Sequence[str], unseen_since_ns: int | None) -> Chosen: ...
    async def retire(self, devices: Sequence[str]) -> None: ...


def install(api: FastAPI, retirement: Retirement) -> None:
    """Adds the operation to the API."""

    @api.post("/api/v1/devices/retire", response_model=Retired, responses=problems(503))
    async def retire(_: Operator, asked: ToRetire) -> Response:
        """Take devices out of service: they leave the fleet, the latest values and Home Assistant. Their history and
        their books stay; a device that sends again is back."""
        chosen = retirement.choose(asked.devices, asked.unseen_since_ns)
        if not asked.dry_run:
            await retirement.retire(chosen.devices)
        told = {
            "count": len(chosen.devices),
            "devices": chosen.devices[:MAX_NAMED],
            "connected": chosen.connected,
        }
        return Response(msgspec.json.encode(told), media_type="application/json", headers={"Cache-Control": "no-store"})
