"""The latest of each topic, for what is published at a period. Pure."""

from __future__ import annotations

from hub.model.batch import Batch, Entry, Series
from hub.mqtt.messages import Encoder, Origin, Row
from hub.mqtt.reading import Publish
from wire.model import Value


class Latest:
    """The latest of what is published at a period: rows by topic, those that changed since the last `due`.

    Values of one row come together from several batches: a device's state has all of its metrics, also those that came
    on an earlier connection. Bounded by the series that the hub knows.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._rows: dict[str, tuple[int, dict[Series, Value], Origin]] = {}
        self._changed: dict[str, None] = {}
        self._newest_offset = self._repeated_to = 0

    @property
    def waits(self) -> bool:
        """Whether something changed."""
        return bool(self._changed)

    def begin(self) -> None:
        """A connection begins: all from the cursor on is taken in again."""
        self._changed.clear()
        self._repeated_to = self._newest_offset

    def take(self, entry: Entry, batch: Batch) -> bool:
        """Takes in a batch; whether anything of it is to be published. What is older than what is known is not."""
        if not self.encoder.takes(entry, batch):
            return False
        took = False
        self._newest_offset = max(self._newest_offset, entry.offset)
        origin = Origin(entry.device, entry.epoch, entry.seq)
        for topic, time_ns, cells in self.encoder.rows(entry, batch):
            known = self._rows.get(topic)
            if known is None:
                self._rows[topic] = (time_ns, dict(cells), origin)
            elif time_ns >= known[0]:
                known[1].update(cells)
                self._rows[topic] = (time_ns, known[1], origin)
            elif entry.offset > self._repeated_to:
                continue
            # Else it was taken in before, and may never have arrived: what is known by now goes out for it.
            self._changed[topic] = None
            took = True
        return took

    def due(self) -> list[tuple[Origin, Publish]]:
        """What changed, with the newest batch that is in it; from now on nothing has changed."""
        found = []
        for topic in self._changed:
            time_ns, cells, origin = self._rows[topic]
            message = self.encoder.message(Row(topic, time_ns, list(cells.items())))
            if message is not None:
                found.append((origin, message))
        self._changed.clear()
        return found


class Sampler:
    """A publication at a period: until what it has taken in is out and acknowledged, the cursor waits before it.

    `due_s` is when it publishes next, by the event loop's clock; `hold` the offset that the cursor may not pass, None
    where nothing waits to be published.
    """

    def __init__(self, latest: Latest, now_s: float) -> None:
        """For one connection."""
        latest.begin()
        self._latest = latest
        self._every_s = latest.encoder.publication.every_s
        self.due_s = now_s
        self.hold: int | None = None

    def take(self, entry: Entry, batch: Batch) -> bool:
        """Takes in a batch; whether anything of it is to be published."""
        took = self._latest.take(entry, batch)
        if took and self.hold is None:
            self.hold = entry.offset - 1
        return took

    def due(self, now_s: float) -> list[tuple[Origin, Publish]]:
        """What is to be published now; empty before its time."""
        if self.hold is None or now_s < self.due_s:
            return []
        self.due_s = now_s + self._every_s
        return self._latest.due()

    def sent(self) -> None:
        """What was due is on its way, and holds the cursor by itself."""
        self.hold = None
