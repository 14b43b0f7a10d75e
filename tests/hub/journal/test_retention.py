"""Which blocks go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.journal.schema import OldBlock
from hub.journal.state import TRIM_BYTES, Retention

SECOND = 10**9


def blocks_of(sizes: list[int], *, seconds: list[int] | None = None) -> list[OldBlock]:
    """Blocks of ten entries each, with these sizes and times of receipt."""
    ends = [sum(sizes[: count + 1]) for count in range(len(sizes))]
    times = seconds or [0] * len(sizes)
    return [OldBlock(10 * (n + 1), end, time * SECOND) for n, (end, time) in enumerate(zip(ends, times, strict=True))]


def retention_of(blocks: list[OldBlock], *, keep_bytes: int = 0, keep_seconds: float = 0) -> Retention:
    retention = Retention(keep_bytes=keep_bytes, keep_seconds=keep_seconds, first_offset=1, begin_bytes=0)
    retention.load(blocks)
    return retention


def test_the_tail_ends_at_whichever_bound_comes_first() -> None:
    """A block stays while it is young enough and near enough to the end; what a consumer needs stays in any case."""
    blocks = blocks_of([100] * 5, seconds=[0, 1, 2, 3, 4])
    for keep_bytes, keep_seconds, passed, gone in [
        (0, 0, 50, 5),
        (1000, 0, 50, 5),
        (0, 1000, 50, 5),
        (1000, 1000, 50, 0),
        (200, 1000, 50, 3),
        (201, 1000, 50, 2),
        (1000, 2.5, 50, 2),
        (0, 0, 29, 2),
        (0, 0, 30, 3),
        (0, 0, 0, 0),
    ]:
        retention = retention_of(blocks, keep_bytes=keep_bytes, keep_seconds=keep_seconds)
        trim = retention.plan(passed=passed, end_bytes=500, now_ns=4 * SECOND, commit_bytes=0)
        assert (trim.blocks if trim else 0) == gone


def test_a_young_block_protects_those_behind_it() -> None:
    """Only the oldest blocks go, in order: a clock that was put back does not make a hole."""
    blocks = blocks_of([100] * 3, seconds=[0, 50, 0])
    trim = retention_of(blocks, keep_bytes=1000, keep_seconds=10).plan(
        passed=30, end_bytes=300, now_ns=51 * SECOND, commit_bytes=0
    )
    assert trim == (1, 11)


@given(st.lists(st.integers(1, 2 * TRIM_BYTES), min_size=1, max_size=20), st.integers(0, 4 * TRIM_BYTES))
def test_one_commit_deletes_a_bounded_part_and_all_go_in_the_end(sizes: list[int], commit_bytes: int) -> None:
    """Each trim is within its bound, or one block, and repeating it deletes everything exactly once."""
    retention = retention_of(blocks_of(sizes))
    left = list(sizes)
    while not retention.exhausted:
        trim = retention.plan(passed=10**9, end_bytes=sum(sizes), now_ns=0, commit_bytes=commit_bytes)
        assert trim is not None
        gone, left = left[: trim.blocks], left[trim.blocks :]
        assert len(gone) == 1 or sum(gone) <= max(TRIM_BYTES, 2 * commit_bytes)
        retention.done(trim)
        assert retention.first_offset == 10 * (len(sizes) - len(left)) + 1
    assert left == []
    assert retention.plan(passed=10**9, end_bytes=sum(sizes), now_ns=0, commit_bytes=0) is None


def test_it_knows_what_to_learn_next() -> None:
    """The blocks to learn follow on the last known one, or on what is deleted."""
    retention = retention_of([])
    assert (retention.exhausted, retention.known_up_to) == (True, 0)
    retention.load(blocks_of([1, 1]))
    assert (retention.exhausted, retention.known_up_to) == (False, 20)
    trim = retention.plan(passed=20, end_bytes=2, now_ns=0, commit_bytes=0)
    assert trim is not None
    retention.done(trim)
    assert (retention.exhausted, retention.known_up_to) == (True, 20)
