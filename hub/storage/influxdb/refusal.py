"""Which readings a server refuses, found by asking it again in parts, and what of them goes into quarantine.

A server that refuses points names one of its reasons, and for the sake of one field it leaves out all fields of a
point. Writing again what is stored changes nothing, so every reading is written until it was among those that were all
taken, or was refused alone or among those of its own series only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import NamedTuple

from hub.model import store
from hub.model.batch import Batch, Entry
from hub.storage.influxdb.answer import Refused, Stored, TooLarge
from hub.storage.influxdb.names import Reason
from hub.storage.influxdb.plan import Cell, Point, by_series
from wire.errors import Code
from wire.limits import MAX_MESSAGE
from wire.model import Value

Send = Callable[[Sequence[Point]], Awaitable[Stored | Refused | TooLarge]]
"""Writes points and gives the answer; raises StoreUnavailable where there is none."""


class Found(NamedTuple):
    """Readings that are refused, with why. Not `certain`: the server's words do not speak of points."""

    cells: list[Cell]
    reason: Reason
    certain: bool


async def find_refused(
    points: Sequence[Point], send: Send, words: MutableMapping[int, str]
) -> tuple[list[Found], bool]:
    """The readings among these that the server refuses, and whether it took any.

    `words` has the server's words for series that it refused before, by id: these need not be asked for one by one. It
    gets those that are refused now, for their type, and loses those that are taken.
    """
    found: list[Found] = []
    has_stored = False
    # The first half comes first, so that what is new in a request meets the same fields as it did there.
    todo = [points] if points else []
    while todo:
        part = todo.pop()
        answer = await send(part)
        if isinstance(answer, Stored):
            has_stored = True
            for id in {cell.series.id for point in part for cell in point} & words.keys():
                del words[id]
            continue
        if len(part) > 1 and (isinstance(answer, TooLarge) or not _is_whole(answer, part)):
            middle = len(part) // 2
            todo += [part[middle:], part[:middle]]
            continue
        cells = [cell for point in part for cell in point]
        if len(cells) > len(part):
            todo.append(sorted(((cell,) for cell in cells), key=by_series))
            continue
        reason = reason_of(answer)
        certain = isinstance(answer, TooLarge) or answer.points
        by_id: dict[int, list[Cell]] = {}
        for cell in cells:
            by_id.setdefault(cell.series.id, []).append(cell)
        for id, refused in by_id.items():
            if len(by_id) == 1:
                if reason.code == store.FIELD_CONFLICT:
                    words[id] = reason.message
                found.append(Found(refused, reason, certain))
            elif id in words:
                found.append(Found(refused, Reason(store.FIELD_CONFLICT, words[id]), certain))
            else:
                # The words are of one of these series only.
                todo.append([(cell,) for cell in refused])
    return found, has_stored


def reason_of(answer: Refused | TooLarge) -> Reason:
    """The code and the words that people find in the quarantine."""
    if isinstance(answer, TooLarge):
        return Reason(Code.TOO_LARGE.value, answer.words)
    code = store.FIELD_CONFLICT if "field type conflict" in answer.words else store.STORE_REFUSED
    return Reason(code, answer.words)


def refusals(found: Iterable[tuple[Cell, Reason]]) -> list[store.RefusedReadings]:
    """One refusal for each entry and code, with the words of all its readings: in order of offsets, then of codes."""
    together: dict[tuple[int, str], list[tuple[Cell, Reason]]] = {}
    for cell, reason in found:
        together.setdefault((cell.entry.offset, reason.code), []).append((cell, reason))
    made = []
    for (_, code), part in sorted(together.items(), key=lambda item: item[0]):
        entry = part[0][0].entry
        # In order of the batch, so that the same refusal gives the same words each time.
        part.sort(key=lambda item: (item[0].column, item[0].row))
        message = "; ".join(dict.fromkeys(reason.message for _, reason in part))
        made.append(
            store.RefusedReadings(entry, _batch_of(entry, [cell for cell, _ in part]), code, message[:MAX_MESSAGE])
        )
    return made


def _is_whole(answer: Refused, part: Sequence[Point]) -> bool:
    """Whether all of it was refused. Of several shards that refuse, the server counts what one of them left out."""
    return len(part) == 1 or (answer.dropped is not None and answer.dropped >= len(part))


def _batch_of(entry: Entry, cells: Sequence[Cell]) -> Batch:
    """A batch of these readings of an entry alone."""
    rows = sorted({cell.row for cell in cells})
    place = {row: index for index, row in enumerate(rows)}
    columns: dict[int, list[Value]] = {}
    for cell in cells:
        value = cell.value
        plain = float(value) if cell.series.type == "float" and value is not None else value
        columns.setdefault(cell.column, [None] * len(rows))[place[cell.row]] = plain
    given = entry.batch
    assert given is not None
    return Batch(
        [int(given.times[row]) for row in rows],
        [(given.columns[column][0], values) for column, values in columns.items()],
        readings=len(cells),
        historical=given.historical,
    )
