"""Presence of edge nodes and devices: deaths, ended connections, and the host's own state."""

from __future__ import annotations

import json

import pytest

from hub.mqtt.message import AvailabilityChange, Message, Publish
from hub.mqtt.sparkplug.host import HostApplication
from hub.mqtt.sparkplug.node import MAX_HELD
from hub.mqtt.topics import sparkplug_group
from tests.hub.mqtt.sparkplug.joined import NODE, PUMP, VALVE, Joined


def test_the_death_of_a_node_is_that_of_its_devices(joined: Joined) -> None:
    """An NDEATH with the number of the session sets all of them offline."""
    joined.deliver(joined.edge.die())
    assert joined.listener.online == {NODE: False, PUMP: False, VALVE: False}
    assert joined.host.due_ns is None
    joined.deliver(*joined.edge.connect())
    assert joined.listener.online == {NODE: True, PUMP: True, VALVE: True}


def test_the_will_of_an_earlier_session_changes_nothing(joined: Joined) -> None:
    """It arrives late if the broker detects the lost connection late."""
    will = joined.edge.die()
    joined.deliver(*joined.edge.connect())
    joined.deliver(will)
    assert joined.listener.online == {NODE: True, PUMP: True, VALVE: True}
    assert joined.host.counts["late_death"] == 1


def test_the_will_of_a_session_that_was_never_seen_counts(joined: Joined) -> None:
    """The births of that session were lost, so the known session is over, too. Session numbers restart after 255."""
    for _ in range(2):
        joined.edge.connect()
    joined.deliver(joined.edge.die())
    assert joined.listener.online[NODE] is False
    joined.edge.bd_seq = 254
    joined.deliver(*joined.edge.connect())
    joined.edge.connect()
    assert joined.edge.bd_seq == 0
    joined.deliver(joined.edge.die())
    assert joined.listener.online[NODE] is False


def test_only_the_configured_groups_are_accepted() -> None:
    """A host without groups accepts all. A filter for a part of a group is rejected."""
    assert [sparkplug_group(topic) for topic in ("spBv1.0/#", "spBv1.0/Plant1/#")] == ["", "Plant1"]
    for topic in ("spBv1.0", "a/#", "spBv1.0/+/#", "spBv1.0/Plant1/NDATA/#", "spBv1.0/Plant1/"):
        with pytest.raises(ValueError, match="does not belong to Sparkplug"):
            sparkplug_group(topic)
    some, every = HostApplication("hub", ["Plant1"]), HostApplication()
    topics = ["spBv1.0/Plant1/NBIRTH/n", "spBv1.0/Plant2/NBIRTH/n", "spBv1.0/STATE/hub"]
    assert [some.takes(topic) for topic in topics] == [True, False, True]
    assert [every.takes(topic) for topic in topics] == [True, True, False]
    assert {filter.split("/")[1] for filter in some.filters} == {"Plant1", "STATE"}


def test_a_wrong_state_of_the_host_is_corrected() -> None:
    """Another client has published to the topic: nested too deeply, not an object, or another state."""
    host = HostApplication("hub")
    host.connected(5)
    for payload in (b"[" * 100_000, b"1", b"\xff", b"{}", b'{"online":false}'):
        (said,) = host.decode(Message("spBv1.0/STATE/hub", payload))
        assert isinstance(said, Publish)
        assert json.loads(said.payload)["online"] is True
    assert host.decode(Message("spBv1.0/STATE/hub", b'{"online":true}')) == []


def test_the_death_of_an_unknown_node_is_reported() -> None:
    """The hub may know the device from before its start."""
    joined = Joined()
    joined.edge.connect()
    assert joined.host.decode(joined.edge.die()) == [AvailabilityChange(NODE, online=False)]


def test_one_device_dies_and_returns(joined: Joined) -> None:
    """A DDEATH sets one device offline, its birth sets it online."""
    joined.deliver(joined.edge.die("valve"))
    assert joined.listener.online == {NODE: True, PUMP: True, VALVE: False}
    joined.deliver(joined.edge.birth("valve"))
    assert joined.listener.online[VALVE] is True


def test_a_device_without_a_birth_in_a_new_session_is_offline(joined: Joined) -> None:
    """All births come before the first data of a session."""
    del joined.edge.values["valve"]
    joined.deliver(*joined.edge.births())
    assert joined.listener.online[VALVE] is True
    joined.deliver(joined.edge.change("", "load", 3.0))
    assert joined.listener.online == {NODE: True, PUMP: True, VALVE: False}


def test_a_repeated_birth_does_not_restart_the_session() -> None:
    """A copy of the node's birth among its messages is ignored."""
    joined = Joined()
    births = joined.edge.connect()
    joined.deliver(*births, *births, joined.edge.change("pump", "speed", 4.0), births[0])
    assert joined.agrees()
    assert joined.host.due_ns is None
    assert joined.host.counts["duplicate"] == len(births) + 1


def test_too_many_held_messages_end_the_wait(joined: Joined) -> None:
    """The number of held messages is bounded, too."""
    joined.edge.change("pump", "speed", 1.0)
    joined.deliver(*(joined.edge.change("pump", "flow", 1.0) for _ in range(MAX_HELD)))
    assert not joined.listener.refused
    joined.deliver(joined.edge.change("pump", "flow", 1.0))
    assert len(joined.listener.refused) == MAX_HELD + 1
    joined.deliver(*(joined.edge.change("pump", "flow", 1.0) for _ in range(MAX_HELD + 5)))
    assert len(joined.listener.refused) == MAX_HELD + 6


def test_a_lost_broker_sets_everything_offline(joined: Joined) -> None:
    """Messages may be missing, so the births of all nodes are requested after the reconnect."""
    joined.listener.hear(joined.host.disconnected(joined.edge.now_ns))
    assert joined.listener.online == {NODE: False, PUMP: False, VALVE: False}
    for _ in range(100):
        joined.pass_time(60_000)
    assert not joined.listener.published
    joined.listener.hear(joined.host.connected(joined.edge.now_ns))
    assert joined.listener.rebirths() == ["spBv1.0/plant/NCMD/edge"]
    joined.deliver(*joined.edge.births())
    assert joined.agrees()
    assert joined.listener.online == {NODE: True, PUMP: True, VALVE: True}


def test_will_and_birth_of_the_host_have_the_same_time() -> None:
    """Both are retained, have QoS 1 and the time of the connection."""
    host = HostApplication("hub-1")
    will = host.will(1_500_000_000)
    assert will is not None
    (birth,) = host.connected(9_000_000_000)
    assert isinstance(birth, Publish)
    for state, online in ((will, False), (birth, True)):
        assert (state.topic, state.qos, state.retain) == ("spBv1.0/STATE/hub-1", 1, True)
        assert json.loads(state.payload) == {"online": online, "timestamp": 1500}
    assert "spBv1.0/STATE/hub-1" in host.filters
    assert host.wants_retained(birth.topic)
    assert host.decode(Message(birth.topic, birth.payload)) == []
    assert host.decode(Message(will.topic, will.payload)) == [birth]
    assert host.decode(Message(will.topic, b"OFFLINE")) == [birth]


def test_a_host_without_an_id_has_no_state() -> None:
    """It listens and requests rebirths, and no edge node waits for it."""
    host = HostApplication()
    assert host.will(1) is None
    assert host.connected(1) == []
    assert not any("STATE" in filter for filter in host.filters)
    with pytest.raises(ValueError, match="host id"):
        HostApplication("a/b")
