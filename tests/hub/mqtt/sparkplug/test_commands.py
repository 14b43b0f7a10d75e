"""Commands to Sparkplug edge nodes: what a birth declares, the message that sets a metric, and what confirms it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.mqtt.decoders.fields import DecoderContext
from hub.mqtt.message import CommandDelivery, Decoded, DeviceCommands, Message, ReportedOutcome, Undeliverable
from hub.mqtt.sparkplug.host import HostApplication
from hub.mqtt.sparkplug.payload import (
    METRIC_TYPES,
    DataType,
    Scalar,
    SparkplugMetric,
    decode,
    integer_range,
    metric,
)
from tests.hub.mqtt.sparkplug.edge import Edge
from wire.command import CommandDeclaration, ParametersRefused
from wire.device import Command
from wire.limits import MAX_INTEGER

NOW_NS = 1_700_000_100_000_000_000
PUMP = "plant.edge.pump"


class Host:
    """Host application with an edge node, and the commands of its devices."""

    def __init__(self, metrics: list[SparkplugMetric] | None = None, *, commands_from: str = "hub") -> None:
        context = DecoderContext(commands_from=commands_from)
        self.host = HostApplication(context=context, clock=lambda: NOW_NS)
        self.edge = Edge({"": {"load": 0.5}, "pump": {"speed": 1.0, "flow": 2.0}})
        self.declared: dict[str, dict[str, CommandDeclaration]] = {}
        for message in self.edge.connect():
            self.hear(message)
        if metrics is not None:
            self.hear(self.edge.message("DBIRTH", "pump", metrics))

    def hear(self, message: Message) -> list[Decoded]:
        found = self.host.decode(message)
        for item in found:
            if isinstance(item, DeviceCommands):
                assert item.is_complete
                self.declared[item.device] = {declared.name: declared for declared in item.commands}
        return found

    def send(self, name: str, value: Scalar | None = None, *, device: str = PUMP) -> CommandDelivery:
        """Return the message for a command whose parameters the declaration has accepted."""
        parameters = self.declared[device][name].accepted({} if value is None else {"value": value})
        delivery = self.host.delivery(device, Command("ab" * 8, name, parameters, 1, 1_000))
        assert delivery is not None
        return delivery

    def confirms(self, delivery: CommandDelivery, message: Message) -> ReportedOutcome | None:
        assert delivery.confirmation is not None
        decoded = self.hear(message)
        return (
            delivery.confirmation.outcome(message, decoded) if message.topic in delivery.confirmation.topics else None
        )


def set_metric(delivery: CommandDelivery) -> SparkplugMetric:
    payload = decode(delivery.publish.payload)
    assert (payload.seq, payload.time_ms) == (None, NOW_NS // 1_000_000)
    (changed,) = payload.metrics
    return changed


def test_the_metrics_of_a_birth_can_be_set() -> None:
    """The edge node and its devices have commands. The hub declares nothing if it may send no commands."""
    host = Host()
    assert [*host.declared["plant.edge"]] == ["set_load"]
    assert sorted(host.declared[PUMP]) == ["set_flow", "set_speed"]
    assert Host(commands_from="").declared == {}


def test_a_command_names_the_metric_by_its_alias_and_data_confirm_it() -> None:
    """With QoS 0, as the specification demands. Only the value that was set confirms it, in data or in a birth."""
    host = Host()
    delivery = host.send("set_speed", 12.5)
    assert (delivery.publish.topic, delivery.qos) == ("spBv1.0/plant/DCMD/edge/pump", 0)
    changed = set_metric(delivery)
    assert (changed.name, changed.value(DataType.DOUBLE)) == (None, 12.5)
    assert host.confirms(delivery, host.edge.change("pump", "flow", 12.5)) is None
    assert host.confirms(delivery, host.edge.change("pump", "speed", 12.4)) is None
    assert host.confirms(delivery, host.edge.change("pump", "speed", 12.5)) == ReportedOutcome(
        "succeeded", result={"speed": 12.5}
    )
    delivery = host.send("set_load", 0.75, device="plant.edge")
    assert delivery.publish.topic == "spBv1.0/plant/NCMD/edge"
    host.edge.values[""]["load"] = 0.75
    birth, *_ = host.edge.connect()
    assert host.confirms(delivery, birth) == ReportedOutcome("succeeded", result={"load": 0.75})


def test_a_birth_gives_new_aliases_to_commands() -> None:
    """Before it, no command is sent: an alias of an earlier session may mean another metric."""
    host = Host()
    before = set_metric(host.send("set_speed", 1.0)).alias
    host.hear(host.edge.die())
    with pytest.raises(Undeliverable, match="birth is awaited"):
        host.send("set_speed", 1.0)
    for message in host.edge.connect():
        host.hear(message)
    assert set_metric(host.send("set_speed", 1.0)).alias not in (None, before)
    assert host.host.delivery("plant.other", Command("ab" * 8, "set_speed", {}, 1, 1)) is None
    assert host.host.delivery(PUMP, Command("ab" * 8, "fly", {}, 1, 1)) is None


def numbers(datatype: DataType) -> st.SearchStrategy[Any]:
    match METRIC_TYPES[datatype]:
        case "integer":
            low, high = integer_range(datatype)
            return st.integers(low, min(high, MAX_INTEGER))
        case "float":
            return st.floats(allow_nan=False, allow_infinity=False, width=32 if datatype == DataType.FLOAT else 64)
        case "boolean":
            return st.booleans()
    return st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.sampled_from([DataType(number) for number in METRIC_TYPES]), st.data(), st.booleans())
def test_every_data_type_arrives_and_is_confirmed(datatype: DataType, data: st.DataObject, has_alias: bool) -> None:
    """With the value as the edge node reads it, and by its name where the birth has given no alias."""
    value = data.draw(numbers(datatype))
    host = Host([metric(datatype, value, name="target", alias=77 if has_alias else None)])
    delivery = host.send("set_target", value)
    changed = set_metric(delivery)
    assert (changed.name, changed.alias) == ((None, 77) if has_alias else ("target", None))
    assert changed.value(datatype) == value
    answer = changed._replace(time_ms=host.edge.now_ms)
    outcome = host.confirms(delivery, host.edge.message("DDATA", "pump", [answer]))
    if METRIC_TYPES[datatype] != "string":
        assert outcome is not None
        assert outcome.result == {"target": value}


def test_values_beyond_the_data_type_are_refused() -> None:
    """Integers by the declaration, and a Float when it is sent."""
    host = Host([metric(DataType.INT8, 1, name="level"), metric(DataType.FLOAT, 1.0, name="ratio")])
    with pytest.raises(ParametersRefused, match="200 is above 127"):
        host.send("set_level", 200)
    with pytest.raises(Undeliverable, match="does not fit the data type FLOAT"):
        host.send("set_ratio", 1e300)


def test_metrics_that_are_marked_as_read_only_have_no_command() -> None:
    """Nor those whose values are not stored."""
    marks: list[dict[str, Any]] = [{"readOnly": True}, {"writable": False}, {"accessRights": "Read_Only"}]
    names = [f"sensor {number}" for number in range(len(marks))]
    metrics = [
        metric(DataType.DOUBLE, 1.0, name=name, properties=mark) for name, mark in zip(names, marks, strict=True)
    ]
    metrics += [
        metric(DataType.DOUBLE, 1.0, name="valve", properties={"readOnly": False, "engUnit": "%"}),
        metric(DataType.DOUBLE, 1.0, name="pulse", is_transient=True),
        SparkplugMetric(name="table", datatype=DataType.DATASET),
    ]
    host = Host(metrics)
    (declaration,) = host.declared[PUMP].values()
    assert (declaration.name, declaration.parameters[0].unit) == ("set_valve", "%")


def test_names_of_metrics_become_names_of_commands() -> None:
    """Two that would have the same name have a hash."""
    names = ["Motor/Speed", "Motor Speed", "Motor/Temp"]
    host = Host([metric(DataType.DOUBLE, float(number), name=name) for number, name in enumerate(names)])
    first, second, third = host.declared[PUMP]
    assert third == "set_Motor_Temp"
    assert first != second
    assert first.startswith("set_Motor_Speed-")
    assert set_metric(host.send(first, math.pi)).name == "Motor/Speed"
    assert set_metric(host.send(second, math.pi)).name == "Motor Speed"


def test_controls_are_commands_that_a_birth_confirms() -> None:
    """A restart asks for a confirmation."""
    control = "Device Control/Rebirth"
    host = Host(
        [
            metric(DataType.BOOLEAN, False, name=control),
            metric(DataType.BOOLEAN, False, name="Device Control/Reboot"),
            metric(DataType.DOUBLE, 1.0, name="Node Control/Reboot"),
        ]
    )
    assert {name: declared.confirm for name, declared in host.declared[PUMP].items()} == {
        "rebirth": False, "reboot": True,
    }  # fmt: skip
    delivery = host.send("rebirth")
    changed = set_metric(delivery)
    assert (changed.name, changed.value(DataType.BOOLEAN)) == (control, True)
    birth = host.edge.message("DBIRTH", "pump", [metric(DataType.BOOLEAN, False, name=control)])
    assert host.confirms(delivery, birth) == ReportedOutcome("succeeded")
