"""Search for the readings that a server refuses, by sending parts of a request again.

A server that refuses points names only one reason, and for one field it leaves out all fields of a point. Writing
stored readings again changes nothing. So every reading is sent until it was part of a request that was accepted
completely, or was refused alone or together with readings of its own series only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import NamedTuple

from hub.model import store
from hub.model.batch import Batch, Entry
from hub.storage.influxdb.client import RequestTooLarge, WriteAccepted, WriteAnswer
from hub.storage.influxdb.line_protocol import Cell, Point, by_series
from hub.storage.influxdb.series_naming import RefusalReason
from wire.errors import Code
from wire.limits import MAX_MESSAGE
from wire.model import Value

Send = Callable[[Sequence[Point]], Awaitable[WriteAnswer]]
"""Writes points and returns the answer. Raises StoreUnavailable if there is none."""


class RefusedCells(NamedTuple):
    """Refused readings and the reason. Not `certain` if the server's text does not concern points."""

    cells: list[Cell]
    reason: RefusalReason
    certain: bool


async def find_refused(
    points: Sequence[Point], send: Send, messages: MutableMapping[int, str]
) -> tuple[list[RefusedCells], bool]:
    """Return the readings among these points that the server refuses, and whether it accepted any.

    `messages` contains the server's text for series that it refused before, by id. These need no individual requests.
    Series that are refused now because of their type are added, and accepted ones are removed.
    """
    found: list[RefusedCells] = []
    has_accepted = False
    # The first half is sent first, so that new readings of a request meet the same fields as in that request.
    pending = [points] if points else []
    while pending:
        points = pending.pop()
        answer = await send(points)
        if isinstance(answer, WriteAccepted):
            has_accepted = True
            for id in {cell.series.id for point in points for cell in point} & messages.keys():
                del messages[id]
            continue
        # The server counts the refused points of one shard only, so the others may be refused as well.
        if len(points) > 1 and (isinstance(answer, RequestTooLarge) or (answer.dropped or 0) < len(points)):
            middle = len(points) // 2
            pending += [points[middle:], points[:middle]]
            continue
        cells = [cell for point in points for cell in point]
        if len(cells) > len(points):
            pending.append(sorted(((cell,) for cell in cells), key=by_series))
            continue
        code = store.FIELD_CONFLICT if "field type conflict" in answer.message else store.STORE_REFUSED
        if isinstance(answer, RequestTooLarge):
            code = Code.TOO_LARGE.value
        reason = RefusalReason(code, answer.message)
        certain = isinstance(answer, RequestTooLarge) or answer.describes_points
        by_id: dict[int, list[Cell]] = {}
        for cell in cells:
            by_id.setdefault(cell.series.id, []).append(cell)
        for id, refused in by_id.items():
            if len(by_id) == 1:
                if code == store.FIELD_CONFLICT:
                    messages[id] = answer.message
                found.append(RefusedCells(refused, reason, certain))
            elif id in messages:
                found.append(RefusedCells(refused, RefusalReason(store.FIELD_CONFLICT, messages[id]), certain))
            else:
                # The text concerns only one of these series.
                pending.append([(cell,) for cell in refused])
    return found, has_accepted


def refusals(found: Iterable[tuple[Cell, RefusalReason]]) -> list[store.RefusedReadings]:
    """Return one refusal for each entry and code, with the text of all its readings, by offset and code."""
    by_entry_and_code: dict[tuple[int, str], list[tuple[Cell, RefusalReason]]] = {}
    for cell, reason in found:
        by_entry_and_code.setdefault((cell.entry.offset, reason.code), []).append((cell, reason))
    refused_readings = []
    for (_, code), items in sorted(by_entry_and_code.items(), key=lambda item: item[0]):
        entry = items[0][0].entry
        # In the order of the batch, so that the same refusal always gives the same text.
        items.sort(key=lambda item: (item[0].column, item[0].row))
        message = "; ".join(dict.fromkeys(reason.message for _, reason in items))
        refused_readings.append(
            store.RefusedReadings(entry, _batch_of(entry, [cell for cell, _ in items]), code, message[:MAX_MESSAGE])
        )
    return refused_readings


def _batch_of(entry: Entry, cells: Sequence[Cell]) -> Batch:
    """Return a batch of these readings of an entry."""
    rows = sorted({cell.row for cell in cells})
    new_rows = {row: index for index, row in enumerate(rows)}
    columns: dict[int, list[Value]] = {}
    for cell in cells:
        value = cell.value
        value_of_type = float(value) if cell.series.type == "float" and value is not None else value
        columns.setdefault(cell.column, [None] * len(rows))[new_rows[cell.row]] = value_of_type
    batch = entry.batch
    assert batch is not None
    return Batch(
        [int(batch.times[row]) for row in rows],
        [(batch.columns[column][0], values) for column, values in columns.items()],
        readings=len(cells),
        historical=batch.historical,
    )
