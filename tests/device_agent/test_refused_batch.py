"""The search for a batch that the hub cannot read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from device_agent.refused_batch import REFUSALS, RefusedBatchSearch


def test_a_connection_without_a_batch_accuses_none() -> None:
    """An error before anything was sent has another cause, however often it happens."""
    search = RefusedBatchSearch()
    for _ in range(10):
        assert search.refused(sent=5, acked=5) is None
    assert not search.is_searching(5)


def test_a_batch_is_lost_only_after_it_was_refused_alone() -> None:
    """The first refusal only begins the search; then the batch has to be refused alone several times in a row."""
    search = RefusedBatchSearch()
    assert search.refused(sent=6, acked=5) is None
    assert search.is_searching(5)
    results = [search.refused(sent=6, acked=5) for _ in range(REFUSALS)]
    assert results == [None] * (REFUSALS - 1) + [6]


def test_refusals_of_different_batches_do_not_add_up() -> None:
    """An accident per batch accuses none of them."""
    search = RefusedBatchSearch()
    search.refused(sent=20, acked=0)
    for seq in range(1, 20):
        for _ in range(REFUSALS - 1):
            assert search.refused(sent=seq, acked=seq - 1) is None


def test_the_search_ends_with_the_last_suspect() -> None:
    """When every batch of the failed connection is acknowledged, batches are sent together again."""
    search = RefusedBatchSearch()
    search.refused(sent=9, acked=2)
    assert search.is_searching(8)
    assert not search.is_searching(9)
    assert search.refused(sent=10, acked=9) is None


@given(bad=st.sets(st.integers(1, 40), max_size=5), window=st.integers(1, 16))
def test_exactly_the_unreadable_batches_are_lost(bad: set[int], window: int) -> None:
    """Against a hub that ends the connection at an unreadable batch, those are declared lost and all others arrive."""
    search, acked = RefusedBatchSearch(), 0
    lost: set[int] = set()
    for _ in range(2_000):
        if acked >= 40:
            break
        batches = 1 if search.is_searching(acked) else window
        sent = min(40, acked + batches)
        unreadable = [seq for seq in range(acked + 1, sent + 1) if seq in bad - lost]
        if not unreadable:
            acked = sent
            continue
        acked = unreadable[0] - 1 if search.is_searching(acked) else acked
        if seq := search.refused(sent=sent, acked=acked):
            lost.add(seq)
    assert acked == 40
    assert lost == bad
