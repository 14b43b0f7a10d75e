"""Tests of lists in pages: every item is returned once, whatever changes meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.http.paging import PageQuery, decode_cursor, encode_cursor, select_page
from hub.http.problem import ProblemCode, Refusal

names = st.text(max_size=4)


def page_of(items: set[str], limit: int, cursor: str | None) -> tuple[list[str], str | None]:
    return select_page(items, str, PageQuery(limit, cursor), list_name="names", kind=str)


@given(st.sets(names), st.integers(1, 5), st.lists(st.tuples(st.booleans(), names)))
def test_an_item_that_stays_is_returned_once_and_in_order(
    items: set[str], limit: int, changes: list[tuple[bool, str]]
) -> None:
    """Between two pages one item is added or removed. No page exceeds its limit, and only the last has no cursor."""
    lasting = set(items)
    returned: list[str] = []
    cursor = None
    while True:
        page, cursor = page_of(items, limit, cursor)
        returned += page
        assert len(page) <= limit
        if cursor is None:
            break
        assert page
        if changes:
            is_new, name = changes.pop()
            (items.add if is_new else items.discard)(name)
            lasting &= items
    assert returned == sorted(set(returned))
    assert lasting <= set(returned)


@given(st.tuples(st.integers(0, 2**63 - 1), st.text()))
def test_a_decoded_cursor_is_the_encoded_key(key: tuple[int, str]) -> None:
    """A key may have several parts. A URL can contain the cursor unchanged."""
    cursor = encode_cursor("tokens", key)
    assert decode_cursor(cursor, "tokens", tuple[int, str]) == key
    assert cursor.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "next",
        "é",
        "====",
        "AAAA",
        encode_cursor("tokens", 3),
        encode_cursor("events", "3"),
        encode_cursor("events", 2**64),
    ],
)
def test_a_cursor_of_another_list_is_refused(cursor: str) -> None:
    """Also one with another kind of key, and text that is no cursor."""
    with pytest.raises(Refusal, match="no cursor of events") as refusal:
        decode_cursor(cursor, "events", int)
    assert (refusal.value.status_code, refusal.value.code) == (422, ProblemCode.WRONG_CURSOR)
