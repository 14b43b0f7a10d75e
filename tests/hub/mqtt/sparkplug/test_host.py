"""The host application follows edge nodes through births, gaps, deaths and connections that end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.mqtt.reading import Message, Presence, Publish, Sample, Undecodable
from hub.mqtt.sparkplug import host as host_module
from hub.mqtt.sparkplug.datatype import DataType
from hub.mqtt.sparkplug.host import REORDER_MS, Host
from hub.mqtt.sparkplug.node import MAX_DEVICES, MAX_HELD
from hub.mqtt.sparkplug.payload import Payload, encode, metric
from hub.mqtt.sparkplug.rebirth import FIRST_PAUSE_NS, LONGEST_PAUSE_NS
from tests.hub.mqtt.sparkplug.edge import NS_PER_MS, Edge, Listener
from wire.limits import MAX_METRICS

VALUES = {"": {"load": 1.0}, "pump": {"speed": 10.0, "flow": 11.0}, "valve": {"position": 20.0}}
NAMES = [(device, name) for device, metrics in VALUES.items() for name in metrics]
NODE, PUMP, VALVE = "plant.edge", "plant.edge.pump", "plant.edge.valve"


class Joined:
    """An edge node, a host and a listener."""

    def __init__(self, **options: Any) -> None:
        self.edge = Edge(VALUES)
        self.host = Host(**options)
        self.listener = Listener()

    def deliver(self, *messages: Message) -> None:
        for message in messages:
            self.listener.hear(self.host.decode(message))

    def pass_time(self, by_ms: int) -> None:
        self.edge.now_ms += by_ms
        self.listener.hear(self.host.expire(self.edge.now_ns))

    def agrees(self) -> bool:
        """Whether the listener has the edge node's values, all of them and no others."""
        devices = self.edge.values.items()
        ids = {device: f"{NODE}.{device}" if device else NODE for device in self.edge.values}
        return self.listener.values() == {
            (ids[device], name): value for device, metrics in devices for name, value in metrics.items()
        }


@pytest.fixture
def joined() -> Joined:
    """Joined after the edge node's births."""
    joined = Joined()
    joined.deliver(*joined.edge.connect())
    return joined


def of(metrics: Iterable[Any], **options: Any) -> tuple[Host, list[Any]]:
    """What a host finds in a node's birth with these metrics."""
    host = Host()
    born = Message("spBv1.0/g/NBIRTH/n", encode(Payload(5, 0, tuple(metrics))), received_ns=NS_PER_MS)
    return host, host.decode(born)


def test_births_tell_metrics_presence_and_values(joined: Joined) -> None:
    """Each birth declares a device of the hub with its metrics and tags, brings it online and has its first values."""
    assert joined.agrees()
    assert joined.listener.online == {NODE: True, PUMP: True, VALVE: True}
    pump = joined.listener.declared[PUMP]
    assert [(told.name, told.type) for told in pump.metrics] == [("speed", "float"), ("flow", "float")]
    assert pump.tags == {"sparkplug_group": "plant", "sparkplug_node": "edge", "sparkplug_device": "pump"}
    assert not joined.listener.refused
    assert not joined.listener.published


def test_data_by_alias_and_by_name_is_taken(joined: Joined) -> None:
    """A metric is known by either, its type and unit from its birth."""
    joined.deliver(joined.edge.change("pump", "flow", 12.5), joined.edge.change("", "load", 2.5, by_name=True))
    assert joined.agrees()
    assert not joined.listener.refused


def test_sequence_numbers_begin_again_after_255(joined: Joined) -> None:
    """Three rounds of numbers pass without a doubt."""
    for value in range(3 * 256):
        joined.deliver(joined.edge.change("valve", "position", float(value)))
    assert joined.agrees()
    assert set(joined.host.counts) == {"control"}


def test_messages_in_another_order_are_put_in_order(joined: Joined) -> None:
    """What comes too early waits for those before it, and no rebirth is asked for."""
    first, second, third = (joined.edge.change("valve", "position", value) for value in (1.0, 2.0, 3.0))
    joined.deliver(third, second)
    assert joined.listener.values()[VALVE, "position"] == 20.0
    joined.deliver(first)
    assert [sample.value for sample in joined.listener.samples[-3:]] == [1.0, 2.0, 3.0]
    joined.pass_time(REORDER_MS * 2)
    assert not joined.listener.published
    assert not joined.listener.refused


def test_a_gap_that_stays_asks_for_a_rebirth(joined: Joined) -> None:
    """After the reorder timeout what has no name is refused, and the births are asked for."""
    joined.edge.change("pump", "speed", 30.0)
    later, named = joined.edge.change("pump", "flow", 31.0), joined.edge.change("valve", "position", 32.0, by_name=True)
    joined.deliver(later, named)
    joined.pass_time(REORDER_MS - 10)
    assert not joined.listener.published
    joined.pass_time(10)
    assert joined.listener.rebirths() == ["spBv1.0/plant/NCMD/edge"]
    assert [(refused.message, refused.code) for refused in joined.listener.refused] == [(later, "out_of_order")]
    assert joined.listener.values()[VALVE, "position"] == 32.0
    joined.deliver(*joined.edge.births())
    assert joined.agrees()
    joined.deliver(joined.edge.change("pump", "speed", 33.0))
    assert joined.agrees()


def test_an_alias_is_never_taken_for_another_metric() -> None:
    """Births were lost, and their aliases with them: what comes then changes no metric."""
    joined = Joined()
    joined.deliver(*joined.edge.connect())
    joined.deliver(joined.edge.change("", "load", 2.0), joined.edge.change("", "load", 3.0))
    before = joined.listener.values()
    joined.edge.births()
    for _ in range(3):
        joined.deliver(*(joined.edge.change(device, name, 99.0) for device, name in NAMES))
    joined.pass_time(REORDER_MS)
    assert joined.listener.values() == before
    assert joined.listener.rebirths()


def test_a_message_of_before_the_births_is_not_read_with_their_aliases(joined: Joined) -> None:
    """It arrives after them with the very number that is waited for."""
    late = joined.edge.change("pump", "flow", 99.0)
    births = joined.edge.births()
    joined.deliver(*births, late)
    assert [refused.message for refused in joined.listener.refused] == [late]
    joined.deliver(joined.edge.change("pump", "speed", 5.0))
    assert joined.agrees()


def test_a_rebirth_forgets_what_it_does_not_define(joined: Joined) -> None:
    """A metric that the births no longer have is unknown, by name and by alias."""
    del joined.edge.values["pump"]["flow"]
    joined.deliver(*joined.edge.births())
    gone = metric(DataType.DOUBLE, 1.0, name="flow", time_ms=joined.edge.now_ms)
    joined.deliver(joined.edge.message("DDATA", "pump", [gone]))
    assert [refused.code for refused in joined.listener.refused] == ["unknown_metric"]


def test_a_device_birth_that_overtook_the_nodes_is_kept() -> None:
    """Births go by different topics; the order in which they arrive does not matter."""
    joined = Joined()
    node, *devices = joined.edge.connect()
    joined.deliver(*reversed(devices), node)
    assert joined.agrees()
    assert not joined.listener.refused


def test_data_before_a_birth_asks_for_a_rebirth_at_once() -> None:
    """A hub that was started after the edge node does not wait for what cannot come."""
    joined = Joined()
    joined.edge.connect()
    data = joined.edge.change("pump", "flow", 5.0)
    joined.deliver(data)
    assert joined.listener.rebirths() == ["spBv1.0/plant/NCMD/edge"]
    joined.deliver(*joined.edge.births())
    assert [refused.message for refused in joined.listener.refused] == [data]
    assert joined.agrees()


def test_data_of_a_device_that_was_not_born_is_refused(joined: Joined) -> None:
    """A device that died has to be born again before it may say anything."""
    joined.deliver(joined.edge.die("pump"), joined.edge.change("pump", "flow", 5.0))
    assert [refused.code for refused in joined.listener.refused] == ["before_birth"]
    assert len(joined.listener.rebirths()) == 1


def test_an_unknown_metric_asks_for_a_rebirth(joined: Joined) -> None:
    """What the birth did not define is refused; the rest of its message is taken."""
    known, unknown = (metric(DataType.DOUBLE, 7.0, time_ms=joined.edge.now_ms + 9) for _ in range(2))
    told = [known._replace(name="flow"), unknown._replace(alias=77), unknown._replace(name="pressure")]
    joined.deliver(joined.edge.message("DDATA", "pump", told))
    assert joined.listener.values()[PUMP, "flow"] == 7.0
    (refused,) = joined.listener.refused
    assert refused.code == "unknown_metric"
    assert "alias 77, 'pressure'" in refused.sentence
    assert len(joined.listener.rebirths()) == 1


def test_rebirth_requests_are_bounded_in_rate() -> None:
    """An edge node that never answers is asked less and less often, and one that answers is asked anew."""
    joined = Joined()
    joined.edge.connect()
    asked: list[int] = []
    for _ in range(3600):
        joined.deliver(joined.edge.change("pump", "flow", 5.0))
        if len(joined.listener.published) > len(asked):
            asked.append(joined.edge.now_ns)
        joined.edge.now_ms += 1000
    pauses = [after - before for before, after in pairwise(asked)]
    assert pauses[0] >= FIRST_PAUSE_NS
    assert pauses == sorted(pauses)
    assert pauses[-1] >= LONGEST_PAUSE_NS
    assert len(asked) == 17
    joined.deliver(*joined.edge.births())
    joined.deliver(joined.edge.die("pump"), joined.edge.change("pump", "flow", 6.0))
    joined.pass_time(FIRST_PAUSE_NS // NS_PER_MS)
    assert len(joined.listener.published) == 18


def test_a_request_that_was_lost_is_made_again_though_nothing_arrives(joined: Joined) -> None:
    """A silent edge node is not forgotten: `due_ns` says when to go on."""
    joined.deliver(joined.edge.die("pump"), joined.edge.change("pump", "flow", 5.0))
    due_ns = joined.host.due_ns
    assert due_ns is not None
    joined.listener.hear(joined.host.expire(due_ns - 1))
    assert len(joined.listener.rebirths()) == 1
    joined.listener.hear(joined.host.expire(due_ns))
    assert len(joined.listener.rebirths()) == 2


def test_the_death_of_a_node_is_that_of_its_devices(joined: Joined) -> None:
    """An NDEATH with the session's number makes everything stale."""
    joined.deliver(joined.edge.die())
    assert joined.listener.online == {NODE: False, PUMP: False, VALVE: False}
    assert joined.host.due_ns is None
    joined.deliver(*joined.edge.connect())
    assert joined.listener.online == {NODE: True, PUMP: True, VALVE: True}


def test_the_will_of_an_earlier_session_changes_nothing(joined: Joined) -> None:
    """It comes late where the broker noticed late that the connection was lost."""
    will = joined.edge.die()
    joined.deliver(*joined.edge.connect())
    joined.deliver(will)
    assert joined.listener.online == {NODE: True, PUMP: True, VALVE: True}
    assert joined.host.counts["late_death"] == 1


def test_the_will_of_a_session_that_was_never_seen_counts(joined: Joined) -> None:
    """Its births were lost: the session known is over all the same, and session numbers begin again after 255."""
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


def test_the_death_of_a_node_that_is_not_known_is_told() -> None:
    """The hub may know the device from before it was started."""
    joined = Joined()
    joined.edge.connect()
    assert joined.host.decode(joined.edge.die()) == [Presence(NODE, online=False)]


def test_a_device_comes_and_goes_alone(joined: Joined) -> None:
    """A DDEATH makes one device stale; its birth brings it back."""
    joined.deliver(joined.edge.die("valve"))
    assert joined.listener.online == {NODE: True, PUMP: True, VALVE: False}
    joined.deliver(joined.edge.birth("valve"))
    assert joined.listener.online[VALVE] is True


def test_a_device_without_a_birth_in_a_new_session_is_gone(joined: Joined) -> None:
    """All births come before the first data: who had none by then is no longer there."""
    del joined.edge.values["valve"]
    joined.deliver(*joined.edge.births())
    assert joined.listener.online[VALVE] is True
    joined.deliver(joined.edge.change("", "load", 3.0))
    assert joined.listener.online == {NODE: True, PUMP: True, VALVE: False}


def test_a_birth_that_comes_twice_does_not_begin_again() -> None:
    """A copy of the node's birth between its messages is passed over."""
    joined = Joined()
    births = joined.edge.connect()
    joined.deliver(*births, *births, joined.edge.change("pump", "speed", 4.0), births[0])
    assert joined.agrees()
    assert joined.host.due_ns is None
    assert joined.host.counts["duplicate"] == len(births) + 1


def test_too_many_kept_messages_end_the_wait(joined: Joined) -> None:
    """What is kept is bounded by number, too."""
    joined.edge.change("pump", "speed", 1.0)
    joined.deliver(*(joined.edge.change("pump", "flow", 1.0) for _ in range(MAX_HELD)))
    assert not joined.listener.refused
    joined.deliver(joined.edge.change("pump", "flow", 1.0))
    assert len(joined.listener.refused) == MAX_HELD + 1
    joined.deliver(*(joined.edge.change("pump", "flow", 1.0) for _ in range(MAX_HELD + 5)))
    assert len(joined.listener.refused) == MAX_HELD + 6


def test_a_lost_broker_makes_everything_stale(joined: Joined) -> None:
    """What was missed meanwhile is unknown: the births of all nodes are asked for when the broker is back."""
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


def test_the_state_of_the_host_is_told_with_one_time() -> None:
    """Will and birth are retained, of QoS 1 and of the time of the connection."""
    host = Host("hub-1")
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
    """It listens and asks for rebirths; no edge node waits for it."""
    host = Host()
    assert host.will(1) is None
    assert host.connected(1) == []
    assert not any("STATE" in filter for filter in host.filters)
    with pytest.raises(ValueError, match="host id"):
        Host("a/b")


@pytest.mark.parametrize(
    ("topic", "taken"),
    [
        ("spBv1.0/g/NDATA/n", True),
        ("spBv1.0/g/DDATA/n/d", True),
        ("spBv1.0/g/NCMD/n", False),
        ("spBv1.0/g/DDATA/n", False),
        ("spBv1.0/g/NDATA/n/d", False),
        ("spBv1.0/g/NDATA/", False),
        ("spBv1.0/STATE/other", False),
        ("spAv1.0/g/NDATA/n", False),
    ],
)
def test_messages_of_edge_nodes_are_taken_and_no_others(topic: str, taken: bool) -> None:
    """Commands and other hosts' states are not for this decoder."""
    assert Host("hub").takes(topic) is taken


def test_units_types_and_descriptions_come_from_the_birth() -> None:
    """engUnit becomes the unit, and each type one of the hub's."""
    _, (declared, _, *samples) = of(
        [
            metric(DataType.FLOAT, 1.5, name="t", properties={"engUnit": "°C"}, description="outside", time_ms=7),
            metric(DataType.UINT16, 2, name="n", is_historical=True),
            metric(DataType.BOOLEAN, True, name="b"),
            metric(DataType.UUID, "x", name="u"),
            metric(DataType.DATETIME, 1486144502122, name="d"),
            metric(DataType.INT8, None, name="null"),
        ]
    )
    assert [(told.name, told.type, told.unit, told.description) for told in declared.metrics] == [
        ("t", "float", "°C", "outside"),
        ("n", "integer", "", ""),
        ("b", "boolean", "", ""),
        ("u", "string", "", ""),
        ("d", "integer", "ms", ""),
        ("null", "integer", "", ""),
    ]
    assert samples[:2] == [
        Sample("g.n", "t", 1.5, 7 * NS_PER_MS, "°C", "float"),
        Sample("g.n", "n", 2, 5 * NS_PER_MS, "", "integer", historical=True),
    ]
    assert [sample.value for sample in samples[2:]] == [True, "x", 1486144502122]


def test_what_is_left_out_is_counted_by_reason() -> None:
    """Buttons, transient values, types without a place in the hub, bad quality: told, and never a reading."""
    host, (declared, _, *samples) = of(
        [
            metric(DataType.INT64, 1, name="bdSeq"),
            metric(DataType.BOOLEAN, False, name="Node Control/Rebirth"),
            metric(DataType.DOUBLE, 1.0, name="seen once", is_transient=True),
            metric(DataType.DOUBLE, 1.0, name="broken", properties={"Quality": 0}),
            metric(DataType.DOUBLE, 1.0, name="fine", properties={"Quality": 192}),
            metric(DataType.INT32, 1, name="table")._replace(datatype=DataType.DATASET, field="dataset_value", raw=b""),
            metric(DataType.INT32, 1, name="far", time_ms=2**63),
            metric(DataType.INT32, 1),
        ]
    )
    assert [told.name for told in declared.metrics] == ["broken", "fine", "far"]
    assert [sample.metric for sample in samples] == ["fine"]
    assert host.counts == {
        "control": 2, "transient": 1, "bad_quality": 1, "unsupported_type": 1, "out_of_range": 1, "no_name": 1
    }  # fmt: skip


def test_metrics_beyond_those_of_a_device_are_left_out() -> None:
    """A device of the hub has a bounded number of metrics; the first ones are taken."""
    host, (declared, _, *samples) = of(
        metric(DataType.INT32, 1, name=f"m{number}") for number in range(MAX_METRICS + 3)
    )
    assert len(declared.metrics) == len(samples) == MAX_METRICS
    assert host.counts["too_many_metrics"] == 3


def test_devices_beyond_a_nodes_bound_are_refused() -> None:
    """Their messages go to quarantine with what to do."""
    edge = Edge({"": {"load": 1.0}, **{f"d{number:04}": {"m": 1.0} for number in range(MAX_DEVICES + 1)}})
    host, listener = Host(), Listener()
    for birth in edge.connect():
        listener.hear(host.decode(birth))
    assert [refused.code for refused in listener.refused] == ["too_many_devices"]


def test_nodes_beyond_a_hosts_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is dead makes room; where none is, the message is refused."""
    monkeypatch.setattr(host_module, "MAX_NODES", 2)
    host = Host()
    first, second, third = (Edge(VALUES, name=name) for name in ("a", "b", "c"))
    for edge in (first, second):
        host.decode(edge.connect()[0])
    births = third.connect()
    with pytest.raises(Undecodable, match="too_many_nodes"):
        host.decode(births[0])
    host.decode(first.die())
    assert host.decode(births[0])


def test_a_sequence_number_over_255_is_undecodable() -> None:
    """No edge node by the specification has it."""
    with pytest.raises(Undecodable, match="bad_seq"):
        Host().decode(Message("spBv1.0/g/NDATA/n", encode(Payload(1, 256))))


def test_device_ids_are_as_different_as_topics() -> None:
    """Names with dots cannot make one device of two."""
    ids = set()
    for group, node in (("a.b", "c"), ("a", "b.c"), ("a", "b c"), ("a", "b_c"), ("a", "b")):
        (presence,) = Host().decode(Edge({"": {}}, group=group, name=node).die())
        assert isinstance(presence, Presence)
        ids.add(presence.device)
    assert len(ids) == 5


CHANGES = st.tuples(st.sampled_from(NAMES), st.integers(0, 99).map(float), st.booleans())
ACTIONS = st.lists(st.one_of(CHANGES, st.sampled_from(["rebirth", "reconnect", "wait"])), max_size=40)


@given(ACTIONS, st.booleans(), st.data())
def test_after_a_rebirth_the_host_has_the_nodes_values(
    actions: list[Any], births_arrive: bool, data: st.DataObject
) -> None:
    """Whatever was lost, came twice or came in another order before: the next births bring the very same values. And
    where the node's births arrive, and nothing comes later than a message waits for others, no value was ever that of
    another metric. (Where they do not, an alias of a new session may by its number follow on the one before.)"""
    joined = Joined(reorder_ms=10)
    edge, sent = joined.edge, []
    said: dict[tuple[str, str], set[object]] = {key: {value} for key in NAMES for value in [VALUES[key[0]][key[1]]]}
    sent += edge.connect()
    for action in actions:
        match action:
            case "rebirth":
                sent += edge.births()
            case "reconnect":
                sent += [edge.die(), *edge.connect()]
            case "wait":
                edge.now_ms += 15
            case ((device, name), value, by_name):
                said[device, name].add(value)
                sent.append(edge.change(device, name, value, by_name=by_name))
    arriving = []
    for message in sent:
        # None arrives, or one, or two; each a little later than it was sent.
        delays = st.lists(st.sampled_from([0, 0, 0, 3, 8] if births_arrive else [0, 0, 0, 3, 8, 20]), max_size=2)
        on_time = [0] if births_arrive and "/NBIRTH/" in message.topic else []
        arriving += [
            message._replace(received_ns=message.received_ns + delay_ms * NS_PER_MS)
            for delay_ms in [*on_time, *data.draw(delays)]
        ]
    for message in sorted(arriving, key=lambda message: message.received_ns):
        joined.listener.hear(joined.host.decode(message))
    edge.now_ms += 30
    joined.listener.hear(joined.host.expire(edge.now_ns))
    joined.deliver(*edge.births())
    assert joined.agrees()
    assert joined.listener.online == {NODE: True, PUMP: True, VALVE: True}
    ids = {"": NODE, "pump": PUMP, "valve": VALVE}
    for (device, name), values in said.items():
        heard = {
            sample.value for sample in joined.listener.samples if (sample.device, sample.metric) == (ids[device], name)
        }
        assert heard <= values or not births_arrive
    # And it goes on from there.
    joined.deliver(*(edge.change(device, name, 123.0) for device, name in NAMES))
    assert joined.agrees()


@given(
    st.lists(
        st.tuples(st.sampled_from(["NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA"]), st.binary(max_size=30))
    )
)
def test_any_messages_end_in_words_or_one_refusal(messages: list[tuple[str, bytes]]) -> None:
    """Nothing that a broker may deliver raises anything but Undecodable."""
    host = Host()
    for kind, payload in messages:
        try:
            host.decode(Message(f"spBv1.0/g/{kind}/n" + ("/d" if kind[0] == "D" else ""), payload))
        except Undecodable as refusal:
            assert refusal.code in ("bad_payload", "bad_seq")
