"""Many trials: which, how many at a time, and what each gave."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from tests.damage.kinds import FEW_FLIPS, FLIPS, Damage, Kind, damages, place_of_flip
from tests.damage.outcome import Observation, Outcome, Truth, Verdict, verdict
from tests.damage.recording import SPOOL, readings_of, record
from tests.damage.trial import Case, ordinary_reports, run_trial, targets

AT_ONCE = 2
"""Trials at a time: they wait for processes more than they compute."""

TRIAL_S = 240.0
"""A trial that takes longer hangs. Its steps have smaller bounds of their own."""

REWRITTEN = ("-shm", ".spool.lock", "address.json")
"""Endings of the files that a program writes anew at each start."""


class Result(msgspec.Struct, frozen=True):
    """The verdict on one trial."""

    file: str
    kind: Kind
    number: int
    outcome: Outcome
    why: str


class Campaign:
    """Trials on copies of one recording."""

    def __init__(self, root: Path, *, unchecked: bool = False) -> None:
        """Describe a campaign in the empty directory `root`. `unchecked` runs programs without checksums."""
        self._root = root
        self._unchecked = unchecked
        self._ordinary: frozenset[str] = frozenset()
        self._numbers = 0

    async def prepare(self) -> None:
        """Record the directories, and learn what an intact one reports.

        Raises AssertionError if anything is missing without damage.
        """
        self._recording = await record(self._root, unchecked=self._unchecked)
        ordinary: set[str] = set()
        self.targets = targets(self._root)
        for target in {target.base: target for target in self.targets}.values():
            case = Case(target, Damage(Kind.NONE, 0))
            seen = await self._run(case)
            ordinary |= ordinary_reports(seen)
            seen.reports = []
            found = verdict(self._truth(seen), seen)
            assert found.outcome is Outcome.HARMLESS, f"{target.base}: {found}"
        self._ordinary = frozenset(ordinary)

    def cases(self) -> list[Case]:
        """Return every damage of every file."""
        return [
            Case(target, damage)
            for target in self.targets
            for damage in damages(flips=FEW_FLIPS if target.path.endswith(REWRITTEN) else FLIPS)
        ]

    def flips_of_values(self, flips: int) -> list[Case]:
        """Return flipped bits of values that no other file has: whether they are found depends on checksums alone."""
        target = next(target for target in self.targets if target.path == SPOOL)
        content = (self._root / target.base / target.path).read_bytes()
        places: set[int] = set()
        for value in self._recording.waiting_values():
            at = content.index(value)
            places.update(range(at + 1, at + len(value)))
        numbers = (
            number for number in itertools.count() if place_of_flip(content, number, name=target.path)[0] in places
        )
        return [Case(target, Damage(Kind.FLIP, number)) for number in itertools.islice(numbers, flips)]

    async def run(self, cases: Sequence[Case]) -> AsyncIterator[Result]:
        """Run trials, AT_ONCE at a time, and yield their results as they end."""
        waiting = iter(cases)
        running: set[asyncio.Task[Result]] = set()
        try:
            while True:
                while len(running) < AT_ONCE and (case := next(waiting, None)) is not None:
                    running.add(asyncio.create_task(self._result(case)))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _result(self, case: Case) -> Result:
        try:
            async with asyncio.timeout(TRIAL_S):
                seen = await self._run(case)
        except TimeoutError:
            found = Verdict(Outcome.HUNG, f"the trial did not end in {TRIAL_S:.0f} s")
        else:
            found = verdict(self._truth(seen), seen)
        return Result(case.target.path, case.damage.kind, case.damage.number, found.outcome, found.why)

    async def _run(self, case: Case) -> Observation:
        self._numbers += 1
        work = self._root / f"trial-{self._numbers}"
        try:
            return await run_trial(
                self._root, self._recording, case, work, ordinary=self._ordinary, unchecked=self._unchecked
            )
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _truth(self, seen: Observation) -> Truth:
        sent = {**self._recording.sent, **seen.sent}
        return msgspec.structs.replace(self._recording.truth, readings=readings_of(sent))
