"""What was sent and what became of it."""

from __future__ import annotations

from device_agent.uplink import Count, Tally


def test_a_batch_counts_once_however_often_it_is_sent() -> None:
    """A repeated batch is a second transmission and the same acknowledgement."""
    tally = Tally()
    for seq in (1, 2, 3, 2, 3):
        tally.transmit(seq, 10 * seq)
    tally.acknowledge(2)
    assert (tally.acknowledged, tally.transmissions) == (Count(2, 30), 5)
    tally.acknowledge(2)
    tally.acknowledge(3)
    assert tally.acknowledged == Count(3, 60)


def test_a_rejected_batch_is_counted_with_its_readings() -> None:
    """The readings in quarantine are known as long as the batch is under way."""
    tally = Tally()
    tally.transmit(1, 7)
    tally.transmit(2, 8)
    tally.reject(2)
    tally.acknowledge(2)
    tally.reject(2)
    assert (tally.rejected, tally.acknowledged) == (Count(2, 8), Count(2, 15))


def test_a_new_epoch_begins_without_anything_under_way() -> None:
    """What was sent in the old epoch is sent again, and counted then."""
    tally = Tally()
    tally.transmit(1, 5)
    tally.begin_epoch()
    tally.transmit(1, 5)
    tally.acknowledge(1)
    assert tally.acknowledged == Count(1, 5)
