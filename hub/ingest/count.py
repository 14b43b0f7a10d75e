"""How many readings a journalled batch has, without its metrics: what the backlog is counted with. Pure."""

from __future__ import annotations

import numpy as np

from hub.ingest.acceptance import FLOAT64
from hub.model.batch import Entry, EntryKind
from wire import device
from wire.codec import AGENT_MESSAGES
from wire.errors import WireError


def count_readings(entry: Entry) -> int:
    """Its values, as acceptance counted them; 0 for an entry that is no batch, or that cannot be read at all."""
    if entry.batch is not None:
        return entry.batch.readings
    if entry.kind is not EntryKind.BATCH:
        return 0
    try:
        message = AGENT_MESSAGES[entry.format].decode(entry.payload)
    except WireError:
        return 0
    if not isinstance(message, device.Data):
        return 0
    return sum(map(_count, message.values.values()))


def _count(column: device.Column) -> int:
    if isinstance(column, bytes):
        return int(np.count_nonzero(~np.isnan(np.frombuffer(column, FLOAT64))))
    return len(column) - column.count(None)
