"""The quarantine: the batches that the hub could not accept or store, the reasons, and the decisions about them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from operator import attrgetter
from typing import Annotated

from msgspec import Meta, Struct, field
from msgspec.structs import asdict
from starlette.responses import Response

from hub.http import paging
from hub.http import quarantine_answers as answers
from hub.http.problem import Refusal
from hub.http.quarantine_text import readable, refused_content, remediation
from hub.http.routing import Operation
from hub.ingest.quarantine_actions import QuarantineActions, QuarantineSelection, RetryReport
from hub.journal.journal import Journal
from hub.model.batch import SOURCE_REFUSED, Entry
from hub.model.identity import Action, Identity
from hub.model.journal import QuarantinedEntry
from wire import limits

MAX_PAGE = 100
"""Messages of one answer. Their payloads are read for it: 26 MB if each is as large as a batch may be."""

DEFAULT_PAGE = 20

MAX_DEVICE_COUNTS = 1_000
"""Pairs of device and reason in one answer. A script that needs more of them asks device by device."""

LIST_NAME = "quarantine"

Offset = Annotated[int, Meta(ge=1, le=limits.MAX_SEQ)]


class SelectionQuery(Struct, frozen=True, kw_only=True):
    """The parameters that select batches."""

    device: Annotated[
        Annotated[str, Meta(max_length=limits.MAX_DEVICE_ID)] | None, Meta(description="Only of this device.")
    ] = None
    code: Annotated[
        Annotated[str, Meta(max_length=answers.MAX_CODE)] | None,
        Meta(description="Only with this code as the reason."),
    ] = None


class QuarantineQuery(SelectionQuery, frozen=True, kw_only=True):
    """The parameters of the list."""

    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE, description=paging.LIMIT)] = DEFAULT_PAGE
    cursor: paging.Cursor = None


class DeletionQuery(SelectionQuery, frozen=True, kw_only=True):
    """The parameters of a deletion."""

    up_to: Annotated[int, Meta(ge=0, le=limits.MAX_SEQ, description="Only offsets up to this one.")] = limits.MAX_SEQ
    everything: Annotated[bool, Meta(description="Required if neither a device nor a code is named.")] = field(
        name="all", default=False
    )


@dataclass(frozen=True)
class QuarantineRoutes:
    """The operations about the quarantine."""

    journal: Journal
    actions: QuarantineActions

    @Operation("GET", "/api/v1/quarantine", may=Action.READ_OWN)
    async def quarantine(self, caller: Identity, query: QuarantineQuery) -> answers.QuarantinePage:
        """Return the batches in quarantine, newest first. A gateway token has to name one of its own devices."""
        _allow_reading(caller, query.device)
        before = limits.MAX_SEQ if query.cursor is None else paging.decode_cursor(query.cursor, LIST_NAME, int)
        found = await self.journal.quarantine.page(query.device, code=query.code, limit=query.limit + 1, before=before)
        entries, following = paging.end_page(found, attrgetter("offset"), list_name=LIST_NAME, limit=query.limit)
        return answers.QuarantinePage(quarantine=[_batch(entry) for entry in entries], next=following)

    @Operation("GET", "/api/v1/quarantine/counts", may=Action.READ_OWN)
    async def quarantine_counts(self, caller: Identity, query: SelectionQuery) -> answers.QuarantineCounts:
        """Return the number of batches in quarantine by reason and by device, with what to do about each reason."""
        _allow_reading(caller, query.device)
        entries = QuarantineSelection(query.device, query.code).entries(self.journal.quarantine.index)
        return count(entries, dropped=self.journal.quarantine.dropped)

    @Operation("GET", "/api/v1/quarantine/{offset}", may=Action.READ_OWN, errors=(503,))
    async def quarantined_message(self, caller: Identity, offset: Offset) -> answers.QuarantinedMessage:
        """Return one batch with its content, and with what a person can do about it."""
        entry = await self._entry(offset, caller)
        batch = _batch(entry)
        text, shortened = readable(entry.payload, entry.format)
        found = refused_content(entry.payload, entry.format)
        return answers.QuarantinedMessage(
            **asdict(batch),
            partial=found.partial,
            values=[answers.QuarantinedValue(*value) for value in found.values],
            readings=found.readings,
            raw=found.raw,
            text=text,
            shortened=shortened,
            advice=remediation(batch.code),
            retryable=batch.code != SOURCE_REFUSED,
        )

    @Operation(
        "GET",
        "/api/v1/quarantine/{offset}/payload",
        may=Action.READ_OWN,
        errors=(503,),
        media_types=("application/octet-stream",),
    )
    async def quarantined_payload(self, caller: Identity, offset: Offset) -> Response:
        """Return the message as it was received, byte by byte."""
        entry = await self._entry(offset, caller)
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="batch-{offset}.{entry.format}"',
            "X-Content-Type-Options": "nosniff",
        }
        return Response(entry.payload, media_type="application/octet-stream", headers=headers)

    @Operation("POST", "/api/v1/quarantine/retry", may=Action.OPERATE, errors=(503,))
    async def retry_quarantine(self, caller: Identity, body: answers.RetryRequest) -> answers.RetriedBatches:
        """Validate the matching batches again with the current metrics of their devices, the oldest first. Accepted
        batches are stored as historical data and leave the quarantine; the others stay with the newest reason. If no
        batch matches, `selected` is 0."""
        done = await self.actions.retry(QuarantineSelection(body.device, body.code, body.after, body.up_to), caller)
        return retried_batches(done)

    @Operation("POST", "/api/v1/quarantine/{offset}/retry", may=Action.OPERATE, errors=(503,))
    async def retry_message(self, caller: Identity, offset: Offset) -> answers.RetriedBatch:
        """Validate one batch again."""
        done = await self.actions.retry(QuarantineSelection(after=offset - 1, up_to=offset), caller)
        if not done.outcomes:
            raise _not_quarantined(offset)
        outcome = done.outcomes[0]
        code, message = outcome.reason or (None, None)
        return answers.RetriedBatch(outcome.reason is None, outcome.readings, code, message)

    @Operation("DELETE", "/api/v1/quarantine", may=Action.OPERATE, errors=(503,))
    async def delete_quarantine(self, caller: Identity, query: DeletionQuery) -> answers.DeletedCount:
        """Delete the matching batches permanently."""
        if query.device is None and query.code is None and not query.everything:
            detail = "this would delete all of the quarantine: name a device or a code, or say all=true"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        deleted = await self.actions.delete(QuarantineSelection(query.device, query.code, up_to=query.up_to), caller)
        return answers.DeletedCount(deleted)

    @Operation(
        "DELETE",
        "/api/v1/quarantine/{offset}",
        may=Action.OPERATE,
        status=HTTPStatus.NO_CONTENT,
        errors=(503,),
    )
    async def delete_message(self, caller: Identity, offset: Offset) -> None:
        """Delete one batch permanently."""
        deleted = await self.actions.delete(QuarantineSelection(after=offset - 1, up_to=offset), caller)
        if not deleted:
            raise _not_quarantined(offset)

    async def _entry(self, offset: int, caller: Identity) -> Entry:
        entries = await self.journal.quarantine.entries([offset])
        if not entries:
            raise _not_quarantined(offset)
        _allow_reading(caller, entries[0].device)
        return entries[0]


def count(entries: Iterable[QuarantinedEntry], *, dropped: int) -> answers.QuarantineCounts:
    """Count entries, in order of their offsets, by code and by device, the largest numbers first."""
    by_code: defaultdict[str, list[QuarantinedEntry]] = defaultdict(list)
    by_device: defaultdict[tuple[str, str], list[QuarantinedEntry]] = defaultdict(list)
    for entry in entries:
        by_code[entry.code].append(entry)
        by_device[entry.code, entry.device].append(entry)
    codes = [_code_count(code, found) for code, found in by_code.items()]
    ranked = sorted(by_device.items(), key=lambda item: (-len(item[1]), item[0]))
    return answers.QuarantineCounts(
        entries=sum(counted.entries for counted in codes),
        size_bytes=sum(counted.size_bytes for counted in codes),
        newest=max((found[-1].offset for found in by_code.values()), default=0),
        dropped=dropped,
        codes=sorted(codes, key=lambda counted: (-counted.entries, counted.code)),
        devices=[
            answers.DeviceCodeCount(code, device, len(found), max(entry.received_ns for entry in found))
            for (code, device), found in ranked[:MAX_DEVICE_COUNTS]
        ],
        left_out=max(0, len(ranked) - MAX_DEVICE_COUNTS),
    )


def retried_batches(report: RetryReport) -> answers.RetriedBatches:
    """Return the result of a retry."""
    reasons = Counter(outcome.reason[0] for outcome in report.outcomes if outcome.reason is not None)
    return answers.RetriedBatches(
        selected=len(report.outcomes),
        accepted=sum(outcome.reason is None for outcome in report.outcomes),
        readings=sum(outcome.readings for outcome in report.outcomes),
        refused=reasons.total(),
        reasons=reasons,
        next=report.next,
    )


def _code_count(code: str, entries: list[QuarantinedEntry]) -> answers.CodeCount:
    return answers.CodeCount(
        code=code,
        entries=len(entries),
        devices=len({entry.device for entry in entries}),
        size_bytes=sum(entry.size_bytes for entry in entries),
        oldest_ns=min(entry.received_ns for entry in entries),
        newest_ns=max(entry.received_ns for entry in entries),
        advice=remediation(code),
        retryable=code != SOURCE_REFUSED,
    )


def _allow_reading(caller: Identity, device: str | None) -> None:
    if not caller.may(Action.READ) and (device is None or not caller.may_write(device)):
        detail = f"a token of role {caller.role} sees the quarantine of its own devices: name one with device"
        raise Refusal(HTTPStatus.FORBIDDEN, detail)


def _not_quarantined(offset: int) -> Refusal:
    detail = (
        f"{offset} is not in quarantine (any more), or another request is deciding about it; request the list again"
    )
    return Refusal(HTTPStatus.NOT_FOUND, detail)


def _batch(entry: Entry) -> answers.QuarantinedBatch:
    code, message = entry.reason or ("", "")
    return answers.QuarantinedBatch(
        offset=entry.offset,
        device=entry.device,
        epoch=entry.epoch,
        seq=entry.seq,
        received_ns=entry.received_ns,
        code=code,
        message=message,
        format=entry.format,
        size_bytes=len(entry.payload),
    )
