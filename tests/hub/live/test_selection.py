"""Rules of selections: which names a subscription means."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.live.selection import device_matcher, matcher, matches, selection
from hub.model.batch import Series

names = st.text(alphabet="ab.[]?\n", max_size=6)
selectors = st.text(alphabet="ab.[]?\n*", min_size=1, max_size=6)


def _translated(selector: str) -> str:
    """The selector in fnmatch's language, where `*` is the only character with a meaning."""
    return "".join(f"[{c}]" if c in "[?" else c for c in selector)


@given(st.lists(selectors, min_size=1, max_size=4), names)
def test_a_star_matches_any_characters_and_nothing_else_is_special(patterns: list[str], name: str) -> None:
    """A name is selected exactly when one of the selectors matches it from end to end."""
    assert matcher(patterns)(name) == any(fnmatchcase(name, _translated(p)) for p in patterns)


def _matches_slowly(selector: str, name: str) -> bool:
    """The definition of a selector, tried in every way there is."""
    if not selector:
        return not name
    if selector[0] == "*":
        return any(_matches_slowly(selector[1:], name[skipped:]) for skipped in range(len(name) + 1))
    return name[:1] == selector[0] and _matches_slowly(selector[1:], name[1:])


parts = st.lists(st.sampled_from(["", "a", "b", "ab", "ba", "aa"]), min_size=2, max_size=5)


@given(parts.map("*".join), st.text(alphabet="ab", max_size=6))
def test_stars_between_repeated_parts_find_every_way_to_match(selector: str, name: str) -> None:
    """A selector whose parts occur many times in a name matches exactly when a slow search finds a match."""
    assert matcher([selector])(name) == _matches_slowly(selector, name)


@pytest.mark.parametrize("stars", [11, 500])
def test_no_selector_takes_long(stars: int) -> None:
    """Stars that could match in a great many ways, and do not, are as quick as any."""
    assert not matcher(["*0" * stars + "*x"])("0" * 127 + "1")


def test_a_series_needs_both_its_device_and_its_metric() -> None:
    """The selection is the cross product of devices and metrics."""
    selected = matches(selection(["pump-*"], ["temperature", "pressure"]))
    assert selected(Series(1, "pump-1", "pressure", "float"))
    assert not selected(Series(2, "fan-1", "pressure", "float"))
    assert not selected(Series(3, "pump-1", "speed", "float"))


def test_the_order_of_selectors_does_not_matter() -> None:
    """The same selection is the same value, so that its subscriptions share one group."""
    assert selection(["b", "a", "a"], ["y", "x"]) == selection(["a", "b"], ["x", "y"])


@pytest.mark.parametrize(
    ("terms", "is_selected"),
    [
        (["pump-*"], True),
        (["mill", "pump-7"], True),
        (["mill"], False),
        (["site=north"], True),
        (["site=south"], False),
        (["site=south", "site=n*"], True),
        (["site=north", "floor=2"], False),
        (["mill", "site=north"], False),
        (["pump-*", "site=*", "note=a=b"], True),
        (["other=*"], False),
        (["note="], False),
    ],
)
def test_a_device_is_selected_by_its_id_and_its_tags(terms: list[str], is_selected: bool) -> None:
    """Ids are alternatives, and so are the values of one tag; different tags must all match."""
    tags = {"site": "north", "floor": "1", "note": "a=b"}
    assert device_matcher(terms)("pump-7", tags) is is_selected
