"""/api/v1/devices/{device}/audit: what the store has of a device, counted reading by reading, beside the books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from http import HTTPStatus
from operator import attrgetter
from typing import Annotated

import msgspec
from fastapi import FastAPI, Path
from starlette.responses import Response

from hub.http import schemas
from hub.http.caller import Reader
from hub.http.overview import Overview
from hub.http.problem import Refusal, problems
from hub.model.batch import Series
from hub.model.identity import Identity
from hub.model.store import ReadingCounts, Store, StoreError
from wire.limits import MAX_DEVICE_ID, MAX_TIME_NS

NOTHING = ReadingCounts(0, 0)


def install(api: FastAPI, overview: Overview, store: Store, known: Callable[[], Iterable[Series]]) -> None:
    """Adds the audit to the API."""

    @api.get("/api/v1/devices/{device}/audit", response_model=schemas.Audit, responses=problems(404, 503))
    async def audit(asks: Reader, device: Annotated[str, Path(max_length=MAX_DEVICE_ID)]) -> Response:
        """A device's books, and for each metric what the books say is stored beside what the store has, counted reading
        by reading. That takes some seconds for a hundred million of them."""
        if overview.device(device) is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no device {device}")
        series = sorted((one for one in known() if one.device == device), key=attrgetter("metric"))
        try:
            before = await store.counts()
            counted = await _count(store, series)
            after = await store.counts()
        except StoreError as error:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": "5"}) from None
        metrics = []
        for one in series:
            was, now = before.get(one.id, NOTHING), after.get(one.id, NOTHING)
            metrics.append(
                {
                    "metric": one.metric,
                    "type": one.type,
                    # What was written and deleted meanwhile may be counted or not.
                    "stored_least": min(was.stored, now.stored),
                    "stored_most": max(was.stored, now.stored),
                    "counted": counted[one.id],
                    "expired": now.expired,
                    "refused": now.refused,
                }
            )
        body = msgspec.json.encode({**await _books(overview, asks, device), "metrics": metrics})
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


async def _count(store: Store, series: Sequence[Series]) -> Counter[int]:
    counted: Counter[int] = Counter()
    async with aclosing(store.scan(series, 0, MAX_TIME_NS + 1)) as pieces:
        async for piece in pieces:
            counted[piece.series.id] += len(piece.times_ns)
    return counted


async def _books(overview: Overview, asks: Identity, device: str) -> dict[str, object]:
    books: dict[str, object] = next(
        found for found in (await overview.flow(asks))["devices"] if found["device"] == device
    )
    return books
