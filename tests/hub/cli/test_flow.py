"""The numbers of `hub flow`."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from hub.cli.flow import FlowRates, rates, urgent_first


def row(device: str = "a", **numbers: int | None) -> dict[str, object]:
    empty = dict.fromkeys(("accepted", "stored", "waiting", "refused", "expired", "difference"), 0)
    return {**empty, "device": device, **numbers}


def test_rates_are_the_difference_of_two_answers() -> None:
    """Expired readings were stored before they expired; an unknown number has no rate."""
    assert rates(None, row(accepted=5), 1.0) == FlowRates(None, None)
    assert rates(row(accepted=5), row(accepted=9), 0.0) == FlowRates(None, None)
    before = row(accepted=100, stored=90, expired=0)
    assert rates(before, row(accepted=300, stored=50, expired=240), 2.0) == FlowRates(100, 100)
    assert rates(before, row(accepted=300, stored=None, expired=None), 2.0) == FlowRates(100, None)


@given(st.lists(st.tuples(st.sampled_from([0, None, 3]), st.integers(0, 3), st.integers(0, 3)), max_size=8))
def test_devices_with_a_difference_come_first(numbers: list[tuple[int | None, int, int]]) -> None:
    """Every device is listed once: then by waiting readings, then by rate."""
    rows = [row(f"{n}", difference=difference, waiting=waiting) for n, (difference, waiting, _) in enumerate(numbers)]
    rate_of = {f"{n}": FlowRates(float(rate), None) for n, (*_, rate) in enumerate(numbers)}
    found = urgent_first(rows, rate_of)
    assert sorted(str(device["device"]) for device in found) == sorted(f"{n}" for n in range(len(numbers)))
    wrong = [bool(device["difference"]) for device in found]
    assert wrong == sorted(wrong, reverse=True)
    keys = [
        (not device["difference"], -int(str(device["waiting"])), -(rate_of[str(device["device"])].accepted or 0))
        for device in found
    ]
    assert keys == sorted(keys)
