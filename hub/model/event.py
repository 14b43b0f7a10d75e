"""An event of a device or of the hub, as the registry keeps it."""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """Something that happened to `device`, or to the hub itself (None). A later event has a higher `id`."""

    id: int
    device: str | None
    time_ns: int
    kind: str
    detail: str
