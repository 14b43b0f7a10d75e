"""Commands by templates: what is published for any values, what confirms it, and which settings cannot work. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.mqtt.decoders.command_template import (
    CommandTemplate,
    ConfirmationTopics,
    TemplateDecoder,
    answered_outcome,
)
from hub.mqtt.message import CommandAnswer, Message, ReportedOutcome, Undeliverable
from hub.mqtt.topics import TopicTemplate
from wire.command import CommandDeclaration, CommandParameter, ParameterValue
from wire.device import Command

ID = "0123456789abcdef0123456789abcdef"
PARAMETERS = [
    CommandParameter("speed", min=0, max=30),
    CommandParameter("mode", "string"),
    CommandParameter("fast", "boolean", default=False),
    CommandParameter("note", "string", required=False),
]
VALUES = st.fixed_dictionaries(
    {
        "speed": st.floats(0, 30) | st.integers(0, 30).map(float),
        "mode": st.text(st.characters(codec="utf-8"), max_size=40),
        "fast": st.booleans(),
    }
)


def template(**settings: Any) -> CommandTemplate:
    """Return a template of the command set_speed; topics are texts."""
    topics: dict[str, Any] = {
        key: TopicTemplate.parse(settings.pop(key)) for key in ("response_topic", "confirm_topic") if key in settings
    }
    devices = settings.pop("devices", "*")
    parameters = settings.pop("parameters", PARAMETERS)
    topic = TopicTemplate.parse(settings.pop("topic", "plant/{device}/set"))
    return CommandTemplate(devices, CommandDeclaration("set_speed", parameters=parameters), topic, **topics, **settings)


def command(values: dict[str, ParameterValue]) -> Command:
    return Command(ID, "set_speed", values, 1, 1_000)


@given(VALUES)
def test_a_json_payload_contains_exactly_the_values(values: dict[str, ParameterValue]) -> None:
    """With and without places, whatever a text contains: nobody can write JSON through a parameter."""
    plain = template().delivery("pump", command(values))
    assert json.loads(plain.publish.payload) == values
    filled = template(payload='{"set": {"v": {speed}, "m": {mode}, "f": {fast}}, "by": {device}}')
    filled.check()
    content = json.loads(filled.delivery("pump", command(values)).publish.payload)
    assert content == {"set": {"v": values["speed"], "m": values["mode"], "f": values["fast"]}, "by": "pump"}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40))
def test_a_text_in_a_topic_is_one_level(text: str) -> None:
    """No value leads to the topic of another device."""
    filled = template(topic="plant/{device}/{mode}/set", payload="{speed}")
    topic = filled.delivery("pump", command({"speed": 1.0, "mode": text, "fast": True})).publish.topic
    assert topic.startswith("plant/pump/")
    assert topic.count("/") == 3
    assert not set("+#") & set(topic)


@given(VALUES)
def test_a_pattern_takes_values_literally(values: dict[str, ParameterValue]) -> None:
    """A text with characters of regular expressions matches itself."""
    made = template(confirm_topic="plant/{device}/state", confirm_pattern="^mode {mode}$")
    confirmation = made.delivery("pump", command(values)).confirmation
    assert confirmation is not None
    shown = Message("plant/pump/state", f"mode {values['mode']}".encode())
    other = Message("plant/pump/state", f"mode {values['mode']}x".encode())
    assert confirmation.topics == {"plant/pump/state"}
    assert confirmation.outcome(shown, ()) is not None
    assert confirmation.outcome(other, ()) is None


def test_plain_payloads_are_texts() -> None:
    """Whole numbers have no fraction, and booleans are true and false."""
    values: dict[str, ParameterValue] = {"speed": 5.0, "mode": "a", "fast": True}
    for payload, expected in (("{speed}", "5"), ("SPEED {speed} {fast}", "SPEED 5 true"), ("{speed};{mode}", "5;a")):
        made = template(payload=payload)
        made.check()
        assert made.delivery("pump", command(values)).publish.payload.decode() == expected


def test_an_empty_value_in_a_topic_is_undeliverable() -> None:
    """MQTT has no empty place."""
    with pytest.raises(Undeliverable, match="has no value"):
        template(topic="plant/{device}/{mode}").delivery("pump", command({"speed": 1.0, "mode": "", "fast": True}))


def test_an_answer_names_its_command_by_its_correlation_data_or_its_topic() -> None:
    """And the device by its topic. Anything else is no answer, and answers about other ids are not mixed up."""
    made = template(response_topic="hub/{device}/answers")
    delivery = made.delivery("pump", command({"speed": 1.0, "mode": "a", "fast": True}))
    assert (delivery.response_topic, delivery.correlation) == ("hub/pump/answers", ID.encode())
    decoder = TemplateDecoder([made])
    assert decoder.takes("hub/pump/answers")
    assert not decoder.takes("hub/pump/other")
    for correlation, ids in ((ID.encode(), [ID]), (b"f" * 32, ["f" * 32]), (b"", []), (b"\xff", []), (b"7", [])):
        found = decoder.decode(Message("hub/pump/answers", b'{"ok": true}', correlation=correlation))
        assert [(item.device, item.id) for item in found if isinstance(item, CommandAnswer)] == [
            ("pump", id) for id in ids
        ]
    by_topic = TemplateDecoder([template(response_topic="hub/{device}/answers/{id}")])
    assert by_topic.decode(Message(f"hub/pump/answers/{ID}", b"")) == [
        CommandAnswer("pump", ID, ReportedOutcome("succeeded"))
    ]
    one = TemplateDecoder([template(devices="pump", topic="set", response_topic="answers")])
    (answer,) = one.decode(Message("answers", b"", correlation=ID.encode()))
    assert isinstance(answer, CommandAnswer)
    assert answer.device == "pump"


def test_the_first_template_that_matches_a_device_is_used() -> None:
    """By the pattern of its id; the name of the device in topics may be another one."""
    decoder = TemplateDecoder(
        [template(devices="pump-*", topic="a/{device}"), template(topic="b/{device}")], lambda device: f"plant.{device}"
    )
    values: dict[str, ParameterValue] = {"speed": 1.0, "mode": "a", "fast": True}
    topics = [decoder.delivery(device, command(values)) for device in ("pump-1", "fan")]
    assert [delivery.publish.topic for delivery in topics if delivery is not None] == ["a/plant.pump-1", "b/plant.fan"]
    assert [item.name for item in decoder.commands_of("pump-1")] == ["set_speed"]
    assert decoder.delivery("fan", Command(ID, "stop", {}, 1, 1)) is None


def test_messages_that_only_confirm_are_no_readings() -> None:
    """They are subscribed and decode to nothing."""
    decoder = ConfirmationTopics([template(confirm_topic="plant/{device}/state", confirm_pattern="ok")])
    assert (decoder.filters, decoder.takes("plant/pump/state"), decoder.takes("plant/pump")) == (
        ["plant/+/state"], True, False,
    )  # fmt: skip
    assert decoder.decode(Message("plant/pump/state", b"ok")) == []


@pytest.mark.parametrize(
    ("payload", "outcome"),
    [
        (b"", ReportedOutcome("succeeded")),
        (b"done", ReportedOutcome("succeeded", result="done")),
        (b"12.5", ReportedOutcome("succeeded", result=12.5)),
        (b'{"ok": true}', ReportedOutcome("succeeded")),
        (b'{"ok": true, "value": 3}', ReportedOutcome("succeeded", result=3)),
        (b'{"speed": 3}', ReportedOutcome("succeeded", result={"speed": 3})),
        (b'{"result": null}', ReportedOutcome("succeeded")),
        (b'{"state": "received"}', ReportedOutcome("received")),
        (b'{"ok": false}', ReportedOutcome("failed", "device_error")),
        (b'{"error": "too_hot", "message": "80 C"}', ReportedOutcome("failed", "too_hot", "80 C")),
        (b'{"error": "It is too hot"}', ReportedOutcome("failed", "device_error", "It is too hot")),
        (b'{"rejected": true, "error": "busy"}', ReportedOutcome("rejected", "busy")),
        (b'{"state": "rejected", "message": "no"}', ReportedOutcome("rejected", "device_error", "no")),
    ],
)
def test_what_an_answer_says(payload: bytes, outcome: ReportedOutcome) -> None:
    """Without an error the command has succeeded."""
    assert answered_outcome(payload) == outcome


@given(st.binary(max_size=60) | st.recursive(st.none() | st.booleans() | st.text(max_size=9), lambda inner: st.lists(
    inner, max_size=3) | st.dictionaries(st.sampled_from(["ok", "error", "state", "message", "value"]), inner)).map(
    lambda content: json.dumps(content).encode()))  # fmt: skip
def test_any_answer_is_an_outcome(payload: bytes) -> None:
    """With a code that the hub can store."""
    outcome = answered_outcome(payload)
    assert re.fullmatch("[a-z_]{0,32}", outcome.code)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"topic": "plant/set"}, "needs {device}, or `devices` the id of one device"),
        ({"topic": "plant/+/{device}"}, "must not contain '+', '#' or a group"),
        (
            {"topic": "plant/{device}/{note}"},
            "{note}, which is not always given: make it required, or give it a default",
        ),
        ({"payload": "{sped}"}, "{sped}, which is no parameter: there are device, fast, id, mode, speed"),
        ({"payload": '{"m": "{mode}"}'}, "write a text as {name} without quotes"),
        ({"payload": '{"v": {speed}'}, "no JSON when its places are filled"),
        ({"confirm_topic": "a/{device}"}, "confirm_topic and confirm_pattern belong together"),
        ({"confirm_topic": "a", "confirm_pattern": "x"}, "needs {device}: it names who answers"),
        ({"confirm_topic": "a/{device}", "confirm_pattern": "("}, "no regular expression"),
        ({"response_topic": "a/{device}/{speed}"}, "may contain only {device} and {id}"),
        (
            {"response_topic": "a/{device}", "confirm_topic": "a/{device}", "confirm_pattern": "x"},
            "set response_topic or confirm_topic, not both",
        ),
    ],
)
def test_settings_that_cannot_work_are_errors_with_a_remedy(settings: dict[str, Any], words: str) -> None:
    """At the start and in `hub config check`, not with the first command."""
    with pytest.raises(ValueError, match=re.escape(words)):
        TemplateDecoder([template(**settings)])


def test_two_commands_of_the_same_devices_have_different_names() -> None:
    """One of them would never be used."""
    with pytest.raises(ValueError, match=r"two commands of '\*' are named 'set_speed'"):
        TemplateDecoder([template(), template(topic="other/{device}")])


def test_counts_in_a_pattern_are_no_places() -> None:
    """{3} repeats."""
    template(confirm_topic="a/{device}", confirm_pattern=r"^\d{3} {speed}$").check()
