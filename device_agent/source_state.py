"""States of an agent's sources, as it reports them to the hub. Pure: clocks are arguments."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from formats.record import RefusedInput
from wire.device import SourceState
from wire.limits import MAX_SOURCE_ERROR, MAX_SOURCE_NAME, MAX_SOURCES

if TYPE_CHECKING:
    from device_agent.sources.lines import ForeignInput

NS_PER_S = 1_000_000_000

_log = logging.getLogger(__name__)


class SourceEvent(NamedTuple):
    """Something that happened to a device at a source, such as a restart."""

    kind: str
    detail: str
    time_ns: int


@dataclass(slots=True, eq=False)
class SourceHealth:
    """Health of one source. It works while none of its aspects (the port, the lines) has an error.

    `input` has the rules and the counts of a source that reads foreign data. `on_change` is called with this object
    after a change, `on_refused` with the lines and values that the source refuses, `on_event` with events, and
    `on_open` when a port or a connection to which one can write is open.
    """

    name: str
    on_change: Callable[[SourceHealth], None] = lambda health: None
    on_refused: Callable[[Sequence[RefusedInput]], None] = lambda refusals: None
    on_event: Callable[[SourceEvent], None] = lambda event: None
    on_open: Callable[[], None] = lambda: None
    input: ForeignInput | None = None
    _errors: dict[str, str] = field(default_factory=dict)
    _is_announced: bool = False

    @property
    def error(self) -> str | None:
        """The errors of all aspects; None while the source works."""
        return "; ".join(self._errors.values()) or None

    def fail(self, aspect: str, error: str) -> None:
        """Record the error of an aspect."""
        if self._errors.get(aspect) != error:
            self._errors[aspect] = error
            self.on_change(self)

    def recover(self, aspect: str) -> None:
        """Record that an aspect works."""
        if self._errors.pop(aspect, None) is not None:
            self.on_change(self)

    def part(self, name: str) -> SourceHealth:
        """Return the health of a part of the source, such as one of several devices; it is reported as its own."""
        return SourceHealth(name, lambda health: self.on_change(health), lambda refusals: self.on_refused(refusals))

    def announce(self) -> None:
        """Report the state once, although nothing failed: a part is known when it works or fails first."""
        if not self._is_announced:
            self._is_announced = True
            self.on_change(self)


@dataclass(slots=True)
class _Source:
    error: str | None
    since_s: float


class SourceStates:
    """States of up to MAX_SOURCES sources, each with the time since when it works or fails.

    Times are kept by the monotonic clock: a clock that is set after the start does not change their age.
    """

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}

    def report(self, name: str, error: str | None, now_s: float) -> bool:
        """Set the state of a source: None means that it works. Return whether this is a change.

        A source beyond the bound is not reported, and logged once: the hub shows the first ones.
        """
        name = shorten(name, MAX_SOURCE_NAME)
        error = None if error is None else shorten(error, MAX_SOURCE_ERROR)
        known = self._sources.get(name)
        if known is None:
            if len(self._sources) == MAX_SOURCES:
                _log.warning("source %s is not reported to the hub: an agent has at most %d", name, MAX_SOURCES)
                return False
            self._sources[name] = _Source(error, now_s)
            return True
        if known.error == error:
            return False
        if (known.error is None) != (error is None):
            known.since_s = now_s
        known.error = error
        return True

    def snapshot(self, *, now_s: float, time_ns: int) -> list[SourceState]:
        """Return all states, with the times at which they began by the clock that shows `time_ns`."""
        return [
            SourceState(
                name,
                source.error is None,
                max(0, time_ns - round((now_s - source.since_s) * NS_PER_S)),
                source.error or "",
            )
            for name, source in self._sources.items()
        ]


def shorten(text: str, max_length: int) -> str:
    """Return a printable text of 1 to `max_length` characters; the end of a longer one is replaced by an ellipsis."""
    text = "".join(letter if letter.isprintable() else "�" for letter in text) or "?"
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"
