"""The consumers' cursors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.journal.state import Cursors
from hub.model.journal import ConsumerCursor

names = st.sampled_from(["store", "bridge", "other"])
operations = st.lists(
    st.tuples(st.sampled_from(["consumer", "advance", "forget"]), names, st.integers(0, 9))
    | st.tuples(st.sampled_from(["write", "fail"]), names, st.just(0)),
    max_size=30,
)


@given(operations)
def test_the_disk_ends_up_with_what_is_in_memory(operations: list[tuple[str, str, int]]) -> None:
    """Whatever moved and whichever writes failed, the cursors that were taken and written are the cursors."""
    cursors = Cursors({"store": 3})
    disk = {"store": 3}
    for operation, name, offset in operations:
        if operation == "consumer":
            cursors.consumer(name, offset)
        elif operation == "advance" and name in dict(cursors.states()):
            cursors.advance(name, offset)
        elif operation == "forget":
            cursors.remove(name)
        elif operation == "fail":
            cursors.put_back(cursors.drain())
        elif operation == "write":
            write(cursors, disk)
            assert not cursors.changed
    write(cursors, disk)
    assert disk == dict(cursors.states())


def write(cursors: Cursors, disk: dict[str, int]) -> None:
    for name, offset in cursors.drain().items():
        if offset is None:
            disk.pop(name, None)
        else:
            disk[name] = offset


def test_the_slowest_consumer_decides() -> None:
    """What all have passed is the lowest cursor; without consumers it is everything."""
    cursors = Cursors({})
    assert cursors.passed(7) == 7
    assert cursors.slowest() is None
    cursors.consumer("store", 5)
    cursors.consumer("bridge", 2)
    assert cursors.passed(7) == 2
    assert cursors.slowest() == ConsumerCursor("bridge", 2)


def test_a_cursor_that_stays_is_not_written() -> None:
    """Advancing to where the cursor is changes nothing, and a known consumer's cursor is not begun anew."""
    cursors = Cursors({"store": 5})
    cursors.advance("store", 5)
    assert cursors.consumer("store", 0).offset == 5
    assert not cursors.changed
    with pytest.raises(ValueError, match="unknown"):
        cursors.advance("unknown", 1)
