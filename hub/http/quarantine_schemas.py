"""The shapes of what the HTTP API says about the quarantine."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hub.http.schemas import TimeNs
from wire.limits import MAX_DEVICE_ID, MAX_SEQ

MAX_CODE = 64
"""Characters of a reason's code, the store's included."""


class Quarantined(BaseModel):
    """A batch that could not be accepted, or readings that the store refused, and why."""

    offset: int
    device: str
    epoch: str
    seq: int
    received_ns: TimeNs
    code: str
    message: str
    format: Literal["json", "msgpack"]
    size_bytes: int


class Quarantine(BaseModel):
    """What is in quarantine, the newest first, a page of it."""

    quarantine: list[Quarantined]
    next: str | None


class QuarantinedMessage(Quarantined):
    """One of them, with what it says and what can be done about it."""

    text: str = Field(
        description="The message as JSON for people, with packed columns as numbers. A `…` stands for what is left out."
    )
    shortened: bool = Field(description="Whether something is left out of `text`.")
    advice: str


class CodeCount(BaseModel):
    """How much is in quarantine for one reason."""

    code: str
    entries: int
    devices: int
    size_bytes: int
    oldest_ns: TimeNs
    newest_ns: TimeNs
    advice: str


class DeviceCount(BaseModel):
    """How much is in quarantine of one device for one reason."""

    code: str
    device: str
    entries: int
    newest_ns: TimeNs


class QuarantineCounts(BaseModel):
    """How much is in quarantine, by reason and by device, the most first."""

    entries: int
    size_bytes: int
    newest: int = Field(description="The newest offset; 0 for none.")
    dropped: int = Field(description="How many left it at its bounds, the oldest first, since there is a journal.")
    codes: list[CodeCount]
    devices: list[DeviceCount]
    left_out: int = Field(
        description="Pairs of device and reason that are not in `devices`, because there are so many."
    )


class Selected(BaseModel):
    """Which of them: all that match. Without anything, all there are."""

    model_config = ConfigDict(extra="forbid")

    device: str | None = Field(default=None, max_length=MAX_DEVICE_ID)
    code: str | None = Field(default=None, max_length=MAX_CODE)
    after: int = Field(
        default=0, ge=0, le=MAX_SEQ, description="Only offsets beyond this one: `next` of a round before."
    )
    up_to: int = Field(default=MAX_SEQ, ge=0, le=MAX_SEQ, description="Only offsets up to this one.")


class Retried(BaseModel):
    """What a retry did. One call tries at most 1,000 batches: ask again with `after` = `next` until that is null."""

    accepted: int
    readings: int = Field(description="Readings in those that were accepted.")
    refused: int
    reasons: dict[str, int] = Field(description="How many stay, by the newest code.")
    next: int | None


class RetriedOne(BaseModel):
    """What the retry of one batch did; code and message say why it stays."""

    accepted: bool
    readings: int
    code: str | None
    message: str | None


class Deleted(BaseModel):
    """How many were deleted."""

    deleted: int
