"""The contract of the journal."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.journal.journal import Journal
from hub.model.batch import EntryKind
from hub.model.journal import ConsumerCursor, JournalError, JournalTrimmed, QuarantineDecision
from tests.hub.journal.conftest import OpenJournal
from tests.hub.journal.entries import content, make_entries, make_entry, make_mark


async def read_all(journal: Journal, after: int = 0) -> list[tuple[object, ...]]:
    """The content of everything after an offset."""
    found = []
    while entries := await journal.read(after):
        found += [content(entry) for entry in entries]
        after = entries[-1].offset
    return found


async def trim(journal: Journal) -> None:
    """Commits until nothing more is deleted."""
    for _ in range(20):
        await journal.append([make_entry()], [])
        for consumer in journal.consumers():
            journal.advance(consumer.name, journal.last_offset)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.integers(0, 30), min_size=1, max_size=30)),
        st.tuples(st.just("advance"), st.floats(0, 1)),
        st.tuples(st.just("read"), st.floats(0, 1)),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(operations, st.integers(0, 2000))
async def test_appended_entries_are_read_back(
    open_journal: OpenJournal, operations: list[tuple[str, Any]], keep_bytes: int
) -> None:
    """Any sequence of appends, reads, advances and reopenings gives back the entries, in order, without a hole, and
    none goes that the consumer has not dealt with."""
    name = f"journal-{uuid.uuid4()}"
    everything: list[tuple[object, ...]] = []
    cursor = 0
    async with contextlib.AsyncExitStack() as opened:
        journal = await opened.enter_async_context(open_journal(name, keep_bytes=keep_bytes))
        journal.consumer("store")
        for operation, argument in [*operations, ("reopen", None), ("read", 0.0)]:
            if operation == "append":
                entries = [make_entry(seq, payload=bytes(size)) for seq, size in enumerate(argument, 1)]
                await journal.append(entries, [make_mark(len(everything) + len(entries))])
                everything += [content(entry) for entry in entries]
            elif operation == "advance":
                cursor += int(argument * (len(everything) - cursor))
                journal.advance("store", cursor)
            elif operation == "read":
                first = journal.first_offset
                after = first - 1 + int(argument * (len(everything) + 1 - first))
                assert await read_all(journal, after) == everything[after:]
            else:
                await opened.aclose()
                journal = await opened.enter_async_context(open_journal(name, keep_bytes=keep_bytes))
            assert journal.last_offset == len(everything)
            assert 1 <= journal.first_offset <= cursor + 1
            assert journal.consumer("store").offset == cursor
    async with open_journal(name) as journal:
        assert journal.marks() == ({"a": make_mark(len(everything))} if everything else {})


async def test_offsets_count_from_one_without_holes(open_journal: OpenJournal) -> None:
    """Each append returns the offset of its last entry, and every entry gets the next one."""
    async with open_journal() as journal:
        assert (journal.first_offset, journal.last_offset) == (1, 0)
        first, second = make_entries(3), make_entries(2)
        assert await journal.append(first, []) == 3
        assert await journal.append(second, []) == 5
        assert [entry.offset for entry in first + second] == [1, 2, 3, 4, 5]
        assert (journal.first_offset, journal.last_offset) == (1, 5)


async def test_nothing_to_append_is_durable_at_once(open_journal: OpenJournal) -> None:
    """An append of nothing returns the last offset."""
    async with open_journal() as journal:
        assert await journal.append([], []) == 0
        await journal.append(make_entries(2), [])
        assert await journal.append([], []) == 2


async def test_concurrent_appends_each_learn_their_own_offset(open_journal: OpenJournal) -> None:
    """Calls that share a commit get the offsets of their own entries."""
    async with open_journal() as journal:
        calls = [make_entries(size) for size in (1, 3, 0, 2, 5)]
        last = await asyncio.gather(*(journal.append(call, [make_mark(1)]) for call in calls))
        assert last == [1, 4, 4, 6, 11]
        assert [entry.offset for call in calls for entry in call] == list(range(1, 12))


async def test_everything_is_there_after_reopening(open_journal: OpenJournal) -> None:
    """Entries come back with all they had, in order, and the journal is still the same one."""
    entries = [
        make_entry(1, payload=b"\x00\xff", format="msgpack"),
        make_entry(2, device="b", kind=EntryKind.GAP, received_ns=2**62),
        make_entry(2**53 - 1, kind=EntryKind.QUARANTINE, reason=("not_finite", "it is “NaN”")),
    ]
    async with open_journal() as journal:
        await journal.append(entries, [])
        id = journal.id
    async with open_journal() as journal:
        assert journal.id == id
        assert (journal.first_offset, journal.last_offset) == (1, 3)
        assert await read_all(journal) == [content(entry) for entry in entries]
        assert await journal.append([make_entry(3)], []) == 4


async def test_each_journal_has_its_own_id(open_journal: OpenJournal) -> None:
    """Offsets of one journal mean nothing in another, and their ids differ."""
    async with open_journal("one") as one, open_journal("other") as other:
        assert one.id != other.id


async def test_entries_in_memory_are_returned_unchanged(open_journal: OpenJournal) -> None:
    """A reader that keeps up gets the very entries, with their decoded batches."""
    async with open_journal() as journal:
        journal.consumer("store")
        entries = make_entries(5)
        await journal.append(entries, [])
        found = await journal.read(2)
        assert [id(entry) for entry in found] == [id(entry) for entry in entries[2:]]


async def test_a_read_keeps_within_its_bounds(open_journal: OpenJournal) -> None:
    """Not more entries or bytes than asked for, but one at least, from memory as from the file."""
    async with open_journal() as journal:
        journal.consumer("store")
        await journal.append(make_entries(5, size_bytes=100), [])
        await check_bounds(journal)
    async with open_journal() as journal:
        await check_bounds(journal)


async def check_bounds(journal: Journal) -> None:
    for arguments, expected in [
        ({"max_entries": 2}, [2, 3]),
        ({"max_bytes": 250}, [2, 3]),
        ({"max_bytes": 300}, [2, 3, 4]),
        ({"max_bytes": 1}, [2]),
        ({}, [2, 3, 4, 5]),
    ]:
        assert [entry.offset for entry in await journal.read(1, **arguments)] == expected
    assert await journal.read(5) == []
    assert await journal.read(1000) == []


async def test_the_newest_mark_of_a_device_counts(open_journal: OpenJournal) -> None:
    """Marks are durable with and without entries, and of each device the newest is found again."""
    async with open_journal() as journal:
        assert journal.marks() == {}
        await journal.append([make_entry(1)], [make_mark(1), make_mark(7, device="b")])
        await journal.append([], [make_mark(2), make_mark(1, device="c")])
        await journal.append([make_entry(3)], [make_mark(3)])
        await asyncio.gather(journal.append([], [make_mark(4)]), journal.append([], [make_mark(5)]))
    async with open_journal() as journal:
        expected = [make_mark(5), make_mark(7, device="b"), make_mark(1, device="c")]
        assert journal.marks() == {mark.device: mark for mark in expected}
        await journal.append([make_entry(6)], [make_mark(6)])
    async with open_journal() as journal:
        assert journal.marks()["a"] == make_mark(6)


async def test_wait_returns_when_there_is_more(open_journal: OpenJournal) -> None:
    """Everyone who waits for entries after an offset is woken by the append that brings one."""
    async with open_journal() as journal:
        await journal.append([make_entry(1)], [])
        await journal.wait(0)
        waiting = [asyncio.ensure_future(journal.wait(after)) for after in (1, 1, 2)]
        waiting[0].cancel()  # who leaves does not take the others along
        await journal.append([make_entry(2)], [])
        await waiting[1]
        assert not waiting[2].done()
        await journal.append([make_entry(3)], [])
        await waiting[2]


async def test_a_closed_journal_raises_an_error(open_journal: OpenJournal) -> None:
    """After closing nothing can be asked of it, and who waited learns it."""
    async with open_journal() as journal:
        waiting = asyncio.ensure_future(journal.wait(0))
        await asyncio.sleep(0)
    with pytest.raises(JournalError, match="closed"):
        await waiting
    with pytest.raises(JournalError, match="closed"):
        await journal.append([make_entry()], [])
    with pytest.raises(JournalError, match="closed"):
        await journal.read(0)


async def test_closing_finishes_the_appends_under_way(open_journal: OpenJournal) -> None:
    """Appends that were made before closing are durable."""
    async with open_journal() as journal:
        calls = [asyncio.ensure_future(journal.append([make_entry()], [])) for _ in range(3)]
        await asyncio.sleep(0)
    assert sorted([call.result() for call in calls]) == [1, 2, 3]
    async with open_journal() as journal:
        assert journal.last_offset == 3


async def test_a_consumer_resumes_at_its_cursor(open_journal: OpenJournal) -> None:
    """A new consumer begins before the oldest entry; afterwards its cursor is where it put it."""
    async with open_journal(keep_bytes=1 << 20) as journal:
        await journal.append(make_entries(5), [])
        assert journal.consumer("store") == ConsumerCursor("store", 0)
        journal.advance("store", 3)
        assert journal.consumer("store") == ConsumerCursor("store", 3)
    async with open_journal(keep_bytes=1 << 20) as journal:
        assert journal.consumers() == [ConsumerCursor("store", 3)]
        journal.advance("store", 1)
    async with open_journal(keep_bytes=1 << 20) as journal:
        assert journal.consumer("store") == ConsumerCursor("store", 1)


async def test_a_forgotten_consumer_is_gone(open_journal: OpenJournal) -> None:
    """It is no consumer any more, also after reopening; asked for again it begins anew."""
    async with open_journal(keep_bytes=1 << 20) as journal:
        await journal.append(make_entries(5), [])
        journal.consumer("bridge")
        journal.advance("bridge", 4)
        await journal.append([make_entry()], [])
        journal.remove_consumer("bridge")
        journal.remove_consumer("nobody")
        assert journal.consumers() == []
    async with open_journal(keep_bytes=1 << 20) as journal:
        assert journal.consumers() == []
        assert journal.consumer("bridge").offset == 0


async def test_only_a_consumer_can_advance(open_journal: OpenJournal) -> None:
    """A cursor that was never asked for cannot be moved: nothing may wait for a misspelt name."""
    async with open_journal() as journal:
        with pytest.raises(ValueError, match="stroe"):
            journal.advance("stroe", 1)


async def test_no_entry_is_deleted_before_every_consumer_has_passed_it(open_journal: OpenJournal) -> None:
    """Entries are deleted once all consumers are beyond them, not before; reading them says what the oldest is."""
    async with open_journal() as journal:
        journal.consumer("store")
        journal.consumer("bridge")
        await journal.append(make_entries(3), [make_mark(3)])
        journal.advance("store", 3)
        for seq in range(20):
            await journal.append([make_entry(seq)], [])
            journal.advance("store", journal.last_offset)
        assert journal.first_offset == 1
        assert len(await read_all(journal)) == 23
        await trim(journal)
        first = journal.first_offset
        assert first > 23
        with pytest.raises(JournalTrimmed) as trimmed:
            await journal.read(first - 2)
        assert trimmed.value.first == first
        assert (await journal.read(first - 1))[0].offset == first
        assert journal.consumer("new").offset == first - 1
    async with open_journal() as journal:
        assert journal.first_offset == first
        assert journal.marks() == {"a": make_mark(3)}


async def test_a_journal_without_consumers_keeps_its_tail_only(open_journal: OpenJournal) -> None:
    """Without consumers only the kept range stays; a removed consumer holds nothing back."""
    async with open_journal() as journal:
        journal.consumer("bridge")
        await trim_without(journal)
        assert journal.first_offset == 1
        journal.remove_consumer("bridge")
        await trim_without(journal)
        assert journal.first_offset > 20


async def trim_without(journal: Journal) -> None:
    for _ in range(20):
        await journal.append([make_entry()], [])


async def test_the_tail_is_kept_for_returning_readers(open_journal: OpenJournal) -> None:
    """Entries younger than keep_seconds and within keep_bytes stay, though every consumer has passed them."""
    async with open_journal(keep_bytes=1 << 20, keep_seconds=3600) as journal:
        journal.consumer("store")
        await trim(journal)
        assert journal.first_offset == 1
    async with open_journal(keep_bytes=1 << 20, keep_seconds=0) as journal:
        await trim(journal)
        assert journal.first_offset > 1


async def test_offsets_go_on_when_everything_is_trimmed(open_journal: OpenJournal) -> None:
    """An offset is never used twice, however much was deleted meanwhile."""
    async with open_journal() as journal:
        journal.consumer("store")
        await trim(journal)
        last = journal.last_offset
    async with open_journal() as journal:
        assert journal.last_offset == last
        assert await journal.append([make_entry()], []) == last + 1


async def test_quarantine_outlives_the_entries(open_journal: OpenJournal) -> None:
    """Quarantined entries are listed with their reasons, the newest first, also after a trim."""
    async with open_journal() as journal:
        journal.consumer("store")
        reasons = [("not_finite", "NaN"), ("out_of_range", "2^63"), ("not_finite", "inf")]
        refused = [
            make_entry(seq, device=device, kind=EntryKind.QUARANTINE, payload=b"{%d}" % seq, reason=reason)
            for seq, device, reason in zip((1, 2, 3), "aba", reasons, strict=True)
        ]
        await journal.append([make_entry(9), *refused[:2]], [])
        await journal.append(refused[2:], [])
        await trim(journal)
        assert journal.first_offset > 4
        await check_quarantine(journal, [content(entry) for entry in refused])
    async with open_journal() as journal:
        await check_quarantine(journal, [content(entry) for entry in refused])


async def check_quarantine(journal: Journal, refused: list[tuple[object, ...]]) -> None:
    found = [content(entry) for entry in await journal.quarantine.page()]
    assert found == refused[::-1]
    assert [content(entry) for entry in await journal.quarantine.page("a")] == [refused[2], refused[0]]
    assert [content(entry) for entry in await journal.quarantine.page(limit=1)] == [refused[2]]
    assert [content(entry) for entry in await journal.quarantine.page(before=4)] == [refused[1], refused[0]]
    assert journal.quarantine.totals == {"not_finite": 2, "out_of_range": 1}


async def test_a_decision_is_durable_with_the_entry_that_replaces_it(open_journal: OpenJournal) -> None:
    """One leaves the quarantine in the transaction that accepts it, one stays with its newest reason; a verdict on what
    is not there, alone too, changes nothing."""
    async with open_journal() as journal:
        refused = [make_entry(seq, kind=EntryKind.QUARANTINE, reason=("empty", "nothing")) for seq in (1, 2, 3)]
        await journal.append(refused, [])
        accepted = make_entry(1)
        verdicts = [
            QuarantineDecision(1),
            QuarantineDecision(2, ("not_finite", "NaN")),
            QuarantineDecision(77),
            QuarantineDecision(78, ("empty", "")),
        ]
        assert await journal.append([accepted], [], verdicts) == 4
        assert await journal.append([], [], [QuarantineDecision(1), QuarantineDecision(4, ("empty", ""))]) == 4
    for _ in range(2):
        async with open_journal() as journal:
            assert [content(entry) for entry in await journal.read(3)] == [content(accepted)]
            left = [content(entry) for entry in await journal.quarantine.page()]
            renamed = content(replace(refused[1], reason=("not_finite", "NaN")))
            assert left == [content(refused[2]), renamed]
            assert [(held.offset, held.code) for held in journal.quarantine.index.values()] == [
                (2, "not_finite"),
                (3, "empty"),
            ]
            assert [content(entry) for entry in await journal.quarantine.entries([3, 1, 2])] == left[::-1]
            assert [content(entry) for entry in await journal.quarantine.page(code="empty")] == left[:1]
            assert [content(entry) for entry in await journal.quarantine.page(max_bytes=1)] == left[:1]
            exact = sum(len(entry.payload) for entry in await journal.quarantine.page(limit=2))
            pages = [len(await journal.quarantine.page(max_bytes=size)) for size in (exact - 1, exact)]
            assert pages == [1, 2]
            assert journal.quarantine.totals == {"empty": 3}
            assert journal.quarantine.dropped == 0


async def test_decisions_without_an_entry_to_write_do_not_wait(open_journal: OpenJournal) -> None:
    """Nothing waits for ever where there is nothing to write."""
    async with open_journal() as journal:
        assert await journal.append([], [], [QuarantineDecision(1)]) == 0
        await journal.append([make_entry(1, kind=EntryKind.QUARANTINE, reason=("empty", ""))], [])
        await asyncio.gather(*(journal.append([], [], [QuarantineDecision(1)]) for _ in range(3)))
        assert (dict(journal.quarantine.index), await journal.quarantine.page()) == ({}, [])


async def test_an_unwritable_entry_fails_alone(open_journal: OpenJournal) -> None:
    """An entry that no file can hold fails its own append only."""
    async with open_journal() as journal:
        with pytest.raises(JournalError, match="cannot be written"):
            await journal.append([make_entry(device="\ud800")], [])
        assert await journal.append([make_entry()], []) == 1
