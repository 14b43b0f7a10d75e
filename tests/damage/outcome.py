"""The verdict on a trial: what was observed after the damage, compared with what was sent. Pure.

The comparison is by reading: each has a device, a metric, a time and one right value. A reading is accounted for if it
is in the store or in quarantine with that value, if it still waits in an agent's spool, or if the accounting counts it
as lost or a report states a loss that can be its own. Everything else is silent, and a defect.
"""

from __future__ import annotations

import re
from collections import Counter
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import field

MAX_WHY = 1000
"""Characters of an explanation."""


_LOSS = re.compile(
    r"\b(lost|lacks?|missing|damaged|removed|emptied|cut|older copy|unreadable|cannot be read|not readable)\b"
)
"""Words with which a report states a loss."""

_DEVICE = re.compile(r"\[device (\S+)\]")
"""Device of an event."""


class Outcome(StrEnum):
    """The result of a trial, as a column of the table."""

    START = "found at start"
    READ = "found at read"
    REPAIRED = "repaired"
    DECLARED = "lost and declared"
    REPORTED = "lost and reported, number unknown"
    HARMLESS = "harmless"
    WRONG = "SILENTLY WRONG"
    LOST = "SILENTLY LOST"
    HUNG = "HUNG"


SILENT = (Outcome.WRONG, Outcome.LOST, Outcome.HUNG)
"""Outcomes that must not happen."""


class Truth(msgspec.Struct, frozen=True):
    """Everything that was sent.

    `readings` has the value of each reading, by device, metric and time. `quarantined` has the content of each rejected
    batch. `batch_readings` is the number of readings of every batch. `facts` are definitions, tags and tokens.
    """

    readings: dict[str, dict[str, dict[int, float]]]
    quarantined: dict[str, str]
    batch_readings: int
    facts: dict[str, str]


class Observation(msgspec.Struct):
    """Observations of a trial.

    `end` is how the hub ended before the trial did, with its `message`: "refused" (it did not start), "stopped" (later)
    or "hung". `stored` has the readings of each series as the hub returned them; `unreadable` says why it did not.
    `waiting` has the times of the readings in the spool of each device, `refused` names the devices whose spool could
    not be opened. `declared` counts the readings of each device that a gap or the accounting declares lost.

    `reports` are the events, incidents and log lines that an intact directory does not cause, `problems` those of
    /ready. `symptoms` are consequences that nobody has explained: rejected tokens, failed requests.
    """

    end: str = ""
    message: str = ""
    stored: list[tuple[str, str, list[int], list[Any]]] = field(default_factory=list)
    unreadable: str = ""
    quarantined: dict[str, str] | None = field(default_factory=dict)
    waiting: dict[str, list[int]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    declared: dict[str, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    reports: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    symptoms: list[str] = field(default_factory=list)


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of a trial, and why."""

    outcome: Outcome
    why: str


def verdict(truth: Truth, seen: Observation) -> Verdict:
    """Return the outcome of a trial."""
    if seen.end == "hung":
        return Verdict(Outcome.HUNG, seen.message)
    if seen.end:
        return _ended(seen)
    wrong = _wrong(truth, seen)
    if wrong:
        return Verdict(Outcome.WRONG, wrong)
    missing = _missing(truth, seen)
    if missing:
        text = "; ".join(f"{count} {what}" for what, count in missing.items())
        undeclared = [what for what, count in missing.items() if count > seen.declared.get(what, 0)]
        if any(not _states_loss(seen, what) for what in undeclared):
            return Verdict(Outcome.LOST, f"missing: {text}; {_report(seen)}")
        outcome = Outcome.REPORTED if undeclared else Outcome.DECLARED
        return Verdict(outcome, f"missing: {text}; {_report(seen)}")
    if seen.refused:
        return Verdict(Outcome.START, _report(seen))
    if seen.unreadable or seen.problems or seen.quarantined is None:
        return Verdict(Outcome.READ, _report(seen))
    if seen.reports:
        return Verdict(Outcome.REPAIRED, _report(seen))
    if seen.symptoms:
        return Verdict(Outcome.LOST, f"not explained: {'; '.join(seen.symptoms)}")
    return Verdict(Outcome.HARMLESS, "")


def _ended(seen: Observation) -> Verdict:
    """Return the outcome of a hub that ended: it must have said why."""
    said = [line for line in seen.message.splitlines() if line.startswith("hub: ")]
    if not said:
        return Verdict(Outcome.HUNG, f"the hub ended without a message: {seen.message[-300:]}")
    return Verdict(Outcome.START if seen.end == "refused" else Outcome.READ, said[-1])


def _states_loss(seen: Observation, what: str) -> bool:
    """Return whether something that people see states a loss that can be that of `what`; the log alone does not count.

    An event of another device is about that one. `what` can begin with the kind of a fact: "metric DEVICE NAME".
    """
    reports = [report for report in seen.reports if not report.startswith("log ")]
    for report in [*reports, *seen.problems.values(), seen.unreadable]:
        device = _DEVICE.search(report)
        if _LOSS.search(report) and (device is None or device[1] in what.split()):
            return True
    return False


def _report(seen: Observation) -> str:
    problems = [f"/ready {part}: {text}" for part, text in seen.problems.items()]
    return "; ".join([*seen.reports, *problems, *filter(None, [seen.unreadable]), *seen.symptoms])[:MAX_WHY]


def _wrong(truth: Truth, seen: Observation) -> str:
    """Return what differs from what was sent, or exists twice; empty if nothing does."""
    for device, metric, times, values in seen.stored:
        right = truth.readings.get(device, {}).get(metric, {})
        twice = [time for time, count in Counter(times).items() if count > 1]
        if twice:
            return f"{len(twice)} readings of {device} {metric} are stored twice"
        for time, value in zip(times, values, strict=True):
            if time not in right:
                return f"{device} {metric} has a reading at {time} that was never sent"
            if value != right[time]:
                return f"{device} {metric} at {time} is {value} instead of {right[time]}"
    for what, right_text in truth.quarantined.items():
        if (seen.quarantined or {}).get(what, right_text) != right_text:
            return f"the rejected batch {what} is different"
    for what, right_text in truth.facts.items():
        if seen.facts.get(what, right_text) != right_text and not _states_loss(seen, what):
            return f"{what} is {seen.facts[what]!r} instead of {right_text!r}"
    return ""


def _missing(truth: Truth, seen: Observation) -> dict[str, int]:
    """Return how many readings of each device, and how much else, are neither stored nor waiting nor in quarantine."""
    missing = {}
    if not seen.unreadable:
        stored = {(device, metric): set(times) for device, metric, times, _ in seen.stored}
        for device, metrics in truth.readings.items():
            if device in seen.refused:
                continue  # they are in the file that the agent did not open, and that it names
            waiting = set(seen.waiting.get(device, ()))
            count = sum(
                len(right.keys() - stored.get((device, metric), set()) - waiting) for metric, right in metrics.items()
            )
            if count:
                missing[device] = count
    rejected = truth.quarantined.keys() - (truth.quarantined if seen.quarantined is None else seen.quarantined).keys()
    if rejected:
        missing["rejected batches"] = len(rejected)
    for what in truth.facts.keys() - seen.facts.keys():
        missing[what] = 1
    return missing
