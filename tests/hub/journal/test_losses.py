"""Losses of a journal: what is declared, what readers get, and what people see."""

from __future__ import annotations

import pytest

from hub.journal import schema
from hub.journal.losses import DAMAGED, MAX_INCIDENTS, REPAIRED, Losses
from hub.journal.reader import EntriesUnreadable
from hub.journal.schema import NO_CONTENTS
from hub.journal.state import JournalState
from hub.model.journal import EntriesLost, JournalError, JournalIncident, JournalTrimmed
from tests.hub.journal.conftest import OpenJournal
from tests.hub.journal.entries import make_entries, make_mark


def losses_of(contents: schema.Contents = NO_CONTENTS) -> Losses:
    """Return the losses of a journal that cannot write."""
    return Losses(JournalState(contents, keep_bytes=0, keep_seconds=0), None, clock=lambda: 7)


def unreadable(first: int, last: int) -> EntriesUnreadable:
    return EntriesUnreadable(first, last, "the checksum is wrong", [])


def test_a_declared_range_is_lost_and_its_neighbours_are_not() -> None:
    """A reader continues behind it. The range ends before what is still in memory."""
    losses = losses_of(NO_CONTENTS._replace(last_offset=100))
    assert losses.declare(unreadable(50, 60), up_to=55).last_offset == 55
    losses.declare(unreadable(10, 12), up_to=100)
    assert [(lost.first_offset, lost.last_offset) for lost in losses.ranges] == [(10, 12), (50, 55)]
    for offset in (9, 13, 49, 56):
        losses.check(offset)
    for offset, first in ((10, 13), (12, 13), (50, 56), (55, 56)):
        with pytest.raises(EntriesLost) as lost:
            losses.check(offset)
        assert lost.value.first == first


@pytest.mark.parametrize(("cursors", "is_lost"), [({}, True), ({"store": 12}, False), ({"a": 50, "b": 11}, True)])
def test_entries_that_every_consumer_has_are_no_loss_of_the_history(cursors: dict[str, int], is_lost: bool) -> None:
    """The incident does not ask for a backup then."""
    losses = losses_of(NO_CONTENTS._replace(last_offset=100, cursors=cursors))
    losses.declare(unreadable(10, 12), up_to=100)
    (incident,) = losses.incidents
    assert ("entries 10 to 12 of the journal are lost" in incident.text) is is_lost
    assert ("restore a backup" in incident.text) is is_lost
    assert ("nothing of the history is lost" in incident.text) is not is_lost


def test_trimmed_entries_are_no_loss() -> None:
    """They were processed before the journal deleted them."""
    losses = losses_of(NO_CONTENTS._replace(first_offset=20, last_offset=30))
    with pytest.raises(JournalTrimmed) as trimmed:
        losses.check(19)
    assert not isinstance(trimmed.value, EntriesLost)
    losses.check(20)


def test_incidents_are_bounded_and_told_to_a_late_listener() -> None:
    """The newest are kept for people. Someone who asks later gets those that were found before."""
    losses = losses_of()
    for number in range(MAX_INCIDENTS + 5):
        losses.report(f"incident {number}")
    heard: list[JournalIncident] = []
    losses.on_incident(heard.append)
    losses.report("the log is repaired", kind=REPAIRED)
    assert [incident.text for incident in heard[:-1]] == [f"incident {n}" for n in range(5, MAX_INCIDENTS + 5)]
    assert {incident.kind for incident in heard[:-1]} == {DAMAGED}
    assert heard[-1] == JournalIncident(REPAIRED, "the log is repaired")
    assert len(losses.incidents) == MAX_INCIDENTS


async def test_a_closed_journal_declares_nothing_durable() -> None:
    """Offsets must not be left out in memory only: they would be used again after a restart."""
    losses = losses_of()
    with pytest.raises(JournalError, match="closed"):
        await losses.continue_after(5, "the file was removed")
    with pytest.raises(JournalError, match="closed"):
        await losses.count()
    assert losses.ranges == []


async def test_lost_ranges_and_their_count_survive_a_restart(open_journal: OpenJournal) -> None:
    """New entries follow behind the range, and nobody counts its readings a second time."""
    async with open_journal(keep_bytes=1 << 20) as journal:
        await journal.append(make_entries(3), [make_mark(3)])
        await journal.continue_after(10, "the end is missing")
        assert await journal.append(make_entries(1, first_seq=4), [make_mark(4)]) == 11
        (lost,) = journal.losses.ranges
        assert (lost.first_offset, lost.last_offset, lost.counted) == (4, 10, False)
        await journal.losses.count()
    async with open_journal(keep_bytes=1 << 20) as journal:
        (lost,) = journal.losses.ranges
        assert (lost.first_offset, lost.last_offset, lost.counted) == (4, 10, True)
        with pytest.raises(EntriesLost):
            await journal.read(3)
        assert [entry.offset for entry in await journal.read(10)] == [11]
