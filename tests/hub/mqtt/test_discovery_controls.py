"""Controls of Home Assistant for commands: which one a command has, and what Home Assistant sends with it."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Series
from hub.mqtt.command_topic import CommandTopic, read_command
from hub.mqtt.discovery import MAX_REMOVED, Discovery
from hub.mqtt.discovery_controls import control_of, shows_state
from hub.mqtt.message import Message, Publish
from hub.mqtt.publication import Payload, Publication
from hub.mqtt.topics import TopicTemplate
from tests.end_to_end.home_assistant import check_part
from wire.command import CommandDeclaration, CommandParameter
from wire.model import MetricType

CONFIG = "homeassistant/device/hub_01234567_pump/config"
TOPIC = "hub/commands/pump/set"
SPEED = CommandParameter("speed", unit="m/s", min=0, max=30)


def control(*parameters: CommandParameter, confirm: bool = False) -> dict[str, Any] | None:
    return control_of(CommandDeclaration("set", confirm=confirm, parameters=[*parameters]), TOPIC)


def parameter(type: Any, **details: Any) -> CommandParameter:
    return CommandParameter("value", type, **details)


def template_of(name: str) -> str:
    return f'{{{{ {{"parameters": {{"{name}": value}}}} | to_json }}}}'


COMMON = {"name": "set", "command_topic": TOPIC}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ([], {"platform": "button", "payload_press": "{}"}),
        ([parameter("boolean")], {"platform": "switch", "payload_on": "true", "payload_off": "false"}),
        (
            [SPEED],
            {
                "platform": "number", "min": 0, "max": 30, "step": 0.1, "mode": "slider", "unit_of_measurement": "m/s",
            },
        ),
        (
            [parameter("integer", min=1, max=5)],
            {"platform": "number", "min": 1, "max": 5, "step": 1.0, "mode": "slider"},
        ),
        (
            [parameter("integer", min=0, max=1000)],
            {"platform": "number", "min": 0, "max": 1000, "step": 1.0, "mode": "slider"},
        ),
        (
            [parameter("integer", min=0, max=1001)],
            {"platform": "number", "min": 0, "max": 1001, "step": 1.0, "mode": "box"},
        ),
        ([parameter("integer", min=2, max=2)], None),
        ([parameter("float")], {"platform": "number", "min": -1e9, "max": 1e9, "step": 1.0, "mode": "box"}),
        (
            [parameter("string", choices=["eco", "boost"])],
            {"platform": "select", "options": ["eco", "boost"], "command_template": template_of("value")},
        ),
        ([parameter("float", choices=[0.5, 1])], {"platform": "select", "options": ["0.5", "1"]}),
        ([parameter("string")], {"platform": "text", "command_template": template_of("value")}),
        (
            [SPEED, parameter("integer", default=1)],
            {
                "platform": "number", "min": 0, "max": 30, "step": 0.1, "mode": "slider", "unit_of_measurement": "m/s",
            },
        ),
        ([parameter("integer", default=1), SPEED, CommandParameter("gear")], None),
        ([CommandParameter("a", default=1.0), CommandParameter("b", required=False)], {
            "platform": "button", "payload_press": "{}",
        }),
    ],
)  # fmt: skip
def test_the_parameters_decide_the_control(parameters: list[CommandParameter], expected: dict[str, Any] | None) -> None:
    """Several required values have none. Home Assistant accepts each."""
    found = control(*parameters)
    assert found == (None if expected is None else {**COMMON, **expected})
    if found is not None:
        check_part({**found, "unique_id": "u"})


def test_a_command_with_a_confirmation_has_no_control() -> None:
    """Home Assistant cannot ask."""
    assert control(SPEED, confirm=True) is None


@pytest.mark.parametrize(
    ("parameters", "types"),
    [
        ([], set()),
        ([parameter("boolean")], {"boolean"}),
        ([SPEED], {"float", "integer"}),
        ([parameter("string", choices=["eco", "boost"])], {"string"}),
        ([parameter("float", choices=[0.5, 1])], set()),
        ([parameter("string")], {"string"}),
    ],
)
def test_a_metric_of_a_fitting_type_shows_the_state(parameters: list[CommandParameter], types: set[str]) -> None:
    """A choice of numbers has several forms as a text."""
    found = control(*parameters)
    assert found is not None
    assert {type for type in get_args(MetricType) if shows_state(found, type)} == types


bounds = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))


@given(bounds, bounds, st.floats(0, 1))
def test_every_value_of_a_number_is_accepted(low: float | None, high: float | None, share: float) -> None:
    """Its bounds are finite and those of the command, and a whole step fits in between."""
    if low is not None and high is not None and low > high:
        low, high = high, low
    declaration = CommandDeclaration("set", parameters=[CommandParameter("value", min=low, max=high)])
    found = control_of(declaration, TOPIC)
    if found is None:
        return
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    check_part({**found, "unique_id": "u"})
    value = found["min"] + share * min(found["max"] - found["min"], 1e300)
    if math.isfinite(value) and found["min"] <= value <= found["max"]:
        declaration.accepted(read_command(json.dumps(value).encode(), declaration).parameters)


@given(st.text(min_size=1, max_size=20))
def test_a_text_arrives_as_it_was_typed(text: str) -> None:
    """Also one that looks like JSON: Home Assistant renders the template."""
    declaration = CommandDeclaration("set", parameters=[parameter("string")])
    assert control_of(declaration, TOPIC)
    rendered = json.dumps({"parameters": {"value": text}})
    assert read_command(rendered.encode(), declaration).parameters == {"value": text}


class Fleet:
    """One device with metrics and commands, and its discovery by Home Assistant."""

    def __init__(self, commands: list[CommandDeclaration], payload: Payload = "value") -> None:
        self.commands = {"pump": commands}
        self.settings: list[CommandParameter] = []
        self.metrics = {
            "speed": Series(1, "pump", "speed", "float", "m/s"),
            "valve": Series(2, "pump", "valve", "boolean"),
        }
        topic = "hub/{device}/{metric}" if payload == "value" else "hub/{device}"
        self.discovery = Discovery(
            [Publication(TopicTemplate.parse(topic), payload)],
            hub="0123456789abcdef",
            version="1.2",
            devices=lambda: {"pump": self.metrics},
            count=lambda: len(self.metrics),
            is_online=lambda device: True,
            on_change=lambda: None,
            command_topic=CommandTopic(TopicTemplate.parse("hub/commands/{device}/{command}"), ["pump"]),
            commands=self.commands.__getitem__,
            setting_topic=CommandTopic(TopicTemplate.parse("hub/settings/{device}/{setting}"), ["pump"], "setting"),
            settings=lambda device: self.settings,
        )
        self.discovery.connected()

    def described(self) -> list[Publish]:
        return [message for message in self.discovery.pending() if message.topic.endswith("/config")]

    def controls(self) -> dict[str, dict[str, Any]]:
        """Return the newest controls by their names, those that are removed by their platforms."""
        (message,) = self.described()
        parts = json.loads(message.payload)["components"].values()
        for part in parts:
            check_part(part)
        return {part.get("name", part["platform"]): part for part in parts if "state_class" not in part}


def test_a_metric_of_the_same_name_is_the_state() -> None:
    """If its type fits. The others are optimistic: Home Assistant shows what it has sent."""
    valve = CommandDeclaration("valve", parameters=[parameter("boolean")])
    commands = [CommandDeclaration("set_speed", parameters=[SPEED]), valve, CommandDeclaration("stop")]
    found = Fleet(commands).controls()
    assert (found["set_speed"]["state_topic"], found["set_speed"]["device_class"]) == ("hub/pump/speed", "speed")
    assert (found["valve"]["state_topic"], found["valve"]["state_on"]) == ("hub/pump/valve", "true")
    assert "state_topic" not in found["stop"]
    found = Fleet(commands, "json").controls()
    assert found["set_speed"]["value_template"] == "{{ value_json[\"speed\"] | default('') }}"
    assert (found["valve"]["state_on"], found["valve"]["state_off"]) == ("True", "False")


def test_the_ids_of_a_control_are_those_of_no_metric() -> None:
    """A command may have the name of a metric."""
    fleet = Fleet([CommandDeclaration("valve", parameters=[parameter("boolean")])])
    (message,) = fleet.described()
    components = json.loads(message.payload)["components"]
    assert len(components) == 3
    assert len({part["unique_id"] for part in components.values()}) == 3


def test_a_control_disappears_with_its_command() -> None:
    """Home Assistant removes a part that has its platform only. Another platform is another control."""
    fleet = Fleet([CommandDeclaration("stop"), CommandDeclaration("set", parameters=[SPEED])])
    assert {"stop", "set"} <= fleet.controls().keys()
    fleet.commands["pump"] = [CommandDeclaration("set", parameters=[parameter("boolean")])]
    fleet.discovery.commands_changed("pump")
    found = fleet.controls()
    assert (found["button"], found["number"]) == ({"platform": "button"}, {"platform": "number"})
    assert found["set"]["platform"] == "switch"
    fleet.discovery.commands_changed("pump")
    assert fleet.described() == []


def test_a_control_of_an_earlier_run_disappears() -> None:
    """The broker delivers the description that it retains, before or after the new one."""
    earlier = Fleet([CommandDeclaration("stop")])
    (retained,) = earlier.described()
    for is_first in (True, False):
        fleet = Fleet([])
        if not is_first:
            fleet.described()
        fleet.discovery.decode(Message(CONFIG, retained.payload, retain=True))
        assert fleet.controls()["button"] == {"platform": "button"}
        fleet.discovery.decode(Message(CONFIG, retained.payload, retain=True))
        assert fleet.described() == []


def test_anything_may_be_retained_there() -> None:
    """It changes nothing, or little: at most MAX_REMOVED controls of a device are removed."""
    fleet = Fleet([])
    assert len(fleet.described()) == 1
    for payload in (b"\xff", b"[]", b'{"components": 1}', b'{"components": {"a": {"platform": "sensor"}}}'):
        fleet.discovery.decode(Message(CONFIG, payload, retain=True))
        assert fleet.described() == []
    many = {f"a{number}": {"platform": "button"} for number in range(MAX_REMOVED + 1)}
    fleet.discovery.decode(Message(CONFIG, json.dumps({"components": many}).encode(), retain=True))
    (message,) = fleet.described()
    assert len(json.loads(message.payload)["components"]) == MAX_REMOVED + 2


def test_a_device_that_clients_may_not_command_has_no_controls() -> None:
    """And a device without published metrics is described if it has one."""
    fleet = Fleet([CommandDeclaration("stop")])
    fleet.metrics.clear()
    assert fleet.controls().keys() == {"stop"}
    fleet = Fleet([CommandDeclaration("stop")])
    fleet.discovery._command_topic = CommandTopic(TopicTemplate.parse("hub/commands/{device}/{command}"), [])
    assert "stop" not in fleet.controls()


def test_a_setting_is_a_control_with_the_reported_value_as_its_state() -> None:
    """It has the name of the setting, and is no command with the same name."""
    fleet = Fleet([CommandDeclaration("target", parameters=[SPEED])])
    fleet.settings = [CommandParameter("target", min=0, max=5), CommandParameter("mode", "string", choices=["a", "b"])]
    (message,) = fleet.described()
    parts = [part for part in json.loads(message.payload)["components"].values() if "command_topic" in part]
    for part in parts:
        check_part(part)
    assert [(part["name"], part["platform"], part.get("state_topic")) for part in parts] == [
        ("target", "number", "hub/pump/speed"),
        ("target", "number", "hub/settings/pump/target/reported"),
        ("mode", "select", "hub/settings/pump/mode/reported"),
    ]
    assert len({part["unique_id"] for part in parts}) == 3
    fleet.settings = []
    fleet.discovery.commands_changed("pump")
    (message,) = fleet.described()
    removed = [part for part in json.loads(message.payload)["components"].values() if part.keys() == {"platform"}]
    assert removed == [{"platform": "number"}, {"platform": "select"}]
