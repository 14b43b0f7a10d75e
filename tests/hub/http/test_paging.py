"""Lists that are told a page at a time: everything once, whatever changes meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.http.paging import Page, read_cursor, take_page, write_cursor
from hub.http.problem import ProblemCode, Refusal

names = st.text(max_size=4)


def page_of(items: set[str], limit: int, cursor: str | None) -> Page[str]:
    return take_page(items, str, list_name="names", limit=limit, cursor=cursor, kind=str)


@given(st.sets(names), st.integers(1, 5), st.lists(st.tuples(st.booleans(), names)))
def test_what_is_there_all_the_while_is_told_once_and_in_order(
    items: set[str], limit: int, changes: list[tuple[bool, str]]
) -> None:
    """Between two pages one item comes or goes; no page is larger than asked for, and only the last has no cursor."""
    lasting = set(items)
    told: list[str] = []
    cursor = None
    while True:
        page = page_of(items, limit, cursor)
        told += page.items
        assert len(page.items) <= limit
        cursor = page.next
        if cursor is None:
            break
        assert page.items
        if changes:
            is_new, name = changes.pop()
            (items.add if is_new else items.discard)(name)
            lasting &= items
    assert told == sorted(set(told))
    assert lasting <= set(told)


@given(st.tuples(st.integers(0, 2**63 - 1), st.text()))
def test_a_cursor_is_read_as_it_was_written(key: tuple[int, str]) -> None:
    """Also keys of several parts; it can stand in a URL as it is."""
    cursor = write_cursor("tokens", key)
    assert read_cursor(cursor, "tokens", tuple[int, str]) == key
    assert cursor.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "next",
        "é",
        "====",
        "AAAA",
        write_cursor("tokens", 3),
        write_cursor("events", "3"),
        write_cursor("events", 2**64),
    ],
)
def test_what_is_no_cursor_of_this_list_is_refused(cursor: str) -> None:
    """Another list's, one with another key, one that nobody made."""
    with pytest.raises(Refusal, match="no cursor of events") as refusal:
        read_cursor(cursor, "events", int)
    assert (refusal.value.status, refusal.value.code) == (422, ProblemCode.WRONG_CURSOR)
