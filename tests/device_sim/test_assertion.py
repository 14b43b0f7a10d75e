from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sim.assertion import QUANTITIES, AssertionSyntaxError, parse_assertion
from device_sim.report import Amounts, Distribution
from tests.device_sim.reports import GOOD, a_report


@pytest.mark.parametrize(
    "expression",
    [
        "lost==0", "lost == 0", " lost<=0 ", "sent>1e3", "ack.p99<8.5ms", "ack.p99<0.0085s", "ack.max>=10.25ms",
        "ack.p50 < 1501us", "lag.p999<1ms", "stored==sent", "0==duplicated", "cpu<30%", "cpu<0.3", "rss<0.061GB",
        "rate==120/s", "rate > 100", "elapsed>=10s", "connected==devices", "batches.repeated != 0", "lag.p99<ack.p99",
    ],
)  # fmt: skip
def test_a_true_condition_of_a_report_holds(expression: str) -> None:
    """Names, numbers and units on either side mean what they say."""
    assert parse_assertion(expression).evaluate(GOOD).holds


@pytest.mark.parametrize(
    "expression",
    ["lost!=0", "sent<1e3", "ack.p99<8ms", "ack.p99<=0.0079s", "stored!=sent", "cpu<25%", "rss>61MB", "rate<100/s"],
)
def test_a_false_condition_of_a_report_does_not_hold(expression: str) -> None:
    """The bound itself counts as each comparison says."""
    verdict = parse_assertion(expression).evaluate(GOOD)
    assert not verdict.holds
    assert verdict.expression == expression


def test_the_verdict_says_what_was_found() -> None:
    """A failed assertion shows the figure with its unit."""
    found = {
        e: parse_assertion(e).evaluate(GOOD).found for e in ("sent==0", "ack.p99<1ms", "cpu>1", "rss<1MB", "rate<1")
    }
    assert list(found.values()) == ["1,200", "8.000 ms", "25.0%", "60.0 MB", "120.0/s"]


@pytest.mark.parametrize("expression", ["stored==sent", "duplicated==0", "ack.p99<100ms"])
def test_a_figure_that_the_report_lacks_holds_nothing(expression: str) -> None:
    """Without the hub's books, or without an acknowledgement, nothing can be asserted of them."""
    assert not parse_assertion(expression).evaluate(a_report(hub=None, ack_ms=Distribution())).holds


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "not a comparison"),
        ("lost", "not a comparison"),
        ("lost=0", "not a comparison"),
        ("lost==", "not a comparison"),
        ("lots==0", "there is no 'lots'; use one of sent"),
        ("ack.p98<1ms", "there is no 'ack.p98'"),
        ("ack.p99<100", "lacks a unit after 100: use one of us, µs, ms, s"),
        ("rss<100", "use one of KB, MB, GB"),
        ("ack.p99<100 parsecs", "no unit 'parsecs'"),
        ("ack.p99<5MB", "compares a time with a size"),
        ("ack.p99<sent", "compares a time with a count"),
        ("lost==0ms", "compares a count with a time"),
        ("1==1", "no figure of the run"),
        ("lost==0 and sent>1", "there is no unit 'and sent>1'"),
        ("__class__==0", "there is no '__class__'"),
    ],
)
def test_a_mistake_in_an_assertion_is_named(expression: str, says: str) -> None:
    """A mistake is named before anything runs."""
    with pytest.raises(AssertionSyntaxError, match=re.escape(says)):
        parse_assertion(expression)


@given(st.text(max_size=30) | st.from_regex(r"[a-z.0-9]{0,8}[=<>!]{1,2}[a-z.0-9 %/]{0,8}", fullmatch=True))
def test_any_text_is_an_assertion_or_one_error(text: str) -> None:
    """Nothing else comes out of the parser."""
    try:
        assertion = parse_assertion(text)
    except AssertionSyntaxError:
        return
    assert assertion.evaluate(GOOD).expression == text


@given(name=st.sampled_from(["sent", "lost", "connected"]), bound=st.integers(0, 5000), value=st.integers(0, 5000))
def test_comparisons_are_those_of_numbers(name: str, bound: int, value: int) -> None:
    """Each sign compares as Python's does."""
    report = a_report(readings=Amounts(value, value, 0, value), devices=GOOD.devices)
    actual = QUANTITIES[name].of(report)
    assert actual is not None
    for sign, expected in {
        "==": actual == bound, "!=": actual != bound, "<": actual < bound, "<=": actual <= bound, ">": actual > bound,
        ">=": actual >= bound,
    }.items():  # fmt: skip
        assert parse_assertion(f"{name}{sign}{bound}").evaluate(report).holds is expected


def test_every_name_can_be_asked_for() -> None:
    """The names and units in the error message are valid."""
    suffix = {"time": "ms", "size": "MB"}
    for name, quantity in QUANTITIES.items():
        assert parse_assertion(f"{name}>=0{suffix.get(quantity.dimension, '')}").evaluate(GOOD).holds, name
