"""The state machine of a command: every state with everything that can happen."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from hub.model.command import (
    MAX_RETURNS,
    CommandPhase,
    CommandRecord,
    Turn,
    Undelivered,
    cancelled,
    created_event,
    deadline_of,
    deadline_passed,
    ended_event,
    new_command,
    reported,
    sent,
    to_repeat,
    to_send,
    turn_of,
    undelivered,
)
from wire.device import CommandState
from wire.limits import MAX_COMMANDS_SENT
from wire.timestamp import NS_PER_S

ID = "0123456789abcdef"
LATER = 100 * NS_PER_S


def queued(ttl_s: float | None = 50, now_ns: int = 0, id: str = ID) -> CommandRecord:
    return new_command(
        id=id, device="pump", name="stop", parameters={}, operator="operator o", now_ns=now_ns, timeout_ms=10_000,
        ttl_s=ttl_s,
    )  # fmt: skip


def report(state: Any, now_ns: int = 3) -> Any:
    return partial(reported, report=CommandState(ID, state, 1, "code", "message", "result"), now_ns=now_ns)


STEPS: dict[str, Any] = {
    "sent": partial(sent, now_ns=1),
    "received": report("received"),
    "succeeded": report("succeeded"),
    "deadline": lambda record: deadline_passed(record, LATER, record.state),
    "cancel": partial(cancelled, operator="operator o", now_ns=2),
    "undelivered": partial(undelivered, why=Undelivered(ID, "code", "message"), now_ns=3),
}
WAYS = {
    "queued": [],
    "sent": ["sent"],
    "received": ["sent", "received"],
    "succeeded": ["sent", "received", "succeeded"],
    "expired": ["deadline"],
    "timed_out": ["sent", "deadline"],
    "cancelled": ["cancel"],
}
TABLE = {
    "queued": {
        "sent": "sent", "received": "received", "succeeded": "succeeded", "deadline": "expired", "cancel": "cancelled"
    },
    "sent": {
        "received": "received", "succeeded": "succeeded", "deadline": "timed_out", "undelivered": "queued"
    },
    "received": {"succeeded": "succeeded", "deadline": "timed_out"},
    "succeeded": {},
    "expired": {"received": "expired", "succeeded": "succeeded"},
    "timed_out": {"received": "timed_out", "succeeded": "succeeded"},
    "cancelled": {"received": "cancelled", "succeeded": "succeeded"},
}  # fmt: skip
"""(state, what happens) → the state after it. Of what is missing nothing follows. A report counts in every state but
after another result: a hub that was restored from a copy may not know that it sent the command."""


def after(steps: list[str]) -> CommandRecord:
    record = queued()
    for step in steps:
        record = STEPS[step](record)
    return record


@pytest.mark.parametrize("state", WAYS)
@pytest.mark.parametrize("step", STEPS)
def test_a_state_changes_as_the_table_has_it(state: str, step: str) -> None:
    """With the time and the reason. After the hub has stopped waiting, a report is late."""
    record = after(WAYS[state])
    assert record.state.value == state
    changed = STEPS[step](record)
    if step not in TABLE[state]:
        assert changed is None
        return
    assert changed.state.value == TABLE[state][step]
    assert changed.changes[:-1] == record.changes
    assert changed.late is (step in ("received", "succeeded") and not record.state.is_open)
    assert changed.result == ("result" if step == "succeeded" else None)
    if step != "sent":
        assert (changed.changes[-1].code, changed.changes[-1].message) > ("", "")


def test_a_command_that_reaches_nobody_waits_again_if_it_can() -> None:
    """A queued one in its time, and not without end. The operator of a call learns that it reached nobody."""
    why = Undelivered(ID, "no_subscriber", "nobody has subscribed")

    def returned(record: CommandRecord, now_ns: int = 3) -> CommandRecord:
        on_its_way = sent(record, now_ns=2)
        assert on_its_way is not None
        changed = undelivered(on_its_way, why, now_ns)
        assert changed is not None
        assert (changed.reason.code, changed.reason.message) == (why.code, why.message)
        return changed

    assert returned(queued(ttl_s=None)).state is CommandPhase.REJECTED
    assert returned(queued(), LATER).state is CommandPhase.EXPIRED
    record = queued()
    for _ in range(MAX_RETURNS):
        record = returned(record)
        assert record.state is CommandPhase.QUEUED
    assert returned(record).state is CommandPhase.REJECTED


def test_the_deadline_depends_on_how_the_command_was_sent() -> None:
    """A call has one for everything; a queued command has its time to live, and then the time-out of the result."""
    received_ns = 60 * NS_PER_S
    for record, before_ns, after_ns in ((queued(None), 10, 10), (queued(50), 50, 70)):
        on_way = sent(record, 1)
        assert on_way is not None
        assert deadline_of(record, None) == deadline_of(on_way, None) == before_ns * NS_PER_S
        received = report("received", received_ns)(on_way)
        turn = turn_of([received], None, received_ns)
        assert deadline_of(received, turn) == after_ns * NS_PER_S
        assert deadline_of(received, turn, LATER) == LATER
        assert deadline_passed(received, LATER, CommandPhase.SENT) is None
        ended = deadline_passed(received, LATER, CommandPhase.RECEIVED)
        assert ended is not None
        assert (deadline_of(ended, None, LATER), ended.reason.code) == (None, "no_result")


def test_the_time_out_of_a_queued_command_begins_with_its_turn() -> None:
    """That is the end of the command before it at the device."""
    first, second = (report("received", 5)(sent(queued(id=id), 1)) for id in ("a" * 16, "b" * 16))
    turn = turn_of([first, second], None, 5)
    assert turn == turn_of([first, second], turn, 6) == Turn(first.id, 5)
    assert (deadline_of(first, turn), deadline_of(second, turn)) == (5 + 10 * NS_PER_S, None)
    turn = turn_of([second], turn, 9 * NS_PER_S)
    assert deadline_of(second, turn) == 19 * NS_PER_S
    assert turn_of([], turn, LATER) is None


def test_a_command_that_is_sent_once_ends_after_its_time_out() -> None:
    """Nothing can happen later that would send it again. A late result still counts."""
    record = sent(queued(50), 45 * NS_PER_S, repeats=False)
    assert record is not None
    assert record.is_sent_once
    assert record.reason.code == "sent_once"
    assert to_repeat([record], 46 * NS_PER_S) == []
    assert deadline_of(record, None) == 55 * NS_PER_S
    ended = deadline_passed(record, 55 * NS_PER_S, CommandPhase.SENT)
    assert ended is not None
    assert (ended.state, ended.reason.code) == (CommandPhase.TIMED_OUT, "not_confirmed")
    assert "sent once" in ended.reason.message
    assert report("succeeded", 60 * NS_PER_S)(ended).late


def test_a_command_without_an_answer_holds_no_others_back() -> None:
    """After its time-out the next one is sent. It is sent again after a reconnect, as long as there is time."""
    on_way, waiting = [after(["sent"])] * MAX_COMMANDS_SENT, [queued()]
    held_until_ns = 1 + 10 * NS_PER_S
    assert to_send([*on_way, *waiting], held_until_ns - 1) == []
    assert to_send([*on_way, *waiting], held_until_ns) == waiting
    assert to_repeat(on_way, held_until_ns) == on_way


def test_nothing_is_sent_after_its_time() -> None:
    """Neither for the first time nor again, as after a restart of the hub that took longer."""
    record, on_way = queued(), after(["sent"])
    before_ns, over_ns = record.expires_ns - 1, record.expires_ns
    assert (to_send([record], before_ns), to_repeat([on_way], before_ns)) == ([record], [on_way])
    assert (to_send([record], over_ns), to_repeat([on_way], over_ns)) == ([], [])
    assert sent(record, over_ns) is None


def test_no_more_is_sent_than_the_limit() -> None:
    """In order. Those that the device has received count for a queue, and not for a call."""
    on_way = [after(["sent"])] * (MAX_COMMANDS_SENT - 3)
    waiting = [queued(now_ns=number) for number in range(5)]
    received = after(["sent", "received"])
    assert to_send([*on_way, received, *waiting], 9) == waiting[:2]
    calls = [queued(None, now_ns=number) for number in range(5)]
    assert to_send([*on_way, received, *calls], 9) == calls[:3]
    assert to_send([*on_way, received, *waiting, *calls], 9) == waiting[:2]


def test_the_events_of_a_command_say_who_and_how_it_ended() -> None:
    """None for the states between."""
    begin, end = created_event(after(["sent"])), ended_event(after(["sent", "deadline", "succeeded"]), 7)
    assert (begin.kind, begin.detail, begin.time_ns) == ("command", f"stop (queue {ID}) by operator o", 0)
    assert end is not None
    assert (end.kind, end.detail) == ("command succeeded", f"stop ({ID}, late): code: message")
    assert ended_event(after(["sent"]), 7) is None
    assert {phase for phase in CommandPhase if phase.is_final} | {CommandPhase.TIMED_OUT} == {
        phase for phase in CommandPhase if not phase.is_open
    }
