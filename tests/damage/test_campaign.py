"""A seeded sample of the trials on damaged files, and their control; `make damage` runs all of them."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import msgspec
import pytest

from tests.damage.campaign import Campaign, Result
from tests.damage.kinds import Damage, Kind, damages
from tests.damage.outcome import SILENT, Outcome
from tests.damage.trial import Case

ROOT = Path(__file__).parents[2]
SEED = 13
FLIPS = 4


@pytest.mark.deadline(300)
async def test_no_damage_of_a_sample_is_silent(tmp_path: Path) -> None:
    """Each file is damaged once: no reading is wrong, none vanishes without a report, and nothing hangs."""
    dice = random.Random(SEED)
    campaign = Campaign(tmp_path)
    await campaign.prepare()
    cases = [Case(target, _any_damage(dice)) for target in campaign.targets]
    results = [result async for result in campaign.run(cases)]
    assert len(results) == len(cases)
    assert [result for result in results if result.outcome in SILENT] == []


def _any_damage(dice: random.Random) -> Damage:
    """Return a damage of any kind, each as likely: most places of a file are those of flipped bits."""
    kind = dice.choice([kind for kind in Kind if kind is not Kind.NONE])
    return dice.choice([damage for damage in damages() if damage.kind is kind])


@pytest.mark.deadline(300)
async def test_without_checksums_a_flipped_bit_of_a_value_is_silent(tmp_path: Path) -> None:
    """The trials find a wrong value, and only the checksums prevent it."""
    output = tmp_path / "control"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.damage", "--unchecked", "--values", str(FLIPS), "--output", str(output)),
        cwd=ROOT,
    )
    assert await process.wait() == 1
    results = msgspec.json.decode(output.with_suffix(".json").read_bytes(), type=list[Result])
    assert len(results) == FLIPS
    assert Outcome.WRONG in {result.outcome for result in results}
