"""Presets: documented messages have the expected results, and other payloads cause no errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.message import DecodedRow
from formats.record import RefusedInput
from hub.config.mqtt import PRESETS as NAMES
from hub.mqtt.decoders.configured import PRESETS, preset_decoder, presets_in_order
from hub.mqtt.message import AvailabilityChange, DeviceDeclaration, Message, Undecodable
from hub.mqtt.topics import TopicTemplate
from tests.hub.mqtt.decoders.samples import FILES, GOLDEN, Observer, read_samples
from wire.model import DeviceId, Metric, MetricName


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_documented_messages_have_the_expected_results(path: Path) -> None:
    """The messages of a file are decoded in order, because a decoder may remember earlier ones."""
    golden = read_samples(path)
    assert golden.source
    decoder = preset_decoder(golden.preset)
    seen, wanted = Observer(), Observer()
    for message, expected in golden.messages:
        assert decoder.takes(message.topic) == (expected is not None), message.topic
        if expected is not None:
            assert seen.observe(decoder.decode(message)) == wanted.observe(expected), message.topic
            assert wanted.metrics.items() <= seen.metrics.items()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_every_decoded_topic_is_subscribed_to(path: Path) -> None:
    """A topic that no filter matches would never arrive."""
    golden = read_samples(path)
    decoder = preset_decoder(golden.preset)
    filters = [TopicTemplate.parse(filter) for filter in decoder.filters]
    for message, expected in golden.messages:
        if expected is not None:
            assert any(filter.match(message.topic) is not None for filter in filters), message.topic


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_retained_descriptions_are_wanted_and_readings_are_not(path: Path) -> None:
    """Retained samples are descriptions. A retained reading would be older than it seems."""
    golden = read_samples(path)
    decoder = preset_decoder(golden.preset)
    for message, expected in golden.messages:
        if message.retain:
            assert decoder.wants_retained(message.topic), message.topic
        if any("row" in found or "sample" in found for found in expected or []):
            assert not decoder.wants_retained(message.topic), message.topic


def test_every_preset_has_samples() -> None:
    """Each preset is tested with documented messages."""
    assert {path.parent.name for path in FILES} == set(PRESETS)


TOPICS = [message.topic for path in FILES for message, expected in read_samples(path).messages if expected is not None]
CONTENTS = [json.loads(path.read_text()) for path in FILES]
PAYLOADS = [entry["payload"] for content in CONTENTS for entry in content["messages"]]
ODD: list[Any] = [None, True, -1, 1e308, 10**400, "", "x", [], [None], {}, {"a": None}, [[1]], "\ud800"]


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """Return a documented payload with one changed part."""

    def bend(content: Any) -> Any:
        if draw(st.integers(0, 7)) == 0:
            return draw(st.sampled_from(ODD))
        if isinstance(content, dict):
            return {name: bend(inner) for name, inner in content.items()}
        return [bend(inner) for inner in content] if isinstance(content, list) else content

    return bend(draw(st.sampled_from(PAYLOADS)))


MESSAGES = st.binary(max_size=20) | damaged().map(lambda content: json.dumps(content).encode())


@pytest.mark.parametrize("name", PRESETS)
@given(data=st.data())
def test_any_payload_is_decoded_or_undecodable(name: str, data: st.DataObject) -> None:
    """No other exception is raised, and all results have legal names and values."""
    decoder = preset_decoder(name)
    topics = [topic for topic in TOPICS if decoder.takes(topic)]
    for topic, payload in data.draw(st.lists(st.tuples(st.sampled_from(topics), MESSAGES), max_size=4)):
        try:
            everything = decoder.decode(Message(topic, payload))
        except Undecodable:
            continue
        for found in everything:
            assert isinstance(found, DecodedRow | RefusedInput | DeviceDeclaration | AvailabilityChange)
            if isinstance(found, RefusedInput):
                assert found.reason
                continue
            msgspec.convert(found.device, DeviceId)
            if isinstance(found, DecodedRow):
                msgspec.convert(list(found.values), list[MetricName])
                assert {type(value) for value in found.values.values()} <= {float, bool, str}
            elif isinstance(found, DeviceDeclaration):
                msgspec.convert(msgspec.to_builtins(list(found.metrics)), list[Metric])


@pytest.mark.parametrize("number", [10**400, -(10**400), 2**63])
def test_an_impossible_signal_strength_is_ignored(number: int) -> None:
    """The rest of the uplink is decoded."""
    uplink = {"rx_metadata": [{"rssi": number}, {"rssi": -40, "snr": number}], "f_cnt": number}
    message = Message("v3/a/devices/b/up", json.dumps({"uplink_message": uplink}).encode())
    found = preset_decoder("the_things_stack").decode(message)
    assert [row.values for row in found if isinstance(row, DecodedRow)] == [{"lora.rssi": -40.0, "lora.gateways": 2.0}]


def test_a_boolean_is_no_value_of_a_described_text() -> None:
    """A binary feature with the values OPEN and CLOSE is a text, as every text of JSON; its neighbours are stored."""
    decoder = preset_decoder("zigbee2mqtt")
    feature = {"type": "binary", "property": "state", "access": 7, "value_on": "OPEN", "value_off": "CLOSE"}
    devices = [{"friendly_name": "blind", "definition": {"exposes": [feature]}}]
    decoder.decode(Message("zigbee2mqtt/bridge/devices", json.dumps(devices).encode()))
    row, refused = decoder.decode(Message("zigbee2mqtt/blind", b'{"state": true, "position": 65}'))
    assert isinstance(row, DecodedRow)
    assert isinstance(refused, RefusedInput)
    assert (row.values, refused.metric, refused.code) == ({"position": 65.0}, "state", "type")


@pytest.mark.parametrize(
    ("text", "topic", "device"),
    [
        ("zigbee2mqtt", "zigbee2mqtt/lamp", "lamp"),
        ("zigbee2mqtt", "zigbee2mqtt/lamp/availability", "lamp"),
        ("tasmota", "tele/lamp/SENSOR", "lamp"),
        ("tasmota", "stat/lamp/RESULT", "lamp"),
        ("esphome", "lamp/sensor/x/state", "lamp"),
        ("esphome", "lamp/status", "lamp"),
        ("shelly", "shellies/lamp/relay/0", "lamp"),
        ("shelly", "shellyplus1-1/events/rpc", "shellyplus1-1"),
        ("home_assistant", "homeassistant/light/lamp/state", "light.lamp"),
        ("the_things_stack", "v3/app/devices/lamp/up", "lamp"),
    ],
)
def test_a_preset_knows_the_device_of_a_topic(text: str, topic: str, device: str) -> None:
    """It is charged with the refused values of its messages."""
    assert preset_decoder(text).device_of(topic) == device


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("zigbee2mqtt=home/z2m", "home/z2m/lamp"),
        ("tasmota=plug/{device}/tele", "plug/lamp/tele/SENSOR"),
        ("esphome=nodes", "nodes/lamp/sensor/x/state"),
        ("shelly=home", "home/lamp/relay/0"),
        ("home_assistant=ha", "ha/sensor/x/state"),
        ("the_things_stack=v3", "v3/app/devices/lamp/up"),
    ],
)
def test_a_preset_may_have_another_base_topic(text: str, topic: str) -> None:
    """The base topic follows '='."""
    assert preset_decoder(text).takes(topic)
    assert not preset_decoder(text).takes("elsewhere/x")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_no_preset_takes_the_messages_of_another(path: Path) -> None:
    """In the order of the presets, the intended one is the first that takes a message, even if others match, too."""
    golden = read_samples(path)
    others = [name for name in PRESETS if name != golden.preset.partition("=")[0]]
    decoders = {text: preset_decoder(text) for text in presets_in_order([*others, golden.preset])}
    for message, expected in golden.messages:
        if expected:
            assert next(text for text, decoder in decoders.items() if decoder.takes(message.topic)) == golden.preset


@pytest.mark.parametrize(
    "topic", ["homeassistant/sensor/x/state", "shellies/shellygas-1/valve/0/state", "elsewhere/thing/x/state"]
)
def test_a_topic_that_only_resembles_a_node_is_ignored(topic: str) -> None:
    """ESPHome has no topic level of its own, so such messages arrive. They are neither stored nor rejected."""
    decoder = preset_decoder("esphome")
    assert decoder.takes(topic)
    assert decoder.decode(Message(topic, b"1")) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_samples_name_their_documentation(path: Path) -> None:
    """Each page has its address."""
    assert all(" (https://" in page and page.endswith(")") for page in read_samples(path).source.split("; "))


@pytest.mark.parametrize("text", ["zigbee", "tasmota=", "esphome=a+", "home_assistant={x", ""])
def test_an_unknown_preset_is_rejected(text: str) -> None:
    """The error lists the known presets."""
    with pytest.raises(ValueError, match=r"."):
        preset_decoder(text)


def test_the_settings_accept_the_names_of_the_decoders() -> None:
    """The settings have their own list, because they load no decoder."""
    assert tuple(PRESETS) == NAMES
