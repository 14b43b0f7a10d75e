"""Commands from any description of a device: valid declarations, and deliveries that its own echo confirms. Pure."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hub.mqtt.decoders.command import is_set, plain_number
from hub.mqtt.decoders.configured import preset_decoder
from hub.mqtt.decoders.esphome_commands import described_commands
from hub.mqtt.decoders.fields import DecoderContext
from hub.mqtt.decoders.shelly_commands import answer_of, component_commands, gen1_commands
from hub.mqtt.decoders.tasmota_commands import tasmota_commands
from hub.mqtt.decoders.zigbee2mqtt_commands import settable
from hub.mqtt.message import DeviceCommands, Message
from wire.command import CommandDeclaration
from wire.device import Command

ID = "0123456789abcdef0123456789abcdef"
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["state", "brightness", "color temp", "x", "ü", "a" * 90, "on/off"])
FEATURE = st.fixed_dictionaries(
    {"type": st.sampled_from(["numeric", "binary", "enum", "text", "list"]), "property": NAMES},
    optional={
        "access": st.integers(0, 7) | JSON,
        "value_min": st.integers(0, 5) | JSON,
        "value_max": st.integers(0, 300) | JSON,
        "value_step": st.floats(0, 2) | JSON,
        "value_on": st.sampled_from(["ON", True, "OPEN"]) | JSON,
        "value_off": st.sampled_from(["OFF", False, "CLOSE"]) | JSON,
        "values": st.lists(st.text(max_size=5), max_size=70) | JSON,
        "unit": st.text(max_size=40) | JSON,
        "description": st.text(max_size=300) | JSON,
    },
)
EXPOSES = st.lists(
    FEATURE
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["light", "composite"]), "features": st.lists(FEATURE, min_size=1, max_size=3)},
        optional={"property": NAMES},
    )
    | JSON,
    max_size=5,
)
COMPONENTS = ("switch", "number", "select", "text", "light", "lock", "cover", "valve", "fan", "climate", "button")
TOPICS = ("cmd_t", "stat_t", "command_topic", "pos_t", "set_pos_t", "mode_cmd_t", "temp_cmd_t", "pct_cmd_t")


def is_valid(declaration: CommandDeclaration) -> bool:
    """Return whether the hub can store a declaration and read it again."""
    return msgspec.json.decode(msgspec.json.encode(declaration), type=CommandDeclaration) == declaration


def examples(declaration: CommandDeclaration) -> dict[str, Any]:
    """Return values that a command accepts."""
    plain = {"float": 3.0, "integer": 3, "boolean": True, "string": "a"}
    values: dict[str, Any] = {}
    for item in declaration.parameters:
        bounds = [bound for bound in (item.min, item.max) if bound is not None]
        values[item.name] = item.choices[0] if item.choices else bounds[0] if bounds else plain[item.type]
    return declaration.accepted(values)


@given(EXPOSES)
def test_any_zigbee_device_gets_valid_commands_that_its_state_confirms(exposes: list[Any]) -> None:
    """A value is set at the place where the state of the device shows it, so the same object confirms it."""
    for known in settable(exposes):
        assert is_valid(known.declaration)
        parameters = examples(known.declaration)
        delivery = known.delivery("base", "lamp", Command(ID, known.declaration.name, parameters, 1, 1))
        content = json.loads(delivery.publish.payload)
        assert list(content) == [known.property]
        assert delivery.confirmation is not None
        outcome = delivery.confirmation.outcome(Message("base/lamp", delivery.publish.payload), ())
        is_shown = all(known.features[name].is_published for name in parameters)
        assert (outcome is not None) == is_shown


@given(
    st.sampled_from(COMPONENTS),
    st.dictionaries(
        st.sampled_from(TOPICS),
        st.text(max_size=8) | JSON,
    ),
    st.dictionaries(st.sampled_from(["min", "max", "step", "ops", "name", "unit_of_meas", "modes", "min_temp"]), JSON),
)  # fmt: skip
def test_any_discovery_message_gives_valid_commands(component: str, topics: Any, details: Any) -> None:
    """With a topic to which something can be published."""
    for known in described_commands(component, "relay", {**topics, **details}):
        assert is_valid(known.declaration)
        assert known.topic
        assert not set("+#\0") & set(known.topic)
        known.delivery(Command(ID, known.declaration.name, examples(known.declaration), 1, 1))


@given(st.lists(st.text(max_size=9) | st.from_regex(r"(POWER|Dimmer|Shutter)\d{0,2}", fullmatch=True), max_size=5))
def test_any_fields_of_tasmota_give_valid_commands(fields: list[str]) -> None:
    """Each echoes its own value as RESULT."""
    for known in tasmota_commands(fields):
        assert is_valid(known.declaration)
        parameters = examples(known.declaration)
        delivery = known.delivery("cmnd/a", "stat/a/RESULT", Command(ID, "set", parameters, 1, 1))
        (value,) = parameters.values()
        echo = {"Position": value} if known.word.startswith("Shutter") else ("ON" if value is True else value)
        assert delivery.confirmation is not None
        message = Message("stat/a/RESULT", json.dumps({known.key: echo}).encode())
        outcome = delivery.confirmation.outcome(message, ())
        assert outcome is not None
        assert outcome.state == "succeeded"


@given(
    st.lists(st.text(max_size=12) | st.from_regex(r"(switch|light|cover|number):\d{1,5}", fullmatch=True), max_size=4)
)
def test_any_component_of_shelly_gives_valid_commands(components: list[str]) -> None:
    """The request names the command, so that the answer does, too."""
    for known in (*component_commands(components), *gen1_commands(components)):
        assert is_valid(known.declaration)
        command = Command(ID, known.declaration.name, examples(known.declaration), 1, 1)
        request = json.loads(known.delivery("shelly", "hub/shelly", command).publish.payload)
        answer = answer_of(json.dumps({"id": request["id"], "result": {}}).encode())
        assert answer is not None
        assert (answer[0], answer[1].state) == (ID, "succeeded")


@given(st.binary(max_size=40) | JSON.map(lambda content: json.dumps(content).encode()))
def test_any_payload_on_the_answer_topic_is_read(payload: bytes) -> None:
    """It is an answer only with the id of a request."""
    found = answer_of(payload)
    assert found is None or isinstance(found[0], str)


@given(JSON)
def test_any_list_of_devices_is_read(content: Any) -> None:
    """A decoder with commands reads what one without reads."""
    message = Message(
        "zigbee2mqtt/bridge/devices", json.dumps([{"friendly_name": "a", "definition": content}]).encode()
    )
    plain = preset_decoder("zigbee2mqtt").decode(message)
    found = preset_decoder("zigbee2mqtt", DecoderContext(commands_from="hub")).decode(message)
    assert [item for item in found if not isinstance(item, DeviceCommands)] == plain


@given(st.floats(-1e6, 1e6))
def test_a_number_that_returns_as_a_text_is_the_one_that_was_set(value: float) -> None:
    """As a device prints it: whole, with six digits, or in full. Another number is not."""
    for text in (str(plain_number(value)), f"{value:f}", repr(value)):
        assert is_set(value, text, 1e-6)
    assert not is_set(value, value + 1 + abs(value) / 10)
    assert not is_set(1.0, True)
    assert not is_set(True, 1)
