"""The two ends of a device's conversation, each by itself."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.transitions import check_transition, refused
from wire import device
from wire.device_session import TRANSITIONS, AgentDeviceSession, DeviceSessionState, HubDeviceSession
from wire.errors import Code, WireError

EPOCH = "0123456789abcdef"
HELLO = device.Hello("pump-7", EPOCH, next_seq=100, durable=True, time=0)
WELCOME = device.Welcome("hub-1", acked=0, window=8, max_batch_bytes=1000, time=0, retry_ms=10)
AGENT_EXAMPLES: dict[type[object], Any] = {
    device.Hello: HELLO,
    device.Declare: device.Declare([]),
    device.Data: device.Data(1, [], {}),
    device.Gap: device.Gap(1, 1, ""),
    device.TimeReply: device.TimeReply(0, 0),
    device.Status: device.Status(0, 1),
    device.Refused: device.Refused(1, "port", 0, 0, [device.SourceRefusal("type", 1, "")]),
    device.DeviceEvent: device.DeviceEvent(1, 0, "restarted"),
    device.CommandState: device.CommandState("0123456789abcdef", "received", 0),
    device.Reported: device.Reported(0),
}
HUB_EXAMPLES: dict[type[object], Any] = {
    device.Welcome: WELCOME,
    device.Ack: device.Ack(1),
    device.Reject: device.Reject(1, Code.EMPTY, ""),
    device.Error: device.Error(Code.BUSY, ""),
    device.TimeProbe: device.TimeProbe(0),
    device.Command: device.Command("0123456789abcdef", "stop", {}, 0, 1),
    device.CommandRecorded: device.CommandRecorded("0123456789abcdef", "received"),
    device.Desired: device.Desired(1, {}),
}


def hub_end(*, acked: int = 0, received: int = 0, window: int = 8, next_seq: int = 100) -> HubDeviceSession:
    """A hub's end that is open."""
    session = HubDeviceSession(window=window)
    session.receive(device.Hello("pump-7", EPOCH, next_seq=next_seq, durable=True, time=0))
    session.welcome(acked=acked, received=received)
    return session


def agent_end(*, acked: int = 0, window: int = 8, next_seq: int = 100) -> AgentDeviceSession:
    """An agent's end that is open."""
    session = AgentDeviceSession(next_seq=next_seq)
    session.receive(device.Welcome("hub-1", acked, window, 1000, 0, 10))
    return session


def test_the_examples_are_all_messages() -> None:
    """No message is left out of the tests below."""
    assert set(AGENT_EXAMPLES) == set(get_args(device.AgentMessage))
    assert set(HUB_EXAMPLES) == set(get_args(device.HubMessage))


@pytest.mark.parametrize(("state", "kind"), list(product(DeviceSessionState, AGENT_EXAMPLES)))
def test_the_hubs_end_allows_what_the_table_has(state: DeviceSessionState, kind: type[object]) -> None:
    """Every pair of state and message leads where the table says; one that is missing there is refused."""
    check_transition(HubDeviceSession(window=8), state, AGENT_EXAMPLES[kind], TRANSITIONS)


@pytest.mark.parametrize(("state", "kind"), list(product(DeviceSessionState, HUB_EXAMPLES)))
def test_the_agents_end_allows_what_the_table_has(state: DeviceSessionState, kind: type[object]) -> None:
    """Every pair of state and message leads where the table says; one that is missing there is refused."""
    check_transition(AgentDeviceSession(next_seq=100), state, HUB_EXAMPLES[kind], TRANSITIONS)


def test_the_table_is_what_the_document_draws() -> None:
    """A conversation is greeting until the welcome, then open; an error ends it, and nothing comes after that."""
    allowed = {
        state: {
            kind.__name__
            for s, kind in TRANSITIONS
            if s is state and TRANSITIONS[s, kind] is not DeviceSessionState.CLOSED
        }
        for state in DeviceSessionState
    }
    assert allowed == {
        DeviceSessionState.GREETING: {"Hello", "Welcome"},
        DeviceSessionState.OPEN: {
            "Declare",
            "Data",
            "Gap",
            "TimeReply",
            "Status",
            "Refused",
            "DeviceEvent",
            "Command",
            "CommandState",
            "CommandRecorded",
            "Desired",
            "Reported",
            "Ack",
            "Reject",
            "TimeProbe",
        },
        DeviceSessionState.CLOSED: set(),
    }
    assert [kind.__name__ for _, kind in TRANSITIONS if TRANSITIONS[_, kind] is DeviceSessionState.CLOSED] == [
        "Error",
        "Error",
    ]


def test_a_second_hello_is_refused() -> None:
    """An agent says who it is once."""
    session = HubDeviceSession(window=8)
    session.receive(HELLO)
    with refused(Code.UNEXPECTED_MESSAGE):
        session.receive(HELLO)


@pytest.mark.parametrize("state", [DeviceSessionState.GREETING, DeviceSessionState.CLOSED])
def test_batches_are_taken_only_while_open(state: DeviceSessionState) -> None:
    """Before the welcome and after the end nothing is taken."""
    session = hub_end()
    session.state = state
    with refused(Code.UNEXPECTED_MESSAGE):
        session.receive_batches(1, 1)
    assert session.received == 0


def test_batches_are_taken_in_order_and_once() -> None:
    """The next number is taken, an older one is a duplicate, a later one is refused with what was expected."""
    session = hub_end(acked=4, received=4)
    assert session.receive_batches(5, 5)
    assert session.receive_batches(6, 6)
    assert not session.receive_batches(5, 5)
    assert not session.receive_batches(1, 1)
    with refused(Code.UNEXPECTED_SEQ) as raised:
        session.receive_batches(8, 8)
    assert raised.value.seq == 7
    assert (session.received, session.acked) == (6, 4)


def test_the_window_bounds_what_is_not_acknowledged() -> None:
    """As many batches as the window are taken; a commit makes room."""
    session = hub_end(window=2)
    assert session.receive_batches(1, 1)
    assert session.receive_batches(2, 2)
    with refused(Code.WINDOW_EXCEEDED):
        session.receive_batches(3, 3)
    assert session.received == 2
    assert session.commit(1) == device.Ack(1)
    assert session.receive_batches(3, 3)


@pytest.mark.parametrize(
    ("first", "last", "taken", "received"),
    [
        (11, 20, True, 20),
        (5, 20, True, 20),
        (5, 11, True, 11),
        (5, 10, False, 10),
        (1, 1, False, 10),
        (11, 5, False, 10),
        (20, 5, False, 10),
    ],
)
def test_only_what_is_new_of_a_gap_is_taken(first: int, last: int, taken: bool, received: int) -> None:
    """A gap that begins before what is received reaches as far as it says, and never moves anything back."""
    session = hub_end(acked=10, received=10)
    assert session.receive_batches(first, last) is taken
    assert session.received == received


def test_a_gap_that_leaves_a_number_out_is_refused() -> None:
    """Also when it is written backwards."""
    session = hub_end(acked=10, received=10)
    for first, last in ((12, 20), (30, 20)):
        with refused(Code.UNEXPECTED_SEQ):
            session.receive_batches(first, last)
    assert session.received == 10


def test_a_long_gap_needs_one_place_and_holds_up_what_follows_until_it_is_durable() -> None:
    """Both ends count numbers: after a gap of any length the window is full until it is acknowledged."""
    agent, hub = agent_end(window=8), hub_end(window=8)
    agent.send(1, 5000)
    assert hub.receive_batches(1, 5000)
    assert agent.room < 1
    with refused(Code.WINDOW_EXCEEDED):
        hub.receive_batches(5001, 5001)
    ack = hub.commit(5000)
    assert ack is not None
    agent.receive(ack)
    assert agent.room == 8
    assert hub.receive_batches(5001, 5001)


def test_the_window_is_judged_as_the_agent_sees_it() -> None:
    """A gap that begins within the window is taken, though an older connection's batches fill more than the window."""
    agent, hub = agent_end(acked=2, window=4), hub_end(acked=2, received=10, window=4)
    agent.send(3, 12)
    assert hub.receive_batches(3, 12)
    assert hub.received == 12


def test_an_acknowledgement_is_made_once_and_only_while_open() -> None:
    """A seq that is acknowledged already, or arrives before the welcome or after the end, gives no ack."""
    session = hub_end(acked=3, received=9)
    assert session.commit(3) is None
    assert session.commit(5) == device.Ack(5)
    assert session.commit(5) is None
    assert session.commit(4) is None
    session.close()
    assert session.commit(9) is None
    assert HubDeviceSession(window=8).commit(9) is None


def test_batches_on_their_way_from_an_older_connection_are_acknowledged_here() -> None:
    """A batch that the agent sends again is a duplicate, and its commit belongs to the new session."""
    session = hub_end(acked=2, received=5)
    assert not session.receive_batches(3, 3)
    assert session.receive_batches(6, 6)
    assert session.commit(5) == device.Ack(5)


def test_a_spool_that_is_older_than_what_was_received_is_refused() -> None:
    """It was restored from a copy: its next numbers would take the place of others."""
    with refused(Code.ROLLED_BACK):
        hub_end(acked=3, received=100, next_seq=100)
    assert hub_end(acked=3, received=99, next_seq=100).state is DeviceSessionState.OPEN


def test_the_agent_refuses_a_welcome_beyond_its_spool() -> None:
    """The same rule at the other end."""
    with refused(Code.ROLLED_BACK):
        agent_end(acked=100, next_seq=100)
    assert agent_end(acked=99, next_seq=100).sent == 99


def test_the_agent_continues_after_the_acknowledged_batch() -> None:
    """A batch that was acknowledged on an older connection is not sent again."""
    session = agent_end(acked=41, window=8)
    assert (session.acked, session.sent, session.room) == (41, 41, 8)
    session.send(42, 42)
    assert session.room == 7
    with refused(Code.UNEXPECTED_SEQ):
        session.send(44, 44)
    with refused(Code.UNEXPECTED_SEQ):
        session.send(43, 42)


def test_an_acknowledgement_beyond_what_was_sent_moves_both() -> None:
    """A batch of an older connection may become durable while the new one begins to send it again."""
    session = agent_end(acked=4)
    session.send(5, 5)
    session.receive(device.Ack(10))
    assert (session.acked, session.sent) == (10, 10)
    session.send(11, 11)


def test_an_acknowledgement_never_decreases() -> None:
    """An older one changes nothing."""
    session = agent_end(acked=4)
    session.receive(device.Ack(2))
    assert session.acked == 4


@pytest.mark.parametrize("message", [device.Ack(100), device.Reject(100, Code.EMPTY, "")])
def test_an_answer_to_a_batch_that_never_was_is_refused(message: Any) -> None:
    """The hub mixes something up; nothing is trimmed for it."""
    session = agent_end(next_seq=100)
    with refused(Code.UNEXPECTED_SEQ):
        session.receive(message)
    assert session.acked == 0
    session.receive(device.Ack(99))
    assert session.acked == 99


def test_the_agent_respects_the_window() -> None:
    """With a full window nothing is sent; an acknowledgement makes room."""
    session = agent_end(window=2)
    session.send(1, 1)
    session.send(2, 2)
    with refused(Code.WINDOW_EXCEEDED):
        session.send(3, 3)
    session.receive(device.Ack(2))
    session.send(3, 3)


@pytest.mark.parametrize("close", [True, False])
def test_the_agent_sends_nothing_while_not_open(close: bool) -> None:
    """Neither before the welcome nor after the end."""
    session = agent_end() if close else AgentDeviceSession(next_seq=100)
    if close:
        session.close()
    assert session.room == 0
    with refused(Code.WINDOW_EXCEEDED):
        session.send(1, 1)


def test_a_hub_that_forgot_is_reported_of_the_loss() -> None:
    """Restored from a copy, it asks for batches that are acknowledged and trimmed; a gap brings both ends together."""
    agent, hub = agent_end(acked=0, next_seq=501), hub_end(next_seq=501)
    agent.send(1, 480)
    assert hub.receive_batches(1, 480)
    ack = hub.commit(480)
    assert ack is not None
    agent.receive(ack)
    agent.send(481, 481)
    assert hub.receive_batches(481, 481)


@given(st.integers(0, 50), st.integers(0, 20), st.integers(1, 70), st.integers(1, 70))
def test_received_has_no_hole_and_never_decreases(acked: int, way: int, first: int, last: int) -> None:
    """Whatever comes, `received` stays or becomes `last`, and everything before it is covered."""
    session = hub_end(acked=acked, received=acked + way, window=1000)
    before = session.received
    try:
        taken = session.receive_batches(first, last)
    except WireError as error:
        assert error.code is Code.UNEXPECTED_SEQ
        assert error.seq == before + 1 < first
        taken = False
    assert session.received == (last if taken else before)
    assert session.received >= before
    assert not taken or (first <= before + 1 and last > before)
