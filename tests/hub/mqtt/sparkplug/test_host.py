"""The host application follows edge nodes through births, gaps and rebirths."""

from __future__ import annotations

from itertools import pairwise

from hub.mqtt.sparkplug.host import REORDER_MS
from hub.mqtt.sparkplug.node import FIRST_PAUSE_NS, LONGEST_PAUSE_NS
from hub.mqtt.sparkplug.payload import DataType, metric
from tests.hub.mqtt.sparkplug.edge import NS_PER_MS
from tests.hub.mqtt.sparkplug.joined import NAMES, NODE, PUMP, VALVE, Joined


def test_births_declare_metrics_presence_and_values(joined: Joined) -> None:
    """Each birth declares a device with its metrics and tags, sets it online, and contains its first values."""
    assert joined.agrees()
    assert joined.listener.online == {NODE: True, PUMP: True, VALVE: True}
    pump = joined.listener.declared[PUMP]
    assert [(metric.name, metric.type) for metric in pump.metrics] == [("speed", "float"), ("flow", "float")]
    assert pump.tags == {"sparkplug_group": "plant", "sparkplug_node": "edge", "sparkplug_device": "pump"}
    assert not joined.listener.refused
    assert not joined.listener.published


def test_data_by_alias_and_by_name_is_accepted(joined: Joined) -> None:
    """Type and unit of a metric come from its birth."""
    joined.deliver(joined.edge.change("pump", "flow", 12.5), joined.edge.change("", "load", 2.5, by_name=True))
    assert joined.agrees()
    assert not joined.listener.refused


def test_sequence_numbers_begin_again_after_255(joined: Joined) -> None:
    """The numbers restart three times without a gap."""
    for value in range(3 * 256):
        joined.deliver(joined.edge.change("valve", "position", float(value)))
    assert joined.agrees()
    assert set(joined.host.counts) == {"control"}


def test_messages_in_another_order_are_put_in_order(joined: Joined) -> None:
    """A message that arrives early waits for the ones before it, and no rebirth is requested."""
    first, second, third = (joined.edge.change("valve", "position", value) for value in (1.0, 2.0, 3.0))
    joined.deliver(third, second)
    assert joined.listener.values()[VALVE, "position"] == 20.0
    joined.deliver(first)
    assert [sample.value for sample in joined.listener.samples[-3:]] == [1.0, 2.0, 3.0]
    joined.pass_time(REORDER_MS * 2)
    assert not joined.listener.published
    assert not joined.listener.refused


def test_a_lasting_gap_requests_a_rebirth(joined: Joined) -> None:
    """After the reorder timeout, metrics without a name are rejected and the births are requested."""
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


def test_an_alias_never_becomes_another_metric() -> None:
    """After lost births the aliases are unknown, and data with an alias changes no metric."""
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


def test_a_message_from_before_the_births_does_not_use_their_aliases(joined: Joined) -> None:
    """It arrives after them with the expected sequence number."""
    late = joined.edge.change("pump", "flow", 99.0)
    births = joined.edge.births()
    joined.deliver(*births, late)
    assert [refused.message for refused in joined.listener.refused] == [late]
    joined.deliver(joined.edge.change("pump", "speed", 5.0))
    assert joined.agrees()


def test_a_rebirth_removes_metrics_that_it_does_not_define(joined: Joined) -> None:
    """Such a metric is unknown by name and by alias."""
    del joined.edge.values["pump"]["flow"]
    joined.deliver(*joined.edge.births())
    gone = metric(DataType.DOUBLE, 1.0, name="flow", time_ms=joined.edge.now_ms)
    joined.deliver(joined.edge.message("DDATA", "pump", [gone]))
    assert [refused.code for refused in joined.listener.refused] == ["unknown_metric"]


def test_a_device_birth_before_that_of_the_node_is_kept() -> None:
    """Births have different topics, and their order of arrival does not matter."""
    joined = Joined()
    node, *devices = joined.edge.connect()
    joined.deliver(*reversed(devices), node)
    assert joined.agrees()
    assert not joined.listener.refused


def test_data_before_a_birth_requests_a_rebirth_at_once() -> None:
    """A hub that started after the edge node has never received its births."""
    joined = Joined()
    joined.edge.connect()
    data = joined.edge.change("pump", "flow", 5.0)
    joined.deliver(data)
    assert joined.listener.rebirths() == ["spBv1.0/plant/NCMD/edge"]
    joined.deliver(*joined.edge.births())
    assert [refused.message for refused in joined.listener.refused] == [data]
    assert joined.agrees()


def test_data_of_a_device_without_a_birth_is_rejected(joined: Joined) -> None:
    """A device that died must send a birth before its next data."""
    joined.deliver(joined.edge.die("pump"), joined.edge.change("pump", "flow", 5.0))
    assert [refused.code for refused in joined.listener.refused] == ["before_birth"]
    assert len(joined.listener.rebirths()) == 1


def test_an_unknown_metric_requests_a_rebirth(joined: Joined) -> None:
    """The unknown metric is rejected, the rest of the message is accepted."""
    known, unknown = (metric(DataType.DOUBLE, 7.0, time_ms=joined.edge.now_ms + 9) for _ in range(2))
    sent = [known._replace(name="flow"), unknown._replace(alias=77), unknown._replace(name="pressure")]
    joined.deliver(joined.edge.message("DDATA", "pump", sent))
    assert joined.listener.values()[PUMP, "flow"] == 7.0
    (refused,) = joined.listener.refused
    assert refused.code == "unknown_metric"
    assert "alias 77, 'pressure'" in refused.sentence
    assert len(joined.listener.rebirths()) == 1


def test_rebirth_requests_are_bounded_in_rate() -> None:
    """The pause grows while an edge node does not answer, and is reset by an answer."""
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


def test_a_lost_request_is_repeated_even_if_nothing_arrives(joined: Joined) -> None:
    """`due_ns` is the time of the next request to a silent edge node."""
    joined.deliver(joined.edge.die("pump"), joined.edge.change("pump", "flow", 5.0))
    due_ns = joined.host.due_ns
    assert due_ns is not None
    joined.listener.hear(joined.host.expire(due_ns - 1))
    assert len(joined.listener.rebirths()) == 1
    joined.listener.hear(joined.host.expire(due_ns))
    assert len(joined.listener.rebirths()) == 2
