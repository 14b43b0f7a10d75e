"""Edits of metrics: what a person, or a value of another type, changed after a metric was declared.

The row of a series has the current name, type, unit and description. A fact beside it, `series:ID`, has what else must
be known: the earlier names, under which a device may still send, the earlier types, under which readings are stored,
and the columns that a person has set. Both change in one transaction. A registry without edits has no such fact, and
needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import apsw
import msgspec
from msgspec.structs import replace

from hub.model.metric import MetricChange
from hub.registry.database import RegistryError, damaged_row
from hub.registry.schema import INTACT
from wire.errors import Code
from wire.model import Metric, MetricType

MAX_NAMES = 16
"""Names that a metric can have had. Every one of them is looked up when the device declares metrics."""

PREFIX = "series:"
"""Begin of the name of the fact with the edits of a series. Its id follows."""

COLUMNS = "id, metric, type, unit, description"

_EDITS_OF_DEVICE = (
    "SELECT series.id, facts.value FROM series JOIN facts ON facts.name = "
    f"'{PREFIX}' || series.id WHERE series.device = ?"
)
_ALL_EDITS = f"SELECT name, value FROM facts WHERE name > '{PREFIX}' AND name < '{PREFIX}:'"

KeptColumn = Literal["unit", "description"]


class SeriesEdits(msgspec.Struct, frozen=True, omit_defaults=True):
    """Edits of one series. `names` and `types` are all that it ever had, the first ones first, and empty while there
    was only one. The device's declarations do not change the columns in `kept`."""

    names: tuple[str, ...] = ()
    types: tuple[MetricType, ...] = ()
    kept: tuple[KeptColumn, ...] = ()


NO_EDITS = SeriesEdits()


class SeriesRow(NamedTuple):
    """A row of the table `series`, with the edits of the series."""

    id: int
    metric: str
    type: MetricType
    unit: str
    description: str
    edits: SeriesEdits = NO_EDITS


def changed_row(row: SeriesRow, change: MetricChange) -> SeriesRow:
    """Return the row after a change by a person. Pure."""
    edits = row.edits
    name, type = change.name or row.metric, change.type or row.type
    kept = [column for column in ("unit", "description") if getattr(change, column) is not None]
    edits = replace(edits, kept=tuple(dict.fromkeys((*edits.kept, *kept))))
    if name != row.metric:
        edits = replace(edits, names=tuple(dict.fromkeys((*(edits.names or (row.metric,)), name))))
    if type != row.type:
        edits = replace(edits, types=tuple(dict.fromkeys((*(edits.types or (row.type,)), type))))
    return SeriesRow(
        row.id,
        name,
        type,
        row.unit if change.unit is None else change.unit,
        row.description if change.description is None else change.description,
        edits,
    )


def declared_row(row: SeriesRow, metric: Metric, type: MetricType) -> SeriesRow:
    """Return the row after the device declared the metric, with the type that the series then has. Pure."""
    changed = changed_row(row, MetricChange(type=type))
    kept = row.edits.kept
    return changed._replace(
        unit=row.unit if "unit" in kept else metric.unit,
        description=row.description if "description" in kept else metric.description,
    )


def select_all_edits(connection: apsw.Connection) -> dict[int, SeriesEdits]:
    """Return the edits of every series that has any, by id."""
    return {int(name.removeprefix(PREFIX)): _decode(value) for name, value in connection.execute(_ALL_EDITS)}


def select_edits(connection: apsw.Connection, device: int) -> dict[int, SeriesEdits]:
    """Return the edits of the series of a device (its row), by id."""
    return {id: _decode(value) for id, value in connection.execute(_EDITS_OF_DEVICE, (device,))}


def find_series(
    connection: apsw.Connection, device: int, metric: str, edits: Mapping[int, SeriesEdits]
) -> SeriesRow | None:
    """Return the series of a device with this name, or which had it; None if there is none."""
    select = f"SELECT {COLUMNS}, {INTACT['series']} FROM series WHERE"
    found = connection.execute(f"{select} device = ? AND metric = ?", (device, metric)).fetchone()
    former = next((id for id, of_series in edits.items() if metric in of_series.names), None)
    if found is None and former is not None:
        found = connection.execute(f"{select} id = ?", (former,)).fetchone()
        metric = found[1] if found is not None else metric
    if found is None:
        return None
    # A damaged index leads to the row of another series.
    if not found[-1] or found[1] != metric:
        raise damaged_row(f"the row of the metric {metric}")
    return SeriesRow(*found[:-1])._replace(edits=edits.get(found[0], NO_EDITS))


def write_row(connection: apsw.Connection, before: SeriesRow, after: SeriesRow) -> SeriesRow:
    """Store a changed row with its edits, inside a transaction, and return it."""
    if before[:-1] != after[:-1]:
        connection.execute(
            "UPDATE series SET metric = ?, type = ?, unit = ?, description = ? WHERE id = ?",
            (after.metric, after.type, after.unit, after.description, after.id),
        )
    if before.edits != after.edits:
        connection.execute(
            "INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)",
            (f"{PREFIX}{after.id}", msgspec.json.encode(after.edits).decode()),
        )
    return after


def change_metric(connection: apsw.Connection, device: int, metric: str, change: MetricChange) -> SeriesRow:
    """Store the change of a metric of a device (its row) by a person, inside a transaction.

    Raises KeyError for an unknown metric, and RegistryError(BAD_MESSAGE) for a name that is taken.
    """
    edits = select_edits(connection, device)
    before = find_series(connection, device, metric, edits)
    if before is None:
        raise KeyError(metric)
    if change.name is not None:
        holder = find_series(connection, device, change.name, edits)
        if holder is not None and holder.id != before.id:
            was = "is" if holder.metric == change.name else f"was a name of {holder.metric}, under which it may arrive:"
            raise RegistryError(
                Code.BAD_MESSAGE, f"{change.name} {was} another metric of the device: choose a new name"
            )
    after = changed_row(before, change)
    if len(after.edits.names) > MAX_NAMES:
        raise RegistryError(
            Code.TOO_MANY,
            f"{metric} has had {MAX_NAMES} names, the maximum: return to one of {', '.join(before.edits.names)}",
        )
    return write_row(connection, before, after)


def _decode(value: str) -> SeriesEdits:
    return msgspec.json.decode(value, type=SeriesEdits)
