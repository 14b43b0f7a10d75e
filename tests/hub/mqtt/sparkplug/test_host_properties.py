"""Properties that hold for the host application with any messages in any order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hub.mqtt.message import Message, Undecodable
from hub.mqtt.sparkplug.host import HostApplication
from tests.hub.mqtt.sparkplug.edge import NS_PER_MS
from tests.hub.mqtt.sparkplug.joined import NAMES, NODE, PUMP, VALUES, VALVE, Joined

CHANGES = st.tuples(st.sampled_from(NAMES), st.integers(0, 99).map(float), st.booleans())
ACTIONS = st.lists(st.one_of(CHANGES, st.sampled_from(["rebirth", "reconnect", "wait"])), max_size=40)


@given(ACTIONS, st.booleans(), st.data())
def test_after_a_rebirth_the_host_has_the_nodes_values(
    actions: list[Any], births_arrive: bool, data: st.DataObject
) -> None:
    """After any losses, copies and changes of order, the next births restore the exact values.

    If the births of the node arrive, and no message is later than the reorder timeout, no value was ever assigned to
    another metric. (If they do not arrive, an alias of a new session may follow the old sequence number.)
    """
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
    # Later changes are received again.
    joined.deliver(*(edge.change(device, name, 123.0) for device, name in NAMES))
    assert joined.agrees()


@given(
    st.lists(
        st.tuples(st.sampled_from(["NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA"]), st.binary(max_size=30))
    )
)
def test_any_message_is_decoded_or_undecodable(messages: list[tuple[str, bytes]]) -> None:
    """No message of a broker raises anything but Undecodable."""
    host = HostApplication()
    for kind, payload in messages:
        try:
            host.decode(Message(f"spBv1.0/g/{kind}/n" + ("/d" if kind[0] == "D" else ""), payload))
        except Undecodable as refusal:
            assert refusal.code in ("bad_payload", "bad_seq")
