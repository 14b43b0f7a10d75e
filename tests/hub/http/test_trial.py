"""The process of a trial, and the bounds around it."""

from __future__ import annotations

import asyncio
import json

import pytest

from formats.rules import Rules
from hub.http import trial
from hub.http.trial import TrialFailed, TrialRunner, TrialsBusy, request_of
from hub.http.trial_program import TrialRequest
from tests.conditions import until

LINE = '{"device": "boiler", "temp": 21.5}'


def test_content_that_is_no_text_is_refused() -> None:
    """A text of JSON can have half of a character."""
    with pytest.raises(TrialFailed, match="not text"):
        request_of(Rules(), "\udc80")


async def test_a_trial_runs_in_a_process_that_ends() -> None:
    """The runner gives it the types that it asks for."""
    runner = TrialRunner(lambda device: {"temp": "string"} if device == "boiler" else {})
    facts = json.loads(await runner.run(request_of(Rules(), LINE)))
    assert [(metric["device"], metric["type"]) for metric in facts["metrics"]] == [("boiler", "string")]


async def test_a_trial_whose_answer_is_too_large_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process ends, although nobody reads the rest."""
    monkeypatch.setattr(trial, "MAX_ANSWER_BYTES", 1024)
    content = "\n".join([LINE] * 1000)
    with pytest.raises(TrialFailed, match="too much for a trial"):
        await TrialRunner(lambda device: {}).run(request_of(Rules(), content))


async def test_a_process_that_ends_without_an_answer_is_a_failure() -> None:
    """So it is if the system ends it, for example for want of memory."""
    runner = TrialRunner(lambda device: {})
    unreadable = TrialRequest(Rules(zone="nowhere"), LINE.encode())
    with pytest.raises(TrialFailed, match="too much for a trial"):
        await runner.run(unreadable)


async def test_trials_wait_for_each_other_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused at once; when one has ended, the next one may come."""
    monkeypatch.setattr(trial, "MAX_SECONDS", 1.0)
    endless = TrialRequest(Rules(format="regex", pattern="(?P<n>(a|aa)+)$"), (b"a" * 40 + b"b\n") * 5_000)
    runner = TrialRunner(lambda device: {})
    running = [asyncio.create_task(runner.run(endless)) for _ in range(trial.MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(TrialsBusy):
        await runner.run(request_of(Rules(), LINE))
    for task in running[1:]:
        task.cancel()
    await until(lambda: sum(map(asyncio.Task.done, running)) >= trial.MAX_WAITING - 1)
    assert json.loads(await runner.run(request_of(Rules(), LINE)))["readings"] == 1
    with pytest.raises(TrialFailed, match="simpler pattern"):
        await running[0]
