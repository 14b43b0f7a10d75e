"""The two ends of a dashboard's conversation, each by itself; golden conversations prove the viewer's end, too."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest

from tests.wire.transitions import check_transition, refused
from wire import limits, live
from wire.errors import Code
from wire.frames import Kind, Update
from wire.live_session import (
    PROGRESS,
    PROGRESS_OF_KIND,
    TRANSITIONS,
    HubLiveSession,
    LiveSessionState,
    Progress,
    ViewerSession,
    ViewerSubscription,
)

VIEWER_EXAMPLES: dict[type[object], Any] = {
    live.Authenticate: live.Authenticate("token"),
    live.Subscribe: live.Subscribe(1, ["*"], ["*"]),
    live.Unsubscribe: live.Unsubscribe(1),
    live.WatchFleet: live.WatchFleet(),
    live.Ping: live.Ping(0.0),
}
HUB_EXAMPLES: dict[type[object], Any] = {
    live.Welcome: live.Welcome("hub-1", "1", "j", 0, 0, "viewer"),
    live.Schema: live.Schema(7, 0, []),
    live.Subscribed: live.Subscribed(1, 7, "history"),
    live.CaughtUp: live.CaughtUp(1, 10),
    live.Reset: live.Reset(1, "too_old"),
    live.Fleet: live.Fleet([]),
    live.DeviceState: live.DeviceState("pump-7", True),
    live.DeviceStates: live.DeviceStates([]),
    live.FleetProgress: live.FleetProgress([], [], [], []),
    live.Pong: live.Pong(0.0),
    live.Error: live.Error(Code.BUSY, ""),
}


def asked(id: int, **fields: Any) -> live.Subscribe:
    """A subscription to everything."""
    return live.Subscribe(id, ["*"], ["*"], **fields)


def open_hub_end() -> HubLiveSession:
    """A hub's end that is open."""
    session = HubLiveSession()
    session.open()
    return session


def test_the_examples_are_all_messages() -> None:
    """No message is left out of the tests below."""
    assert set(VIEWER_EXAMPLES) == set(get_args(live.ViewerMessage))
    assert set(HUB_EXAMPLES) == set(get_args(live.LiveMessage))


@pytest.mark.parametrize(("state", "kind"), list(product(LiveSessionState, VIEWER_EXAMPLES)))
def test_the_hubs_end_allows_what_the_table_has(state: LiveSessionState, kind: type[object]) -> None:
    """Every pair of state and message leads where the table says; one that is missing there is refused."""
    check_transition(HubLiveSession(), state, VIEWER_EXAMPLES[kind], TRANSITIONS)


@pytest.mark.parametrize(("state", "kind"), list(product(LiveSessionState, HUB_EXAMPLES)))
def test_the_viewers_end_allows_what_the_table_has(state: LiveSessionState, kind: type[object]) -> None:
    """Every pair of state and message leads where the table says; one that is missing there is refused."""
    check_transition(ViewerSession(), state, HUB_EXAMPLES[kind], TRANSITIONS)


def test_an_error_with_an_id_leaves_the_connection_open() -> None:
    """It concerns one subscription only."""
    session = ViewerSession(LiveSessionState.OPEN)
    session.receive(live.Error(Code.TOO_MANY, "", 5))
    assert session.state is LiveSessionState.OPEN


@pytest.mark.parametrize(("progress", "kind"), list(product(Progress, [live.Subscribed, live.CaughtUp, live.Reset])))
def test_a_subscription_follows_the_transition_table(progress: Progress, kind: type[object]) -> None:
    """Every pair of progress and message leads where the table says; one that is missing there is refused."""
    session = ViewerSession(LiveSessionState.OPEN, "j", {1: ViewerSubscription(asked(1), progress, 7)})
    after = PROGRESS.get((progress, kind))
    if after is None:
        with refused(Code.UNEXPECTED_MESSAGE):
            session.receive(HUB_EXAMPLES[kind])
        assert session.subscriptions[1] == ViewerSubscription(asked(1), progress, 7)
    else:
        session.receive(HUB_EXAMPLES[kind])
        assert session.subscriptions[1].progress is after


@pytest.mark.parametrize(("progress", "kind"), list(product(Progress, Kind)))
def test_a_named_frame_is_accepted_in_the_states_of_the_table(progress: Progress, kind: Kind) -> None:
    """Past readings while a subscription catches up, live ones when it is live; anything else is refused."""
    session = ViewerSession(LiveSessionState.OPEN, "j", {1: ViewerSubscription(asked(1), progress, 7)}, {7: []})
    update = Update(kind, 7, 1, 0, 10, [], [])
    if PROGRESS_OF_KIND[kind] is progress:
        assert session.receive_update(update) == [1]
    else:
        with refused(Code.UNEXPECTED_MESSAGE):
            session.receive_update(update)
        assert session.subscriptions[1].cursor is None


@pytest.mark.parametrize("kind", Kind)
def test_a_frame_for_everybody_is_for_those_that_are_live(kind: Kind) -> None:
    """Only live frames are shared."""
    subscriptions = {
        number: ViewerSubscription(asked(number), progress, 7) for number, progress in enumerate(Progress, 1)
    }
    session = ViewerSession(LiveSessionState.OPEN, "j", subscriptions, {7: []})
    if kind is Kind.LIVE:
        live_one = list(Progress).index(Progress.LIVE) + 1
        assert session.receive_update(Update(kind, 7, 0, 0, 10, [], [])) == [live_one]
    else:
        with refused(Code.UNEXPECTED_MESSAGE):
            session.receive_update(Update(kind, 7, 0, 0, 10, [], []))


def test_a_token_may_replace_a_cookie_with_the_first_message() -> None:
    """It may cross the welcome. Later, or in a session that a token has opened, it is refused."""
    session = HubLiveSession()
    session.open(replaceable=True)
    assert session.receive(live.Authenticate("token")) is None
    assert session.state is LiveSessionState.OPEN
    with refused(Code.UNEXPECTED_MESSAGE):
        session.receive(live.Authenticate("token"))
    session.open(replaceable=True)
    session.receive(live.Ping(0.0))
    with refused(Code.UNEXPECTED_MESSAGE):
        session.receive(live.Authenticate("token"))
    with refused(Code.UNEXPECTED_MESSAGE):
        open_hub_end().receive(live.Authenticate("token"))


def test_the_hub_remembers_the_subscriptions_there_are() -> None:
    """They are there from subscribe to unsubscribe, or to the end of the connection."""
    session = open_hub_end()
    assert session.receive(asked(1)) is None
    assert session.receive(asked(2)) is None
    assert session.receive(live.Unsubscribe(1)) is None
    assert session.subscriptions == {2: asked(2)}
    session.close()
    assert not session.subscriptions
    assert session.state is LiveSessionState.CLOSED


@pytest.mark.parametrize("id", [1, 3, 5])
def test_ids_count_up_within_a_connection(id: int) -> None:
    """An id that is or was in use, or is smaller than one that was, is rejected, and the connection continues."""
    session = open_hub_end()
    session.receive(asked(3))
    session.receive(asked(5))
    session.receive(live.Unsubscribe(3))
    refusal = session.receive(asked(id))
    assert refusal is not None
    assert (refusal.code, refusal.id) == (Code.DUPLICATE_SUBSCRIPTION, id)
    assert set(session.subscriptions) == {5}
    assert session.receive(asked(6)) is None


def test_a_connection_has_so_many_subscriptions_and_no_more() -> None:
    """One more is rejected, and the connection continues; an end makes room."""
    session = open_hub_end()
    for number in range(1, limits.MAX_SUBSCRIPTIONS + 1):
        assert session.receive(asked(number)) is None
    refusal = session.receive(asked(1000))
    assert refusal is not None
    assert (refusal.code, refusal.id) == (Code.TOO_MANY, 1000)
    session.receive(live.Unsubscribe(7))
    assert session.receive(asked(1000)) is None


def test_ending_what_is_not_there_is_refused() -> None:
    """The connection continues."""
    refusal = open_hub_end().receive(live.Unsubscribe(9))
    assert refusal is not None
    assert (refusal.code, refusal.id) == (Code.UNKNOWN_SUBSCRIPTION, 9)


def test_a_hub_accepts_the_first_message_of_a_viewer() -> None:
    """After reconnects, too, ids count up."""
    viewer = ViewerSession()
    for number in (2, 4, 9):
        viewer.subscribe(asked(number))
    viewer.reconnect()
    viewer.unsubscribe(9)
    with refused(Code.DUPLICATE_SUBSCRIPTION):
        viewer.subscribe(asked(9))
    viewer.subscribe(asked(10))
    hub = open_hub_end()
    assert [hub.receive(message) for message in viewer.opening_messages()] == [None] * 3
    assert list(hub.subscriptions) == [2, 4, 10]
