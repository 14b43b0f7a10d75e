"""Run the trials on damaged files: `python -m tests.damage [--help]`, or `make damage`.

It writes build/damage.json with every result, and build/damage.md with the table of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.damage.campaign import Campaign, Result
from tests.damage.kinds import Kind
from tests.damage.outcome import SILENT
from tests.damage.table import table
from tests.damage.trial import Case
from tests.damage.unchecked import switch_off_checksums


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.damage", description="Damage files, and see what is lost.")
    parser.add_argument("--file", help="only files whose path contains this")
    parser.add_argument("--kind", type=Kind, help="only this kind of damage: " + ", ".join(list(Kind)[1:]))
    parser.add_argument("--number", type=int, help="only the damage at this place")
    parser.add_argument("--places", type=int, help="only so many places of each kind of damage")
    parser.add_argument("--values", type=int, help="instead of all files: so many flipped bits of values in the spool")
    parser.add_argument("--sample", type=int, help="only so many trials, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--unchecked", action="store_true", help="negative control: run programs without checksums")
    parser.add_argument("--output", type=Path, default=Path("build/damage"), help="path without the extension")
    return parser.parse_args()


def selected(cases: list[Case], options: argparse.Namespace) -> list[Case]:
    """Return the trials that the options select."""
    chosen = [
        case
        for case in cases
        if (options.file or "") in case.target.path
        and options.kind in (None, case.damage.kind)
        and options.number in (None, case.damage.number)
        and (options.places is None or case.damage.number < options.places)
    ]
    if options.sample is not None:
        chosen = random.Random(options.seed).sample(chosen, min(options.sample, len(chosen)))
    return chosen


async def run(options: argparse.Namespace) -> list[Result]:
    """Run the selected trials with progress on stderr; return their results."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="damage-") as root:
        campaign = Campaign(Path(root), unchecked=options.unchecked)
        await campaign.prepare()
        cases = selected(
            campaign.cases() if options.values is None else campaign.flips_of_values(options.values), options
        )
        began = time.monotonic()
        async for result in campaign.run(cases):
            results.append(result)
            write(results, options.output)  # so that an interrupted run leaves what it has
            left_s = (time.monotonic() - began) / len(results) * (len(cases) - len(results))
            if result.outcome in SILENT or len(cases) < 20:
                print(f"\r{result.file} {result.kind} {result.number}: {result.outcome}: {result.why}", file=sys.stderr)
            print(f"\r{len(results)} of {len(cases)} trials, {left_s / 60:.0f} minutes left ", end="", file=sys.stderr)
    print(file=sys.stderr)
    return results


def write(results: Sequence[Result], output: Path) -> None:
    """Write the results in JSON and as a table."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    output.with_suffix(".md").write_text(table(results))


def main() -> int:
    """Run the trials, print the table, and return 1 if anything was silent."""
    options = arguments()
    if options.unchecked:
        switch_off_checksums()
    results = asyncio.run(run(options))
    print(table(results))
    return int(any(result.outcome in SILENT for result in results))


if __name__ == "__main__":
    sys.exit(main())
