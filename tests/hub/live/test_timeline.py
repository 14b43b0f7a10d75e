"""The connection timeline of a device, made of events."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hub.http.device_endpoint import ORDERLY_CLOSES, why_closed
from hub.live.timeline import HUB_OFF, presence_timeline
from hub.model.event import Event
from hub.model.presence import DevicePresence

KINDS = ("connected", "disconnected", "silent", "readings again", "offline", "retired", "back in service", "superseded")
HUB_KINDS = ("hub started", "hub stopped", "hub ended without a stop", "token created")


def events_of(*kinds: tuple[int, str] | tuple[int, str, str], device: str | None = "d") -> list[Event]:
    """Return events from times, kinds and details."""
    return [Event(0, device, time_ns, kind, *(detail or ("",))) for time_ns, kind, *detail in kinds]


def spans(events: list[Event], hub_events: list[Event], now: DevicePresence) -> list[tuple[str, int, int | None]]:
    """Return the spans, the oldest first."""
    return [span[:3] for span in reversed(presence_timeline(events, hub_events, now))]


def test_states_follow_each_other() -> None:
    """A short break is a reconnection. One that became offline is offline from its beginning."""
    events = events_of(
        (10, "connected"), (20, "disconnected", "the connection broke"), (25, "connected"), (40, "silent"),
        (50, "readings again"), (60, "disconnected", "the connection broke"), (120, "offline"), (200, "connected"),
    )  # fmt: skip
    assert spans(events, [], DevicePresence("connected", 200)) == [
        ("connected", 10, 20),
        ("reconnecting", 20, 25),
        ("connected", 25, 40),
        ("silent", 40, 50),
        ("connected", 50, 60),
        ("offline", 60, 200),
        ("connected", 200, None),
    ]


def test_while_the_hub_was_off_nothing_is_known() -> None:
    """The agents that a stop disconnects are no news, and neither is a device that returns."""
    events = events_of((10, "connected"), (31, "disconnected", "closed with 1012"), (45, "connected"))
    of_hub = events_of((5, "hub started"), (30, "hub stopped"), (40, "hub started"), device=None)
    timeline = presence_timeline(events, of_hub, DevicePresence("connected", 45))
    assert [span[:3] for span in reversed(timeline)] == [
        ("connected", 10, 30),
        ("unknown", 30, 40),
        ("reconnecting", 40, 45),
        ("connected", 45, None),
    ]
    assert timeline[2].reason == HUB_OFF


def test_an_agent_that_was_stopped_is_offline_at_once() -> None:
    """Every reason of an orderly close is known to the timeline."""
    for code in ORDERLY_CLOSES:
        reason = why_closed({"type": "websocket.disconnect", "code": code})
        events = events_of((10, "connected"), (20, "disconnected", reason))
        assert spans(events, [], DevicePresence("offline", 20)) == [("connected", 10, 20), ("offline", 20, None)]


@given(
    st.lists(st.tuples(st.integers(1, 99), st.sampled_from(KINDS)), max_size=20),
    st.lists(st.tuples(st.integers(1, 99), st.sampled_from(HUB_KINDS)), max_size=8),
    st.sampled_from(("connected", "reconnecting", "silent", "offline", "retired", "unconnected")),
)
def test_spans_follow_each_other_whatever_the_events(
    kinds: list[tuple[int, str]], hub_kinds: list[tuple[int, str]], state: str
) -> None:
    """Each span ends where the next one begins, has a length and another state; the last one is the present state."""
    now = DevicePresence(state, 100)  # type: ignore[arg-type]
    found = spans(events_of(*kinds), events_of(*hub_kinds, device=None), now)
    assert found[-1][0] == state
    assert found[-1][2] is None
    for (before, begin_ns, end_ns), (after, next_ns, _) in pairwise(found):
        assert begin_ns < (end_ns or 0) == next_ns
        assert before != after
