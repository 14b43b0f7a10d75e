"""Messages that the host application accepts or leaves out, and its bounds."""

from __future__ import annotations

import math

import pytest

from formats.message import DecodedRow
from formats.record import RefusedInput
from hub.mqtt.decoders.fields import DecoderContext
from hub.mqtt.message import AvailabilityChange, DeviceDeclaration, Message, Undecodable
from hub.mqtt.sparkplug import host as host_module
from hub.mqtt.sparkplug.host import HostApplication
from hub.mqtt.sparkplug.node import MAX_DEVICES
from hub.mqtt.sparkplug.payload import DataType, SparkplugPayload, encode, metric
from tests.hub.mqtt.sparkplug.edge import NS_PER_MS, Edge, HostObserver
from tests.hub.mqtt.sparkplug.joined import VALUES, of
from wire.limits import MAX_METRICS


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
def test_only_messages_of_edge_nodes_are_accepted(topic: str, taken: bool) -> None:
    """Commands and the states of other hosts are not for this decoder."""
    assert HostApplication("hub").takes(topic) is taken


def test_units_types_and_descriptions_come_from_the_birth() -> None:
    """engUnit becomes the unit, and each data type a type of the hub."""
    _, (declared, _, *rows) = of(
        [
            metric(DataType.FLOAT, 1.5, name="t", properties={"engUnit": "°C"}, description="outside", time_ms=7),
            metric(DataType.UINT16, 2, name="n", is_historical=True),
            metric(DataType.BOOLEAN, True, name="b"),
            metric(DataType.UUID, "x", name="u"),
            metric(DataType.DATETIME, 1486144502122, name="d"),
            metric(DataType.INT8, None, name="null"),
        ]
    )
    assert [(metric.name, metric.type, metric.unit, metric.description) for metric in declared.metrics] == [
        ("t", "float", "°C", "outside"),
        ("n", "integer", "", ""),
        ("b", "boolean", "", ""),
        ("u", "string", "", ""),
        ("d", "integer", "ms", ""),
        ("null", "integer", "", ""),
    ]
    assert rows == [
        DecodedRow("g.n", {"t": 1.5}, 7 * NS_PER_MS),
        DecodedRow("g.n", {"n": 2}, 5 * NS_PER_MS, historical=True),
        DecodedRow("g.n", {"b": True, "u": "x", "d": 1486144502122}, 5 * NS_PER_MS),
    ]


def test_excluded_metrics_are_counted_by_reason() -> None:
    """Commands, transient values, unsupported types and bad quality give no reading."""
    host, (declared, _, fine, far) = of(
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
    assert [metric.name for metric in declared.metrics] == ["broken", "fine", "far"]
    assert fine.values == {"fine": 1.0}
    assert far.code == "time"
    assert host.counts == {"control": 2, "transient": 1, "bad_quality": 1, "unsupported_type": 1, "no_name": 1}


def test_a_value_that_is_not_of_its_type_is_refused_alone() -> None:
    """It is counted, and goes to quarantine with the metric; its neighbours are stored."""
    host, (_, _, *found) = of(
        [
            metric(DataType.INT8, 1, name="small")._replace(raw=300),
            metric(DataType.DOUBLE, 2.0, name="text")._replace(field="string_value", raw="x"),
            metric(DataType.DOUBLE, 21.5, name="fine"),
            metric(DataType.DOUBLE, 1.0, name="gone")._replace(raw=math.nan),
        ]
    )
    *refused, row = found
    assert row == DecodedRow("g.n", {"fine": 21.5}, 5 * NS_PER_MS)
    assert [(refusal.device, refusal.metric, refusal.code, refusal.value) for refusal in refused] == [
        ("g.n", "small", "number", "300"),
        ("g.n", "text", "type", "x"),
    ]
    assert host.counts == {"out_of_range": 1, "wrong_type": 1, "not_finite": 1}


def test_the_type_in_the_hub_refuses_values_one_by_one() -> None:
    """A metric that the hub knows with another type does not cost its neighbours."""
    context = DecoderContext(known_type=lambda device, metric: "boolean" if metric == "a" else None)
    metrics = (metric(DataType.DOUBLE, 2.5, name="a"), metric(DataType.DOUBLE, 3.5, name="b"))
    birth = Message("spBv1.0/g/NBIRTH/n", encode(SparkplugPayload(5, 0, metrics)), received_ns=NS_PER_MS)
    declared, _, row, refusal = HostApplication(context=context).decode(birth)
    assert isinstance(declared, DeviceDeclaration)
    assert isinstance(row, DecodedRow)
    assert isinstance(refusal, RefusedInput)
    assert [(metric.name, metric.type) for metric in declared.metrics] == [("a", "boolean"), ("b", "float")]
    assert (row.values, refusal.metric) == ({"b": 3.5}, "a")


def test_metrics_beyond_the_bound_of_a_device_are_left_out() -> None:
    """The first metrics are accepted."""
    host, (declared, _, row) = of(metric(DataType.INT32, 1, name=f"m{number}") for number in range(MAX_METRICS + 3))
    assert len(declared.metrics) == len(row.values) == MAX_METRICS
    assert host.counts["too_many_metrics"] == 3


def test_devices_beyond_the_bound_of_a_node_are_rejected() -> None:
    """Their messages go to quarantine with a remedy."""
    edge = Edge({"": {"load": 1.0}, **{f"d{number:04}": {"m": 1.0} for number in range(MAX_DEVICES + 1)}})
    host, listener = HostApplication(), HostObserver()
    for birth in edge.connect():
        listener.hear(host.decode(birth))
    assert [refused.code for refused in listener.refused] == ["too_many_devices"]


def test_nodes_beyond_the_bound_of_a_host_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead node is replaced. If there is none, the message is rejected."""
    monkeypatch.setattr(host_module, "MAX_NODES", 2)
    host = HostApplication()
    first, second, third = (Edge(VALUES, name=name) for name in ("a", "b", "c"))
    for edge in (first, second):
        host.decode(edge.connect()[0])
    births = third.connect()
    with pytest.raises(Undecodable, match="too_many_nodes"):
        host.decode(births[0])
    host.decode(first.die())
    assert host.decode(births[0])


def test_a_sequence_number_over_255_is_undecodable() -> None:
    """The specification does not allow it."""
    with pytest.raises(Undecodable, match="bad_seq"):
        HostApplication().decode(Message("spBv1.0/g/NDATA/n", encode(SparkplugPayload(1, 256))))


def test_device_ids_are_as_different_as_topics() -> None:
    """Names with dots do not merge two devices."""
    ids = set()
    for group, node in (("a.b", "c"), ("a", "b.c"), ("a", "b c"), ("a", "b_c"), ("a", "b")):
        (presence,) = HostApplication().decode(Edge({"": {}}, group=group, name=node).die())
        assert isinstance(presence, AvailabilityChange)
        ids.add(presence.device)
    assert len(ids) == 5
