from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.mqtt.subscriptions import MAX_IDENTIFIER, Subscription, Subscriptions, SubscriptionStore

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


ASKED = st.lists(st.tuples(FILTER, st.integers(0, 1)), max_size=5, unique_by=lambda one: one[0]).map(
    lambda asked: [Subscription(*one) for one in asked]
)


@given(TOPIC, ASKED, st.sets(st.integers(0, 4)), st.booleans())
def test_of_all_deliveries_of_a_message_one_is_no_copy(
    topic: str, asked: list[Subscription], refused: set[int], at_once: bool
) -> None:
    """Whether the broker delivers it for each subscription, or once for all; and it has the highest QoS of them. What
    it refuses delivers nothing."""
    subscriptions = Subscriptions(asked)
    gone = [one.filter for place, one in enumerate(asked) if place in refused]
    subscriptions.update_refused(gone)
    by = delivered_by(topic, [one for one in subscriptions if one.filter not in gone])
    deliveries = [by] if at_once and by else [[one] for one in by]
    taken = [one for one in deliveries if not subscriptions.is_copy(topic, identifiers(one))]
    assert len(taken) == (1 if by else 0)
    assert not taken or max(one.qos for one in taken[0]) == max(one.qos for one in by)


@given(TOPIC, ASKED, ASKED)
def test_what_was_kept_under_other_settings_is_taken(
    topic: str, before: list[Subscription], now: list[Subscription]
) -> None:
    """At least once: an owner of now had no part in it."""
    by = delivered_by(topic, [*Subscriptions(before)])
    subscriptions = Subscriptions(now)
    taken = [one for one in by if not subscriptions.is_copy(topic, identifiers([one]))]
    assert bool(taken) == bool(by)


def identifiers(delivered: list[Subscription]) -> list[int]:
    return [one.identifier for one in delivered if one.identifier]


def test_only_what_overlaps_has_identifiers() -> None:
    """They cost time."""
    asked = [Subscription("a/#"), Subscription("a/+"), Subscription("b")]
    assert [bool(one.identifier) for one in Subscriptions(asked)] == [True, True, False]


def test_news_is_what_the_broker_gives_otherwise_than_before() -> None:
    """Then the others count on each other anew."""
    subscriptions = Subscriptions([Subscription("a/#"), Subscription("a/+"), Subscription("a/b")], ["a/#"])
    before = [one.identifier for one in subscriptions]
    assert before[0] == 0
    assert not subscriptions.update_refused(["a/#"])
    assert subscriptions.update_refused([])
    assert not {*before}.intersection(one.identifier for one in subscriptions)


@given(ASKED)
def test_identifiers_are_what_the_protocol_allows(asked: list[Subscription]) -> None:
    """And always the same."""
    found = [one.identifier for one in Subscriptions(asked)]
    assert found == [one.identifier for one in Subscriptions(asked)]
    assert all(0 <= identifier <= MAX_IDENTIFIER for identifier in found)


@pytest.mark.parametrize("damaged", [None, b"", b"[]", b'{"filters": 1}'])
def test_the_filters_of_before_are_remembered(tmp_path: Path, damaged: bytes | None) -> None:
    """Over a restart; of a file that is damaged nothing is known."""
    path = tmp_path / "mqtt-home.json"
    SubscriptionStore(path).save(["b", "a"], ["c"])
    if damaged is not None:
        path.write_bytes(damaged)
    known = SubscriptionStore(path)
    assert known.obsolete(["b"]) == ([] if damaged is not None else ["a"])
    assert known.refused == ([] if damaged is not None else ["c"])
    known.save(["b"])
    assert SubscriptionStore(path).obsolete([]) == ["b"]
