"""The findings of `hub audit`."""

from __future__ import annotations

from hub.cli.audit import AuditedLoss, findings, lacks_readings, lost_findings, merge_lost


def row(device: str = "a", **numbers: int | None) -> dict[str, object]:
    empty = dict.fromkeys(("accepted", "stored", "waiting", "refused", "expired", "difference"), 0)
    return {**empty, "device": device, **numbers}


def metric(counted: int, least: int = 5, most: int = 5) -> dict[str, object]:
    return {"metric": "m", "stored_least": least, "stored_most": most, "counted": counted, "refused": 0, "expired": 0}


def test_an_audit_finds_each_difference() -> None:
    """There is no finding if all numbers agree; readings written during the count may be counted or not."""
    assert findings(row(difference=0) | {"metrics": [metric(5), metric(6, 5, 7)]}) == []
    assert "try again" in findings(row(difference=None) | {"metrics": []})[0]
    assert "a: 2 accepted readings are neither stored" in findings(row(difference=2) | {"metrics": []})[0]
    assert "3 more readings exist than were accepted" in findings(row(difference=-3) | {"metrics": []})[0]
    less, more = findings(row(difference=0) | {"metrics": [metric(4), metric(8, 5, 7)]})
    assert "a m: the store has 1 reading less than the accounting" in less
    assert "a m: the store has 1 reading more" in more


def test_only_a_store_with_fewer_readings_is_compared_with_the_journal() -> None:
    """Fewer than were accepted, or than were written."""
    assert not lacks_readings(row(difference=0) | {"metrics": [metric(5), metric(8)]})
    assert not lacks_readings(row(difference=None) | {"metrics": []})
    assert not lacks_readings(row(difference=-2) | {"metrics": []})
    assert lacks_readings(row(difference=2) | {"metrics": []})
    assert lacks_readings(row(difference=0) | {"metrics": [metric(5), metric(4)]})


def part(received_ns: int, *missing: tuple[str, str, int, int, int]) -> dict[str, object]:
    names = ("device", "metric", "readings", "first_ns", "last_ns")
    return {"received_ns": received_ns, "missing": [dict(zip(names, lost, strict=True)) for lost in missing]}


def test_lost_readings_of_all_parts_are_one_range_for_each_series() -> None:
    """The range has the first and last time, and the arrival of the first batch in which a reading is missing."""
    parts = [part(100), part(200, ("a", "m", 2, 50, 60)), part(300, ("a", "m", 3, 40, 55), ("a", "n", 1, 7, 7))]
    assert merge_lost(parts) == [AuditedLoss("a", "m", 5, 40, 60, 200), AuditedLoss("a", "n", 1, 7, 7, 300)]


def test_lost_readings_come_with_the_next_step() -> None:
    """Each series has a sentence; one more has the command, from the first arrival of them all."""
    second = 1_000_000_000
    lost = [
        AuditedLoss("a", "m", 5, 40 * second, 60 * second, 200 * second),
        AuditedLoss("a", "n", 1, 0, 0, 90 * second),
    ]
    first, _, step = lost_findings(lost)
    assert first == (
        "a m: the store acknowledged and lost 5 readings, from 1970-01-01T00:00:40Z to 1970-01-01T00:01:00Z"
    )
    assert "`hub store resend --since 1970-01-01T00:01:30Z`" in step
    assert lost_findings([]) == []
