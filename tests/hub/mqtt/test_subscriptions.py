from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.mqtt.subscriptions import MAX_IDENTIFIER, AskedBefore, Subscription, Subscriptions

LEVEL = st.sampled_from(["a", "b", "c"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=3).map("/".join)
FILTER = st.lists(LEVEL | st.just("+"), min_size=1, max_size=3).map("/".join) | st.sampled_from(["#", "a/#", "+/b/#"])


def delivered_by(topic: str, filters: list[Subscription]) -> list[Subscription]:
    """The subscriptions that MQTT delivers a message of this topic for."""

    def matches(filter: str) -> bool:
        levels, parts = filter.split("/"), topic.split("/")
        if levels[-1] == "#":
            parts = parts[: len(levels) - 1]
            levels = levels[:-1]
        return len(levels) == len(parts) and all(one in ("+", part) for one, part in zip(levels, parts, strict=True))

    return [one for one in filters if matches(one.filter)]


@given(TOPIC, st.lists(st.tuples(FILTER, st.integers(0, 1)), max_size=5, unique_by=lambda one: one[0]), st.booleans())
def test_of_all_deliveries_of_a_message_one_is_no_copy(
    topic: str, filters: list[tuple[str, int]], at_once: bool
) -> None:
    """Whether the broker delivers it for each subscription, or once for all; and it has the highest QoS of them."""
    asked = [Subscription(filter, qos) for filter, qos in filters]
    by = delivered_by(topic, asked)
    subscriptions = Subscriptions(asked)
    deliveries = [by] if at_once and by else [[one] for one in by]
    taken = [one for one in deliveries if not subscriptions.is_copy(topic, [sub.identifier for sub in one])]
    assert len(taken) == (1 if by else 0)
    assert not taken or max(one.qos for one in taken[0]) == max(one.qos for one in by)


def test_what_no_identifier_tells_is_no_copy() -> None:
    """A broker of MQTT 3.1.1 has none; that of a subscription of before is of what the broker had kept."""
    subscriptions = Subscriptions([Subscription("a/+")])
    assert not subscriptions.is_copy("a/b", [])
    assert not subscriptions.is_copy("a/b", [Subscription("a/#").identifier])


def test_a_subscription_that_is_refused_takes_nothing() -> None:
    """What it would have brought comes by another one."""
    first, second = Subscription("a/#"), Subscription("a/+")
    subscriptions = Subscriptions([first, second])
    assert subscriptions.is_copy("a/b", [second.identifier])
    subscriptions.granted(["a/#"])
    assert not subscriptions.is_copy("a/b", [second.identifier])


@given(st.text(min_size=1))
def test_identifiers_are_what_the_protocol_allows(filter: str) -> None:
    """And always the same."""
    assert 1 <= Subscription(filter).identifier == Subscription(filter, 0).identifier <= MAX_IDENTIFIER


@pytest.mark.parametrize("damaged", [None, b"", b"{}", b"[1]"])
def test_the_filters_of_before_are_remembered(tmp_path: Path, damaged: bytes | None) -> None:
    """Over a restart; of a file that is damaged nothing is known."""
    path = tmp_path / "mqtt-home.json"
    AskedBefore(path).keep(["b", "a"])
    if damaged is not None:
        path.write_bytes(damaged)
    known = AskedBefore(path)
    assert known.others_than(["b"]) == ([] if damaged is not None else ["a"])
    known.keep(["b"])
    assert AskedBefore(path).others_than([]) == ["b"]
