"""/api/v1/quarantine: what could not be accepted or stored, why, and what is done about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path, Query
from starlette.responses import Response

from hub.http import paging
from hub.http import quarantine_schemas as schemas
from hub.http.advice import advice
from hub.http.caller import Caller, Operator
from hub.http.problem import PROBLEMS, Refusal, problems
from hub.http.readable import readable
from hub.ingest.retry import QuarantineWork, Selection
from hub.model.batch import Entry
from hub.model.identity import Action, Identity
from hub.model.journal import Held, Journal, JournalError
from wire import limits
from wire.errors import WireError

MAX_PAGE = 100
"""Messages of one answer; their payloads are read for it, 26 MB where each is as large as a batch may be."""

DEFAULT_PAGE = 20

MAX_DEVICE_COUNTS = 1_000
"""Pairs of device and reason in one answer: beyond it nobody reads them, and a script asks device by device."""

LIST_NAME = "quarantine"

OfDevice = Annotated[str | None, Query(max_length=limits.MAX_DEVICE_ID, description="Only of this device.")]
OfCode = Annotated[str | None, Query(max_length=schemas.MAX_CODE, description="Only with this code as the reason.")]
UpTo = Annotated[int, Query(ge=0, le=limits.MAX_SEQ, description="Only offsets up to this one.")]
Offset = Annotated[int, Path(ge=1, le=limits.MAX_SEQ)]

ONE = problems(404, 503)


class _Group:
    """Entries that are counted together."""

    __slots__ = ("entries", "newest_ns", "oldest_ns", "size_bytes")

    def __init__(self, received_ns: int) -> None:
        self.entries = self.size_bytes = 0
        self.oldest_ns = self.newest_ns = received_ns

    def add(self, received_ns: int, size_bytes: int) -> None:
        self.entries += 1
        self.size_bytes += size_bytes
        if received_ns > self.newest_ns:
            self.newest_ns = received_ns
        elif received_ns < self.oldest_ns:
            self.oldest_ns = received_ns


def install(api: FastAPI, journal: Journal, work: QuarantineWork) -> None:
    """Adds the quarantine to the API."""

    @api.get("/api/v1/quarantine", response_model=schemas.Quarantine, responses=PROBLEMS)
    async def quarantine(
        asks: Caller,
        device: OfDevice = None,
        code: OfCode = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most so many in one answer.")] = DEFAULT_PAGE,
        cursor: paging.CursorText = None,
    ) -> Response:
        """What is in quarantine, newest first. Device and gateway tokens have to name one of their own devices."""
        _allow_reading(asks, device)
        before = limits.MAX_SEQ if cursor is None else paging.read_cursor(cursor, LIST_NAME, int)
        async with _told():
            found = await journal.quarantined(device, code=code, limit=limit + 1, before=before)
        page = paging.end_page(found, lambda entry: entry.offset, list_name=LIST_NAME, limit=limit)
        return _json({"quarantine": [_facts(entry) for entry in page.items], "next": page.next})

    @api.get("/api/v1/quarantine/counts", response_model=schemas.QuarantineCounts, responses=PROBLEMS)
    async def counts(asks: Caller, device: OfDevice = None, code: OfCode = None) -> Response:
        """How much is in quarantine, by reason and by device, with what to do about each reason."""
        _allow_reading(asks, device)
        return _json({**count(Selection(device, code).of(journal.held)), "dropped": journal.quarantine_dropped})

    @api.get("/api/v1/quarantine/{offset}", response_model=schemas.QuarantinedMessage, responses=ONE)
    async def one(asks: Caller, offset: Offset) -> Response:
        """One of them, with what it says and what can be done about it."""
        entry = await _found(journal, offset, asks)
        text, shortened = readable(entry.payload, entry.format)
        facts = _facts(entry)
        return _json({**facts, "text": text, "shortened": shortened, "advice": advice(facts["code"])})

    @api.get(
        "/api/v1/quarantine/{offset}/payload",
        response_class=Response,
        responses={**ONE, 200: {"content": {"application/octet-stream": {}}}},
    )
    async def payload(asks: Caller, offset: Offset) -> Response:
        """The message as it came, byte by byte."""
        entry = await _found(journal, offset, asks)
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="batch-{offset}.{entry.format}"',
            "X-Content-Type-Options": "nosniff",
        }
        return Response(entry.payload, media_type="application/octet-stream", headers=headers)

    @api.post("/api/v1/quarantine/retry", response_model=schemas.Retried, responses=problems(503))
    async def retry(asks: Operator, asked: schemas.Selected) -> Response:
        """Judge those that match again, with their devices' metrics of now, the oldest first. What is accepted is
        stored as historical data and leaves the quarantine; what is not stays with the newest reason."""
        async with _told():
            done = await work.retry(Selection(asked.device, asked.code, asked.after, asked.up_to), asks)
        reasons = Counter(outcome.reason[0] for outcome in done.outcomes if outcome.reason is not None)
        return _json(
            {
                "accepted": sum(outcome.reason is None for outcome in done.outcomes),
                "readings": sum(outcome.readings for outcome in done.outcomes),
                "refused": reasons.total(),
                "reasons": reasons,
                "next": done.next,
            }
        )

    @api.post("/api/v1/quarantine/{offset}/retry", response_model=schemas.RetriedOne, responses=ONE)
    async def retry_one(asks: Operator, offset: Offset) -> Response:
        """Judge one of them again."""
        async with _told():
            done = await work.retry(Selection(after=offset - 1, up_to=offset), asks)
        if not done.outcomes:
            raise _gone(offset)
        outcome = done.outcomes[0]
        code, message = outcome.reason or (None, None)
        return _json(
            {"accepted": outcome.reason is None, "readings": outcome.readings, "code": code, "message": message}
        )

    @api.delete("/api/v1/quarantine", response_model=schemas.Deleted, responses=problems(503))
    async def delete(
        asks: Operator,
        device: OfDevice = None,
        code: OfCode = None,
        up_to: UpTo = limits.MAX_SEQ,
        everything: Annotated[
            bool, Query(alias="all", description="Needed where neither a device nor a code is named.")
        ] = False,
    ) -> Response:
        """Delete those that match, for good."""
        if device is None and code is None and not everything:
            detail = "this would delete all of the quarantine: name a device or a code, or say all=true"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        async with _told():
            deleted = await work.delete(Selection(device, code, up_to=up_to), asks)
        return _json({"deleted": deleted})

    @api.delete("/api/v1/quarantine/{offset}", status_code=204, responses=ONE)
    async def delete_one(asks: Operator, offset: Offset) -> Response:
        """Delete one of them, for good."""
        async with _told():
            deleted = await work.delete(Selection(after=offset - 1, up_to=offset), asks)
        if not deleted:
            raise _gone(offset)
        return Response(status_code=HTTPStatus.NO_CONTENT)


def count(held: Iterable[Held]) -> dict[str, Any]:
    """How much there is by code, and by code and device, the most first; of entries in order of their offsets."""
    groups: dict[tuple[str, str], _Group] = {}
    newest = 0
    for offset, device, code, received_ns, size_bytes in held:
        newest = offset
        group = groups.get((code, device))
        if group is None:
            group = groups[code, device] = _Group(received_ns)
        group.add(received_ns, size_bytes)
    by_code: dict[str, list[_Group]] = {}
    for (code, _), group in groups.items():
        by_code.setdefault(code, []).append(group)
    ranked = sorted(groups.items(), key=lambda item: (-item[1].entries, item[0]))
    return {
        "entries": sum(group.entries for group in groups.values()),
        "size_bytes": sum(group.size_bytes for group in groups.values()),
        "newest": newest,
        "codes": sorted(
            (
                {
                    "code": code,
                    "entries": sum(group.entries for group in found),
                    "devices": len(found),
                    "size_bytes": sum(group.size_bytes for group in found),
                    "oldest_ns": min(group.oldest_ns for group in found),
                    "newest_ns": max(group.newest_ns for group in found),
                    "advice": advice(code),
                }
                for code, found in by_code.items()
            ),
            key=lambda counted: (-counted["entries"], counted["code"]),
        ),
        "devices": [
            {"code": code, "device": device, "entries": group.entries, "newest_ns": group.newest_ns}
            for (code, device), group in ranked[:MAX_DEVICE_COUNTS]
        ],
        "left_out": max(0, len(ranked) - MAX_DEVICE_COUNTS),
    }


async def _found(journal: Journal, offset: int, asks: Identity) -> Entry:
    async with _told():
        entries = await journal.quarantined_at([offset])
    if not entries:
        raise _gone(offset)
    _allow_reading(asks, entries[0].device)
    return entries[0]


def _allow_reading(asks: Identity, device: str | None) -> None:
    if not asks.may(Action.READ) and (device is None or not asks.may_write(device)):
        detail = f"a token of role {asks.role} sees the quarantine of its own devices: name one with device"
        raise Refusal(HTTPStatus.FORBIDDEN, detail)


def _gone(offset: int) -> Refusal:
    detail = f"{offset} is not in quarantine (any more), or somebody else is deciding about it just now; list it again"
    return Refusal(HTTPStatus.NOT_FOUND, detail)


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """What the journal and the commit loop refuse, as a refusal of the request."""
    try:
        yield
    except JournalError as error:
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
    except WireError as error:
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, error.message) from None


def _facts(entry: Entry) -> dict[str, Any]:
    code, message = entry.reason or ("", "")
    return {
        "offset": entry.offset,
        "device": entry.device,
        "epoch": entry.epoch,
        "seq": entry.seq,
        "received_ns": entry.received_ns,
        "code": code,
        "message": message,
        "format": entry.format,
        "size_bytes": len(entry.payload),
    }


def _json(answer: object) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json", headers={"Cache-Control": "no-store"})
