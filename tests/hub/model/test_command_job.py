"""The state machine of a job: what a hub does next."""

from __future__ import annotations

from typing import Any

import pytest

from hub.model.command import cancelled, deadline_passed, new_command, reported, sent
from hub.model.command_job import (
    CommandJob,
    EndJob,
    JobProgress,
    JobState,
    StartTargets,
    TargetState,
    begun,
    command_id,
    ended,
    event_of_job,
    new_job,
    next_step,
    target_state,
)
from wire.device import CommandState

DEADLINE = 1 + 600_000_000_000


def job(**fields: Any) -> CommandJob:
    given: dict[str, Any] = {
        "id": "a" * 32, "to": ["pump-*", "site=north"], "name": "set_speed", "parameters": {"speed": 3},
        "operator": "operator o1", "now_ns": 1, "life_s": 600, "timeout_ms": 1000, "ttl_s": None,
        "is_confirmed": False, "batch_size": 10, "stop_share": 0.2, "targets": 25,
    }  # fmt: skip
    return new_job(**given | fields)


def progress(devices: list[str] | None = None, /, *, is_begun: bool = False, **counts: int) -> JobProgress:
    return JobProgress({TargetState(name): count for name, count in counts.items()}, is_begun, devices or [])


@pytest.mark.parametrize(
    ("found", "stop_share", "expected"),
    [
        (progress(["a"], pending=25), 0.0, "start"),
        (progress(pending=15, sent=1, succeeded=9), 0.2, "wait"),
        (progress(["a"], pending=15, succeeded=9, failed=1), 0.2, "start"),
        (progress(["a"], pending=15, succeeded=8, refused=1, timed_out=1), 0.2, "stop"),
        (progress(["a"], pending=15, succeeded=8, rejected=2), None, "start"),
        (progress(["a"], pending=15, succeeded=9, expired=1), 0.0, "stop"),
        (progress(["a"], pending=15, succeeded=10), 0.0, "start"),
        (progress(["a"], pending=15, succeeded=1, cancelled=9), 1.0, "start"),
        (progress(["a"], pending=15, failed=10), 1.0, "stop"),
        # A batch that has begun is sent completely: the first answers of a batch say little.
        (progress(["a"], pending=5, queued=1, failed=3, is_begun=True), 0.2, "start"),
        (progress(failed=25, pending=0), 0.2, "complete"),
        (progress(succeeded=25), 0.2, "complete"),
        (progress(), 0.2, "complete"),
    ],
)
def test_the_share_of_failures_stops_a_job_between_two_batches(
    found: JobProgress, stop_share: float | None, expected: str
) -> None:
    """A share of 0 stops at the first failure, None never."""
    match next_step(job(stop_share=stop_share), found, 2):
        case StartTargets(devices):
            assert (expected, devices) == ("start", ["a"])
        case EndJob(state, code):
            assert (expected, code) == (("stop", "too_many_failures") if code else ("complete", ""))
            assert state is (JobState.STOPPED if code else JobState.COMPLETED)
        case None:
            assert expected == "wait"


def test_a_job_ends_at_its_deadline() -> None:
    """Unless all its targets have ended. A queued command of it does not live longer."""
    assert next_step(job(), progress(["a"], pending=1), DEADLINE - 1) == StartTargets(["a"])
    end = next_step(job(), progress(["a"], pending=1, sent=3), DEADLINE)
    assert isinstance(end, EndJob)
    assert (end.state, end.code) == (JobState.STOPPED, "deadline")
    assert next_step(job(), progress(succeeded=1), DEADLINE) == EndJob(JobState.COMPLETED)
    assert job().life_s(2) is None
    assert job(ttl_s=700).life_s(1) == 600
    assert job(ttl_s=7).life_s(1) == 7
    assert job(ttl_s=7).life_s(DEADLINE + 1) == 0


def test_a_job_ends_once_and_has_an_event_for_its_sender_and_its_end() -> None:
    """An ended one does nothing any more."""
    made = job()
    assert made.batches == 3
    event = event_of_job(made)
    assert event is not None
    assert event[1:] == (
        None, 1, "command job", f"set_speed speed=3 to 25 devices (pump-* site=north), call {made.id} by operator o1"
    )  # fmt: skip
    running = begun(made, 2)
    assert running is not None
    assert event_of_job(running) is None
    assert begun(running, 3) is None
    stopped = ended(running, EndJob(JobState.STOPPED, "deadline", "too late"), 3)
    assert stopped is not None
    event = event_of_job(stopped)
    assert event is not None
    assert event[1:] == (None, 3, "command job stopped", f"set_speed ({made.id}): deadline: too late")
    assert ended(stopped, EndJob(JobState.CANCELLED), 4) is None
    assert next_step(stopped, progress(["a"], pending=1), 2) is None
    assert [change.state.value for change in stopped.changes] == ["pending", "running", "stopped"]


def test_a_target_has_the_state_of_its_command_with_the_reason() -> None:
    """A late result counts, and the id of a command follows from the job and the device."""
    record = new_command(
        id=command_id("a", "pump"), device="pump", name="stop", parameters={}, operator="o", now_ns=1, timeout_ms=1,
        ttl_s=1, job="a",
    )  # fmt: skip
    assert command_id("a", "pump") != command_id("b", "pump") != command_id("b", "pump-2")
    assert target_state(record) == (TargetState.QUEUED, "", "")
    taken_back = cancelled(record, "operator o", 2)
    assert taken_back is not None
    assert target_state(taken_back) == (TargetState.CANCELLED, "cancelled", "by operator o")
    on_its_way = sent(record, 2)
    assert on_its_way is not None
    silent = deadline_passed(on_its_way, record.expires_ns, on_its_way.state)
    assert silent is not None
    assert target_state(silent)[:2] == (TargetState.TIMED_OUT, "not_confirmed")
    late = reported(silent, CommandState(record.id, "succeeded", 1), record.expires_ns + 1)
    assert late is not None
    assert target_state(late) == (TargetState.SUCCEEDED, "", "")
