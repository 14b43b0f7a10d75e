"""Access to the files of the store for a backup and a verification, which run in a process of their own."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from hub.http import answers
from hub.http.problem import Refusal
from hub.http.routing import Operation
from hub.model.identity import Action
from hub.model.store import StoreCursor, StorePart
from wire.limits import MAX_SEQ


class Hold(Protocol):
    """A hold on the store, and the position of its files."""

    @property
    def id(self) -> str: ...
    @property
    def cursor(self) -> StoreCursor: ...


class Holds(Protocol):
    """Begins, renews and ends holds on the store."""

    async def begin(self) -> Hold | None: ...
    def renew(self, id: str) -> bool: ...
    async def end(self, id: str) -> bool: ...


class VerifiableStore(Protocol):
    """A store that reads its own files."""

    async def verify(self, position: int) -> StorePart: ...


class VerificationQuery(Struct, frozen=True):
    """The parameters of a verification."""

    position: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_SEQ)], Meta(description="`next` of the answer before; 0 for the first part.")
    ] = 0


ENDED = "this hold has ended: the copy is not consistent. Begin again"


@dataclass(frozen=True)
class StoreFilesRoutes:
    """The operations about the files of the store."""

    holds: Holds
    store: VerifiableStore

    @Operation("POST", "/api/v1/store/holds", may=Action.ADMINISTER, status=HTTPStatus.CREATED, errors=(409, 503))
    async def begin_hold(self) -> answers.StoreHoldDetails:
        """Write all changes into the files of the store, and change nothing in them until the hold ends.

        Readings wait in the journal meanwhile. The hold ends with DELETE, 30 seconds after the last renewal, or after
        an hour.
        """
        hold = await self.holds.begin()
        if hold is None:
            detail = "another program holds the store, probably a backup: try again when it has ended"
            raise Refusal(HTTPStatus.CONFLICT, detail)
        return answers.StoreHoldDetails(hold.id, hold.cursor.journal, hold.cursor.offset)

    @Operation("POST", "/api/v1/store/holds/{id}", may=Action.ADMINISTER, status=HTTPStatus.NO_CONTENT)
    async def renew_hold(self, id: str) -> None:
        """Let a hold last for another 30 seconds."""
        if not self.holds.renew(id):
            raise Refusal(HTTPStatus.NOT_FOUND, ENDED)

    @Operation("DELETE", "/api/v1/store/holds/{id}", may=Action.ADMINISTER, status=HTTPStatus.NO_CONTENT)
    async def end_hold(self, id: str) -> None:
        """End a hold. Success confirms that the files did not change since it began."""
        if not await self.holds.end(id):
            raise Refusal(HTTPStatus.NOT_FOUND, ENDED)

    @Operation("GET", "/api/v1/store/verification", may=Action.ADMINISTER, errors=(503,))
    async def verify(self, query: VerificationQuery) -> answers.StoreVerification:
        """Read a part of the store's own files, and return what is damaged in it."""
        part = await self.store.verify(query.position)
        return answers.StoreVerification(next=part.next, verified=part.verified, total=part.total, problem=part.problem)
