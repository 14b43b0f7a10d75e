"""Texts with counts."""

from __future__ import annotations

import pytest

from wire.text import batches, plural


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 batches"), (1, "1 batch"), (2, "2 batches"), (-1, "-1 batch"), (12_345, "12,345 batches")],
)
def test_only_one_is_singular(count: int, expected: str) -> None:
    """Large counts have separators."""
    assert plural(count, "batch", "batches") == expected


def test_a_plural_has_an_s_unless_it_is_given() -> None:
    """The noun may be several words."""
    assert [plural(count, "more device") for count in (1, 2)] == ["1 more device", "2 more devices"]
    assert [plural(count, "is", "are") for count in (1, 2)] == ["1 is", "2 are"]


def test_a_range_of_one_batch_names_one_number() -> None:
    """Both ends are named only if they differ."""
    assert (batches(7, 7), batches(7, 9)) == ("batch 7", "batches 7 to 9")
