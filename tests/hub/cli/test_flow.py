from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from hub.cli.audit import findings
from hub.cli.flow import Rates, rates, urgent_first


def row(device: str = "a", **numbers: int | None) -> dict[str, object]:
    empty = dict.fromkeys(("accepted", "stored", "waiting", "refused", "expired", "difference"), 0)
    return {**empty, "device": device, **numbers}


def test_rates_are_what_came_in_between() -> None:
    """What a retention took away was stored all the same, and what is not known has no rate."""
    assert rates(None, row(accepted=5), 1.0) == Rates(None, None)
    assert rates(row(accepted=5), row(accepted=9), 0.0) == Rates(None, None)
    before = row(accepted=100, stored=90, expired=0)
    assert rates(before, row(accepted=300, stored=50, expired=240), 2.0) == Rates(100, 100)
    assert rates(before, row(accepted=300, stored=None, expired=None), 2.0) == Rates(100, None)


@given(st.lists(st.tuples(st.sampled_from([0, None, 3]), st.integers(0, 3), st.integers(0, 3)), max_size=8))
def test_what_does_not_balance_comes_first(books: list[tuple[int | None, int, int]]) -> None:
    """Every device is there once; then come those with most waiting, then the busy ones."""
    rows = [row(f"{n}", difference=difference, waiting=waiting) for n, (difference, waiting, _) in enumerate(books)]
    rate_of = {f"{n}": Rates(float(rate), None) for n, (*_, rate) in enumerate(books)}
    found = urgent_first(rows, rate_of)
    assert sorted(str(one["device"]) for one in found) == sorted(f"{n}" for n in range(len(books)))
    wrong = [bool(one["difference"]) for one in found]
    assert wrong == sorted(wrong, reverse=True)
    keys = [
        (not one["difference"], -int(str(one["waiting"])), -(rate_of[str(one["device"])].accepted or 0))
        for one in found
    ]
    assert keys == sorted(keys)


def metric(counted: int, least: int = 5, most: int = 5) -> dict[str, object]:
    return {"metric": "m", "stored_least": least, "stored_most": most, "counted": counted, "refused": 0, "expired": 0}


def test_an_audit_finds_each_difference() -> None:
    """None where everything agrees; what was written while it was counted may be among the counted or not."""
    assert findings(row(difference=0) | {"metrics": [metric(5), metric(6, 5, 7)]}) == []
    assert "ask again" in findings(row(difference=None) | {"metrics": []})[0]
    assert "a: 2 accepted readings are neither stored" in findings(row(difference=2) | {"metrics": []})[0]
    assert "3 readings more than were accepted" in findings(row(difference=-3) | {"metrics": []})[0]
    less, more = findings(row(difference=0) | {"metrics": [metric(4), metric(8, 5, 7)]})
    assert "a m: the store has 1 readings less than the books say" in less
    assert "a m: the store has 1 readings more" in more
