"""Many questions to one server, in few requests of a bounded size."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

from hub.model.store import StoreError, StoreUnavailable
from hub.storage.influxdb.answer import words_of
from hub.storage.influxdb.influxql import Statement, divided
from hub.storage.influxdb.rows import Refusal, Rows, take_apart
from hub.storage.influxdb.server import AnswerTooLarge, Server

MAX_ANSWER_BYTES = 64_000_000
"""Of one answer: the parts of a query are made so that numbers stay far below, and long strings are asked for again in
smaller parts."""

MAX_ROWS = 200_000
"""That the statements of one request may give: 6 MB, half a second of a server's and 30 ms of the hub's time."""

MAX_STATEMENTS = 500
"""Of one request: some 100 kB of text."""

REQUESTS = 4
"""Of one query at the same time."""

LIGHT_ROWS = MAX_ROWS // MAX_STATEMENTS
"""What the newest reading of a series counts for: it is one row, but has to be looked for in every file there."""

Found = list[dict[int, list[Rows]]]
"""The answers to statements, each by series id."""


class Questions:
    """Asks one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def ask(self, statements: Sequence[Statement], *, rows: int) -> Found:
        """The answers to all statements; each gives about so many rows for each of its series."""
        requests: list[list[Statement]] = []
        room = 0
        for statement in statements:
            weight = rows * len(statement.group.series)
            if not requests or weight > room or len(requests[-1]) >= MAX_STATEMENTS:
                requests.append([])
                room = MAX_ROWS
            requests[-1].append(statement)
            room -= weight
        free = asyncio.Semaphore(REQUESTS)

        async def ask(request: Sequence[Statement]) -> Found:
            async with free:
                return await self._once(request)

        try:
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(ask(request)) for request in requests]
        except BaseExceptionGroup as errors:
            # The one that ended the others.
            raise errors.exceptions[0] from None
        return [answer for task in asked for answer in task.result()]

    async def _once(self, statements: Sequence[Statement]) -> Found:
        """The answers to statements that are asked in one request, and in parts where they are too large for it."""
        target = self._server.target
        given = [("db", target.database), ("rp", target.retention_policy), ("epoch", "ns")]
        text = ";".join(statement.text() for statement in statements)
        try:
            response = await self._server.request(
                "POST",
                "/query",
                params=[(name, value) for name, value in given if value],
                form=[("q", text)],
                max_bytes=MAX_ANSWER_BYTES,
            )
        except AnswerTooLarge:
            if len(statements) > 1:
                middle = len(statements) // 2
                return [*await self._once(statements[:middle]), *await self._once(statements[middle:])]
            halves = divided(statements[0])
            if len(halves) == 1:
                raise
            return [{id: rows for half in halves for part in await self._once([half]) for id, rows in part.items()}]
        if response.status != HTTPStatus.OK:
            raise StoreUnavailable(
                f"InfluxDB at {target.url} does not answer questions about {target.bucket}: "
                f"{words_of(response.status, response.body)}. Do the credentials allow to read it?"
            )
        try:
            return take_apart(statements, response.body)
        except Refusal as refusal:
            if refusal.hidden and len(statements) > 1:
                return [answer for one in statements for answer in await self._once([one])]
            raise self._error(str(refusal)) from refusal

    def _error(self, words: str) -> StoreError:
        """For a question that has no answer, in the server's words."""
        target = self._server.target
        if "not found" in words:
            return StoreUnavailable(
                f"InfluxDB at {target.url} has no {target.bucket} to read ({words}): `hub store setup` makes it, or "
                "correct store.bucket"
            )
        if "max-select" in words:
            return StoreError(f"InfluxDB at {target.url} has a limit in its settings: {words}. Ask for less at once")
        return StoreUnavailable(f"InfluxDB at {target.url} cannot answer now: {words}")
