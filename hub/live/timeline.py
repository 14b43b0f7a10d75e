"""Connection timeline of a device: the states that it had, from its events and those of the hub. Pure.

The registry keeps at most 200 events of a device apart from those of its commands, and those bound the timeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from hub.live.presence import OFFLINE, READINGS_AGAIN, SILENT
from hub.model.event import Event
from hub.model.presence import DevicePresence
from wire.live import Presence

HUB_OFF = "the hub was off"

_LEFT = ("closed by the agent", "the agent went away", "the broker reports")
"""Beginnings of the reasons of a device that left in order: it is offline at once."""

SpanState = Presence | Literal["unknown"]


class PresenceSpan(NamedTuple):
    """A state of a device from one time to another; None: until now. `unknown`: the hub was off."""

    state: SpanState
    from_ns: int
    to_ns: int | None
    reason: str


class _Timeline:
    """States of one device, in order of time. `link` is its state while the hub is off, or it is retired."""

    def __init__(self) -> None:
        self.spans: list[PresenceSpan] = []
        self._link: Presence = "unconnected"
        self._is_off = self._is_retired = False

    def apply(self, event: Event) -> None:
        """Apply the next event."""
        match event.kind:
            case "hub started":
                self._is_off = False
            case "hub stopped" | "hub ended without a stop":
                self._is_off = True
            case "retired":
                self._is_retired = True
            case "back in service":
                self._is_retired = False
            case "connected":
                self._link = "connected"
            case "disconnected":
                self._link = "offline" if event.detail.startswith(_LEFT) else "reconnecting"
            case kind if kind == SILENT:
                self._link = "silent"
            case kind if kind == READINGS_AGAIN:
                self._link = "connected"
            case kind if kind == OFFLINE:
                self._link = "offline"
                last = self.spans[-1] if self.spans else None
                if last is not None and last.state == "reconnecting":
                    self.spans[-1] = last._replace(state="offline")
                    return
            case _:
                return
        self._begin(event)

    def _begin(self, event: Event) -> None:
        state: SpanState = "retired" if self._is_retired else "unknown" if self._is_off else self._link
        last = self.spans[-1] if self.spans else None
        if last is not None and last.state == state:
            return
        if last is None and event.device is None:
            return  # nothing is known of the device before its first event
        if last is not None:
            self.spans[-1] = last._replace(to_ns=event.time_ns)
        reason = HUB_OFF if state == "unknown" else event.detail if event.device is not None else ""
        self.spans.append(PresenceSpan(state, event.time_ns, None, reason))


def presence_timeline(events: Sequence[Event], hub_events: Sequence[Event], now: DevicePresence) -> list[PresenceSpan]:
    """Return the spans of a device, the newest first, from its events and those of the hub, in any order.

    The last one is the present state `now`. Spans without a length are left out.
    """
    timeline = _Timeline()
    for event in sorted([*events, *hub_events], key=lambda event: (event.time_ns, event.id)):
        timeline.apply(event)
    spans = [span for span in timeline.spans if span.to_ns is None or span.to_ns > span.from_ns]
    if spans and spans[-1].state != now.state:
        last = spans[-1]
        if {last.state, now.state} == {"reconnecting", "offline"} or now.since_ns <= last.from_ns:
            spans[-1] = last._replace(state=now.state)
        else:
            spans[-1] = last._replace(to_ns=now.since_ns)
            spans.append(PresenceSpan(now.state, now.since_ns, None, ""))
    elif not spans and now.since_ns:
        spans.append(PresenceSpan(now.state, now.since_ns, None, ""))
    return _merged(spans)[::-1]


def _merged(spans: Sequence[PresenceSpan]) -> list[PresenceSpan]:
    """Return the spans with neighbours of the same state as one."""
    merged: list[PresenceSpan] = []
    for span in spans:
        if merged and merged[-1].state == span.state:
            merged[-1] = merged[-1]._replace(to_ns=span.to_ns)
        else:
            merged.append(span)
    return merged
