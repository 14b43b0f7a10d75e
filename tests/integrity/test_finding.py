"""Exit codes of findings."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from integrity.finding import DAMAGED, INTACT, NOT_EXAMINED, Finding, exit_code


@given(st.lists(st.sampled_from([True, False, None])))
def test_damage_counts_before_what_could_not_be_examined(states: list[bool | None]) -> None:
    """One damaged file decides; without one, a file that could not be examined; an empty directory is intact."""
    expected = DAMAGED if False in states else NOT_EXAMINED if None in states else INTACT
    assert exit_code(Finding("file", state, "") for state in states) == expected


def test_the_codes_are_those_of_a_shell() -> None:
    """Scripts depend on the numbers."""
    assert (INTACT, DAMAGED, NOT_EXAMINED) == (0, 1, 2)
