"""The store compared with the journal: readings that it acknowledged and lost, and their repair.

Each request handles one part of the batches, so that a client sees progress and may stop at any moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Protocol

from msgspec import Meta, Struct

from hub.http import answers
from hub.http.problem import Refusal
from hub.http.routing import Operation
from hub.journal.journal import Journal
from hub.model.accounting import OffsetRange
from hub.model.identity import Action, Identity
from hub.model.store import ComparedPart, PartRange, ResentPart
from wire import limits
from wire.timestamp import parse_query_time

MAX_LOST = 1_000
"""Series in one answer: 100 kB. The answer contains the number of the others."""


class Resend(Protocol):
    """Compares the store with the entries that the journal still has, and writes missing readings again."""

    async def range_since(self, since_ns: int) -> OffsetRange: ...
    async def compare(self, part: OffsetRange, device: str | None = None) -> ComparedPart: ...
    async def resend(self, part: OffsetRange) -> ResentPart: ...


class MissingQuery(Struct, frozen=True, kw_only=True):
    """The parameters of the comparison."""

    device: Annotated[
        Annotated[str, Meta(max_length=limits.MAX_DEVICE_ID)] | None, Meta(description="Only batches of this device.")
    ] = None
    since: Annotated[
        str | None,
        Meta(
            description="Batches that arrived or were acknowledged by the store since then: nanoseconds since 1970, "
            "RFC 3339, or relative to now: `-30m`. All in the journal without it."
        ),
    ] = None
    after: Annotated[
        Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)] | None,
        Meta(description="The `next` of the part before, with its `up_to`, instead of `since`."),
    ] = None
    up_to: Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)] = limits.MAX_SEQ


@dataclass(frozen=True)
class StoreRoutes:
    """The operations about the store. `record` records an event of the hub."""

    journal: Journal
    resend: Resend
    now_ns: Callable[[], int]
    record: Callable[[str | None, int, str, str], None]

    @Operation("GET", "/api/v1/store/missing", may=Action.READ, errors=(503,))
    async def missing(self, query: MissingQuery) -> answers.MissingInStore:
        """Return which readings the store has acknowledged and lacks, as far as the journal still has them. Repeat it
        with `after` = `next` until that is null."""
        try:
            since_ns = 0 if query.since is None else parse_query_time(query.since, self.now_ns())
        except ValueError as error:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"since: {error}") from None
        chosen = await self._range(query.after, query.up_to, since_ns)
        compared = await self.resend.compare(chosen, query.device)
        lost = [answers.LostSeries(*series) for series in compared.lost]
        return answers.MissingInStore(
            **self._facts(chosen, compared.part), missing=lost[:MAX_LOST], left_out=max(0, len(lost) - MAX_LOST)
        )

    @Operation("POST", "/api/v1/store/resend", may=Action.OPERATE, errors=(503,))
    async def resend_entries(self, caller: Identity, body: answers.ResendRequest) -> answers.ResentReadings:
        """Write readings to the store again that it has acknowledged and lacks. What it has stays once. Repeat it with
        `after` = `next` until that is null."""
        chosen = await self._range(body.after, body.up_to, body.since_ns or 0)
        if body.after is None and chosen.after < chosen.up_to:
            detail = f"offsets {chosen.after + 1} to {chosen.up_to}, by {caller.operator}"
            self.record(None, self.now_ns(), "store_resend", detail)
        resent = await self.resend.resend(chosen)
        return answers.ResentReadings(
            **self._facts(chosen, resent.part), resent=resent.readings, refused=resent.refused
        )

    async def _range(self, after: int | None, up_to: int, since_ns: int) -> OffsetRange:
        """Return the entries of a request: those since a time, or what is left of them after a part."""
        known = await self.resend.range_since(since_ns)
        if after is None:
            return known
        return OffsetRange(after, min(up_to, known.up_to))

    def _facts(self, chosen: OffsetRange, part: PartRange) -> dict[str, Any]:
        return {
            "after": chosen.after,
            "up_to": part.up_to,
            "next": part.last if part.last < part.up_to else None,
            "received_ns": part.received_ns,
            "is_oldest": chosen.after < self.journal.first_offset,
            "batches": part.batches,
            "readings": part.readings,
            "undecodable": part.undecodable,
        }
