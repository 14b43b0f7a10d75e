"""Command `python -m tests.formats.fuzz`: try for some minutes to break the laws of reading.

It searches with atheris, which follows the coverage of the code, where that is installed, else with Hypothesis. It
begins with the golden frames and the samples. Each distinct failure is printed once, and its input is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import hypothesis
import hypothesis.strategies as st
import typer

HERE = Path(__file__).parent
OUT = HERE.parent.parent / "build" / "fuzz"
MAX_SEED = 256
"""Bytes of a seed: enough for a header and some lines; longer ones slow the search."""

ROUND = 500
"""Examples of Hypothesis before the next look at the clock."""

_REPORT_S = 60.0


class Search:
    """Check of one seed after the other. `findings` has the file of each distinct failure by its place in the code."""

    def __init__(self, directory: Path, seconds: float, law: Callable[[bytes], None]) -> None:
        self.findings: dict[str, Path] = {}
        self.count = 0
        self._directory = directory
        self._law = law
        self._ends = time.monotonic() + seconds
        self._next_report = time.monotonic() + _REPORT_S

    @property
    def is_over(self) -> bool:
        """Return whether the time is over."""
        return time.monotonic() >= self._ends

    def check(self, seed: bytes) -> None:
        """Check the law for a seed; print and keep a new failure."""
        self.count += 1
        if time.monotonic() > self._next_report:
            self._next_report += _REPORT_S
            print(f"{self.count:,} inputs, {len(self.findings)} failures", flush=True)
        try:
            self._law(seed)
        except Exception as error:  # noqa: BLE001
            # Whatever it is, it breaks the law, and the search continues behind it.
            self._keep(seed, error)

    def _keep(self, seed: bytes, error: Exception) -> None:
        place = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        key = f"{type(error).__name__} at {' '.join(place[-3:])}"
        if key in self.findings:
            return
        path = self._directory / f"failure-{hashlib.sha256(seed).hexdigest()[:12]}"
        path.write_bytes(seed)
        self.findings[key] = path
        print(f"\nfailure {len(self.findings)}: {key}\n  {str(error)[:400]}\n  kept in {path}: {seed!r}", flush=True)


def check_laws(seed: bytes) -> None:
    """Check all laws for the case of a seed."""
    from tests.formats.laws import case_of, check_any_bytes, check_cuts

    case = case_of(seed)
    check_cuts(case, check_any_bytes(case))


def golden_seeds() -> list[bytes]:
    """Return the seeds of the golden frames, the cases and the samples."""
    from formats.rules import rules_of
    from tests.formats.laws import seed_of

    seeds = []
    for frame in json.loads((HERE / "golden" / "frames.json").read_text(encoding="utf-8")):
        raw = bytes.fromhex(frame["hex"]) if "hex" in frame else frame["text"].encode()
        seeds.append(seed_of(raw, rules_of(frame["rules"])))
    paths = (path for folder in ("cases", "samples") for path in sorted((HERE / folder).iterdir()))
    seeds += [seed_of(path.read_bytes(), rules_of({})) for path in paths if path.suffix != ".md"]
    return [seed[:MAX_SEED] for seed in seeds]


def search_with_hypothesis(search: Search) -> None:
    """Check random seeds, and mutations of the golden ones, until the time is over."""
    golden = golden_seeds()
    for seed in golden:
        search.check(seed)
    mutated = st.builds(
        lambda seed, place, inserted, removed: seed[:place] + inserted + seed[place + removed :],
        st.sampled_from(golden), st.integers(0, 200), st.binary(max_size=12), st.integers(0, 12),
    )  # fmt: skip
    run: Callable[[], None] = hypothesis.settings(
        max_examples=ROUND, database=None, deadline=None, derandomize=False,
        suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
    )(hypothesis.given(st.one_of(st.binary(max_size=64), mutated))(search.check))  # fmt: skip
    while not search.is_over:
        run()


def search_with_atheris(seconds: float) -> None:
    """Check the inputs that atheris chooses. It ends the process when the time is over."""
    import atheris

    with atheris.instrument_imports(include=["formats"]):
        import tests.formats.laws  # noqa: F401

    search = Search(OUT, seconds, check_laws)
    corpus = OUT / "corpus"
    corpus.mkdir(exist_ok=True)
    for seed in golden_seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)

    arguments = [
        sys.argv[0],
        str(corpus),
        f"-max_total_time={seconds:.0f}",
        f"-max_len={MAX_SEED}",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, search.check)
    atheris.Fuzz()


def main(
    minutes: Annotated[float, typer.Option(min=0.05, help="Minutes of the search.")] = 10.0,
    engine: Annotated[str, typer.Option(help="auto, atheris or hypothesis.")] = "auto",
) -> None:
    """Try to break the laws of reading. The exit code is 1 if a law was broken."""
    OUT.mkdir(parents=True, exist_ok=True)
    chosen = engine if engine != "auto" else "atheris" if find_spec("atheris") else "hypothesis"
    before = {path.name for path in OUT.glob("failure-*")}
    print(f"searching with {chosen} for {minutes:g} minutes", flush=True)
    if chosen == "atheris" and "HUB_FUZZ_CHILD" not in os.environ:
        # libFuzzer ends its process, so it has one of its own.
        command = [sys.executable, "-m", "tests.formats.fuzz", "--minutes", str(minutes), "--engine", "atheris"]
        subprocess.run(command, env={**os.environ, "HUB_FUZZ_CHILD": "1"}, check=False)
    elif chosen == "atheris":
        search_with_atheris(minutes * 60)
    else:
        search = Search(OUT, minutes * 60, check_laws)
        search_with_hypothesis(search)
        print(f"{search.count:,} inputs")
    found = sorted({path.name for path in OUT.glob("failure-*")} - before)
    print(f"{len(found)} new failures" + (f" in {OUT}: {', '.join(found)}" if found else ""))
    raise typer.Exit(1 if found else 0)


if __name__ == "__main__":
    typer.run(main)
