"""Subscriptions, copies of messages, and the file of filters."""

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
    """Return the subscriptions for which MQTT delivers a message with this topic."""

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
def test_exactly_one_delivery_of_a_message_is_not_a_copy(
    topic: str, asked: list[Subscription], refused: set[int], at_once: bool
) -> None:
    """The broker may deliver it for each subscription or once for all.

    The accepted delivery has the highest QoS. Refused subscriptions deliver nothing.
    """
    subscriptions = Subscriptions(asked)
    gone = [one.filter for place, one in enumerate(asked) if place in refused]
    subscriptions.update_refused(gone)
    by = delivered_by(topic, [one for one in subscriptions if one.filter not in gone])
    deliveries = [by] if at_once and by else [[one] for one in by]
    taken = [one for one in deliveries if not subscriptions.is_copy(topic, identifiers(one))]
    assert len(taken) == (1 if by else 0)
    assert not taken or max(one.qos for one in taken[0]) == max(one.qos for one in by)


@given(TOPIC, ASKED, ASKED)
def test_a_message_kept_under_other_settings_is_accepted(
    topic: str, before: list[Subscription], now: list[Subscription]
) -> None:
    """It is accepted at least once: its identifiers are unknown to the current settings."""
    by = delivered_by(topic, [*Subscriptions(before)])
    subscriptions = Subscriptions(now)
    taken = [one for one in by if not subscriptions.is_copy(topic, identifiers([one]))]
    assert bool(taken) == bool(by)


def identifiers(delivered: list[Subscription]) -> list[int]:
    return [one.identifier for one in delivered if one.identifier]


def test_only_overlapping_subscriptions_have_identifiers() -> None:
    """Identifiers cost time."""
    asked = [Subscription("a/#"), Subscription("a/+"), Subscription("b")]
    assert [bool(one.identifier) for one in Subscriptions(asked)] == [True, True, False]


def test_a_change_of_the_refused_filters_is_reported() -> None:
    """The remaining subscriptions then get new identifiers."""
    subscriptions = Subscriptions([Subscription("a/#"), Subscription("a/+"), Subscription("a/b")], ["a/#"])
    before = [one.identifier for one in subscriptions]
    assert before[0] == 0
    assert not subscriptions.update_refused(["a/#"])
    assert subscriptions.update_refused([])
    assert not {*before}.intersection(one.identifier for one in subscriptions)


@given(ASKED)
def test_identifiers_are_in_the_range_of_the_protocol(asked: list[Subscription]) -> None:
    """They are also deterministic."""
    found = [one.identifier for one in Subscriptions(asked)]
    assert found == [one.identifier for one in Subscriptions(asked)]
    assert all(0 <= identifier <= MAX_IDENTIFIER for identifier in found)


@pytest.mark.parametrize("damaged", [None, b"", b"[]", b'{"filters": 1}'])
def test_the_filters_survive_a_restart(tmp_path: Path, damaged: bytes | None) -> None:
    """A damaged file means that no filters are known."""
    path = tmp_path / "mqtt-home.json"
    SubscriptionStore(path).save(["b", "a"], ["c"])
    if damaged is not None:
        path.write_bytes(damaged)
    known = SubscriptionStore(path)
    assert known.obsolete(["b"]) == ([] if damaged is not None else ["a"])
    assert known.refused == ([] if damaged is not None else ["c"])
    known.save(["b"])
    assert SubscriptionStore(path).obsolete([]) == ["b"]
