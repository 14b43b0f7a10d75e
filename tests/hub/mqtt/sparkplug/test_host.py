"""The host application follows edge nodes through births, gaps and rebirths."""

from __future__ import annotations

from itertools import pairwise

from hub.mqtt.sparkplug.host import REORDER_MS
from hub.mqtt.sparkplug.node import FIRST_PAUSE_NS, LONGEST_PAUSE_NS
from hub.mqtt.sparkplug.payload import DataType, metric
from tests.hub.mqtt.sparkplug.edge import NS_PER_MS
from tests.hub.mqtt.sparkplug.joined import NAMES, NODE, PUMP, VALVE, Joined


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
