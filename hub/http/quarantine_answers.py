"""The answers of the HTTP API about the quarantine, and the bodies of its requests. See hub.http.answers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from hub.http.answers import DescribedMetric, Page, TimeNs
from wire import limits

MAX_CODE = 64
"""Characters of a reason's code, including the codes of stores."""


class QuarantinedBatch(Struct, frozen=True):
    """A batch that the hub could not accept, or readings that the store refused, and the reason."""

    offset: int
    device: str
    epoch: str
    seq: int
    received_ns: TimeNs
    code: str
    message: str
    format: Literal["json", "msgpack"]
    size_bytes: int


class QuarantinePage(Page):
    """The batches in quarantine, newest first."""

    quarantine: list[QuarantinedBatch]


class QuarantinedValue(Struct, frozen=True):
    """A refused value of a batch or message: its row in the batch and its time, and why it was refused, if known."""

    metric: str
    value: Annotated[str, Meta(description="As it was sent, shortened to 120 characters.")]
    row: Annotated[int | None, Meta(description="Counted from 0.")]
    time_ns: int | None
    reason: str | None


class QuarantinedMessage(QuarantinedBatch, frozen=True, kw_only=True):
    """A batch in quarantine, or a part of one, with its content, and with what a person can do about it."""

    partial: Annotated[
        bool, Meta(description="Only these values are refused; the valid ones of the batch are accepted.")
    ]
    values: Annotated[list[QuarantinedValue], Meta(description="The refused values, the first 100.")]
    readings: Annotated[int, Meta(description="The number of readings or refused lines in it; 0 if it cannot be read.")]
    raw: Annotated[
        str | None, Meta(description="The text that a broker sent, or that a source of the device could not read.")
    ]
    text: Annotated[str, Meta(description="The message as JSON. A `…` stands for omitted content.")]
    shortened: Annotated[bool, Meta(description="Whether something is omitted from `text`.")]
    advice: str
    retryable: Annotated[bool, Meta(description="Whether a retry can accept it, after its cause is corrected.")]


class CodeCount(Struct, frozen=True):
    """The batches in quarantine for one reason."""

    code: str
    entries: int
    devices: int
    size_bytes: int
    oldest_ns: TimeNs
    newest_ns: TimeNs
    advice: str
    retryable: Annotated[bool, Meta(description="Whether a retry can accept them, after their cause is corrected.")]


class DeviceCodeCount(Struct, frozen=True):
    """The batches of one device in quarantine for one reason."""

    code: str
    device: str
    entries: int
    newest_ns: TimeNs


class QuarantineCounts(Struct, frozen=True):
    """The number of batches in quarantine by reason and by device, the largest numbers first."""

    entries: int
    size_bytes: int
    newest: Annotated[int, Meta(description="The newest offset; 0 for none.")]
    dropped: Annotated[int, Meta(description="Batches that ever left the full quarantine, the oldest first.")]
    codes: list[CodeCount]
    devices: list[DeviceCodeCount]
    left_out: Annotated[int, Meta(description="Pairs of device and reason that `devices` omits, beyond its bound.")]


class RetryRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The batches to retry: all that match. Without any field, the whole quarantine."""

    device: Annotated[str, Meta(max_length=limits.MAX_DEVICE_ID)] | None = None
    code: Annotated[str, Meta(max_length=MAX_CODE)] | None = None
    after: Annotated[int, Meta(ge=0, le=limits.MAX_SEQ, description="Only offsets after this one: a `next`.")] = 0
    up_to: Annotated[int, Meta(ge=0, le=limits.MAX_SEQ, description="Only offsets up to this one.")] = limits.MAX_SEQ


class RetriedBatches(Struct, frozen=True):
    """The result of a retry of at most 1,000 batches: repeat it with `after` = `next` until that is null."""

    selected: Annotated[int, Meta(description="Batches that matched and were retried; 0 if there was none.")]
    accepted: int
    readings: Annotated[int, Meta(description="Readings in the accepted batches.")]
    refused: int
    reasons: Annotated[dict[str, int], Meta(description="The number of batches that stay, by the newest code.")]
    next: int | None


class ChangedMetric(Struct, frozen=True):
    """A changed metric, and the retry of the device's batches in quarantine that the change may make acceptable."""

    metric: DescribedMetric
    retried: RetriedBatches


class RetriedBatch(Struct, frozen=True):
    """The result of the retry of one batch; code and message say why it stays."""

    accepted: bool
    readings: int
    code: str | None
    message: str | None


class DeletedCount(Struct, frozen=True):
    """The number of deleted batches."""

    deleted: int
