"""Commands on a topic of a broker: topics, payloads, ids and answers."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.command import CommandMode, cancelled, new_command, sent
from hub.mqtt.command_topic import (
    MAX_PAYLOAD_BYTES,
    CommandMessage,
    CommandTarget,
    CommandTopic,
    TopicRefused,
    command_id,
    command_overlaps,
    may_answer,
    read_command,
    refusal_answer,
    state_answer,
)
from hub.mqtt.topics import MAX_TOPIC_BYTES, TopicTemplate
from wire.command import CommandDeclaration, CommandParameter

TOPIC = CommandTopic(TopicTemplate.parse("telemetry/{device}/command/{command}"), ["pump-*", "boiler.1"])
SPEED = CommandDeclaration("set_speed", parameters=[CommandParameter("speed", "float", min=0, max=30)])
STOP = CommandDeclaration("stop")


def declared(kind: Any, **options: Any) -> CommandDeclaration:
    return CommandDeclaration("set", parameters=[CommandParameter("value", kind, **options)])


names = st.text(st.sampled_from("abcZ09_.-"), min_size=1, max_size=12)


@given(names, names)
def test_the_topic_of_a_command_leads_back_to_it(device: str, command: str) -> None:
    """Also with the characters that ids may have."""
    assert TOPIC.target(TOPIC.topic_of(device, command)) == CommandTarget(device, command)


def test_devices_are_selected_by_patterns() -> None:
    """Without a pattern no device may be commanded."""
    assert [TOPIC.may_command(device) for device in ("pump-7", "boiler.1", "boiler.2")] == [True, True, False]
    assert not CommandTopic(TOPIC.template, []).may_command("pump-7")


@pytest.mark.parametrize(
    "topic",
    ["a/{device}", "a/{command}", "a/{device}/{command}/+", "a/{device}/{command#}", "$share/g/{device}/{command}"],
)
def test_a_topic_names_the_device_and_the_command(topic: str) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError, match=r"needs \{device\} and \{command\}"):
        CommandTopic(TopicTemplate.parse(topic), [])


def test_no_other_subscription_receives_commands() -> None:
    """A broker may deliver a message once for each subscription, and the command would be executed twice."""
    filters = [TOPIC.filter, "sensors/#", "telemetry/+/command/state"]
    (sentence,) = command_overlaps(TOPIC, filters)
    assert "telemetry/x/command/state" in sentence


values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
)


@given(st.dictionaries(names, values, max_size=5), st.text(max_size=20), st.booleans())
def test_parameters_arrive_as_they_were_sent(parameters: dict[str, Any], id: str, is_queued: bool) -> None:
    """As an object of them, and with further fields."""
    assert read_command(json.dumps(parameters).encode(), None) == CommandMessage(parameters)
    mode: CommandMode = "queue" if is_queued else "call"
    message = {"parameters": parameters, "id": id, "mode": mode, "timeout_s": 3}
    assert read_command(json.dumps(message).encode(), None) == CommandMessage(parameters, id, mode, 3)


@given(values)
def test_a_plain_value_is_for_the_parameter(value: Any) -> None:
    """A text is taken as it is, everything else is JSON."""
    kind = {bool: "boolean", int: "integer", float: "float", str: "string"}[type(value)]
    payload = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, str) and (not value.strip() or value.lstrip().startswith("{")):
        return
    found = read_command(payload.encode(), declared(kind)).parameters["value"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("payload", "declaration", "parameters"),
    [
        (b"", STOP, {}),
        (b" " * MAX_PAYLOAD_BYTES, SPEED, {}),
        (b"{}", STOP, {}),
        (b"12", SPEED, {"speed": 12}),
        (b"ON", declared("boolean"), {"value": True}),
        (b"0", declared("boolean"), {"value": False}),
        (b"12", declared("string"), {"value": "12"}),
        (b"fast", SPEED, {"speed": "fast"}),
        (b"fast", None, {}),
    ],
)
def test_payloads(payload: bytes, declaration: CommandDeclaration | None, parameters: dict[str, Any]) -> None:
    """A wrong type stays what it is: the declaration refuses it with the expected one."""
    assert read_command(payload, declaration).parameters == parameters


@pytest.mark.parametrize(
    ("payload", "declaration", "sentence"),
    [
        (b"1", STOP, "does not say which parameter"),
        (b"\xff", SPEED, "not UTF-8"),
        (b" " * MAX_PAYLOAD_BYTES + b"1", SPEED, "more than 16,384 bytes"),
        (b'{"parameters": {}, "mode": "now"}', STOP, "the payload is not valid: Invalid enum value 'now' - at `mode`"),
        (b'{"parameters": {}, "timeout": 1}', STOP, "unknown field `timeout`"),
    ],
)
def test_refused_payloads(payload: bytes, declaration: CommandDeclaration, sentence: str) -> None:
    """The sentence names what is wrong."""
    with pytest.raises(TopicRefused, match=sentence):
        read_command(payload, declaration)


def test_the_only_required_parameter_takes_a_plain_value() -> None:
    """The others keep their defaults."""
    parameters = [CommandParameter("speed"), CommandParameter("gear", "integer", default=1)]
    assert read_command(b"3", CommandDeclaration("set", parameters=parameters)).parameters == {"speed": 3}


@given(st.lists(st.tuples(names, names, st.text(max_size=10)), unique=True, min_size=2, max_size=6))
def test_ids_of_senders_do_not_collide(keys: list[tuple[str, str, str]]) -> None:
    """The same id of another bridge or device is another command."""
    assert len({command_id(*key) for key in keys}) == len(keys)


def test_answers_go_to_topics_of_other_programs() -> None:
    """The hub publishes with its own rights: never what could be taken for its readings, or for a command."""
    reserved = [TOPIC.template, TopicTemplate.parse("hub/{device}/{metric}"), TopicTemplate.parse("homeassistant/#")]
    assert may_answer("answers/7", reserved)
    assert may_answer("a" * MAX_TOPIC_BYTES, reserved)
    assert not may_answer("a" * (MAX_TOPIC_BYTES + 1), reserved)
    for topic in ("", "$SYS/x", "a/+", "a/#", "a\0", "hub/pump-7/flow", "homeassistant/x", "telemetry/a/command/b"):
        assert not may_answer(topic, reserved)


def test_an_answer_has_the_state_the_reason_and_the_result() -> None:
    """The last one is marked."""
    record = new_command(
        id="ab" * 16, device="pump-7", name="set_speed", parameters={}, operator="mqtt home", now_ns=0, timeout_ms=1
    )
    cancelled_record = cancelled(record, "operator 1", 1)
    assert cancelled_record is not None
    first, last = (json.loads(state_answer(cancelled_record, change, "7")) for change in cancelled_record.changes)
    assert (first["state"], first["last"], first["id"]) == ("queued", False, "7")
    assert (last["state"], last["last"], last["code"], last["message"]) == (
        "cancelled",
        True,
        "cancelled",
        "by operator 1",
    )
    assert last["time"] == "1970-01-01T00:00:00.000000001Z"
    sent_record = sent(record, 0)
    assert sent_record is not None
    with_result = msgspec.structs.replace(sent_record, result=math.pi)
    earlier, answer = (json.loads(state_answer(with_result, change, "")) for change in with_result.changes)
    assert (answer["last"], answer["result"]) == (False, math.pi)
    assert "result" not in earlier
    assert "id" not in answer
    refused = json.loads(refusal_answer(CommandTarget("pump-7", "fly"), "8", "unknown_command", "no"))
    assert refused == {
        "device": "pump-7", "command": "fly", "id": "8", "error": "unknown_command", "message": "no", "last": True,
    }  # fmt: skip
