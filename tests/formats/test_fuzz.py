"""The search for inputs that break the laws of reading."""

from __future__ import annotations

from pathlib import Path

import pytest

from formats.rules import DEFAULT_RULES
from tests.formats.fuzz import Search, check_laws, golden_seeds, search_with_hypothesis
from tests.formats.laws import PIECES, case_of, seed_of


def test_the_laws_hold_for_the_golden_frames_and_samples() -> None:
    """The search begins with them."""
    seeds = golden_seeds()
    assert len(seeds) > 80
    for seed in seeds:
        check_laws(seed)


def test_a_seed_has_its_content_as_it_is_or_in_pieces() -> None:
    """The seeds of files are as they are; in others a byte can mean a piece of a format."""
    assert case_of(seed_of(b"a\xc0=1\n", DEFAULT_RULES)).data == b"a\xc0=1\n"
    assert case_of(b"\0\0\0\0" + b"a\xc0=1").data == b"a" + PIECES[0] + b"=1"
    assert case_of(b"").data == b""


def test_each_distinct_failure_is_kept_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its input is in a file, and the search continues."""

    def law(seed: bytes) -> None:
        assert b"x" not in seed, "an x"
        if b"y" in seed:
            raise ValueError("a y")

    search = Search(tmp_path, 60, law)
    for seed in (b"a", b"ax", b"bx", b"y", b"c"):
        search.check(seed)
    assert (search.count, search.is_over) == (5, False)
    assert sorted(path.read_bytes() for path in search.findings.values()) == [b"ax", b"y"]
    out = capsys.readouterr().out
    assert out.count("failure ") == 2
    assert "failure 1: AssertionError at " in out


def test_hypothesis_searches_until_the_time_is_over(tmp_path: Path) -> None:
    """It begins with the golden seeds and mutates them."""
    seen: list[bytes] = []
    search = Search(tmp_path, 0.2, seen.append)
    search_with_hypothesis(search)
    assert search.is_over
    assert set(golden_seeds()) <= set(seen)
    assert len(set(seen)) > 300
