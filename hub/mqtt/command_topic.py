"""Commands that clients of a broker send to devices of the hub, and desired values that they set: the topics, the
payloads and the answers. Pure.

The payload of a command is one of three: the parameters as a JSON object, the plain value for a command with one
parameter, or a JSON object with `parameters` and further fields. A value of a parameter is never an object, so the last
form cannot be confused with a parameter of that name. The payload of a setting is its plain value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from hub.model.command import DEFAULT_TIMEOUT_S, DEFAULT_TTL_S, MAX_TTL_S, CommandMode, CommandRecord, PhaseChange
from hub.mqtt.publication import time_text
from hub.mqtt.topics import MAX_TOPIC_BYTES, TopicTemplate, overlap
from wire.command import CommandDeclaration, CommandParameter
from wire.limits import MAX_COMMAND_TIMEOUT_MS, MAX_PARAMETERS

TargetKind = Literal["command", "setting"]
"""Kind of the name in a topic besides the device."""

MAX_PAYLOAD_BYTES = 16 * 1024
"""Longest payload of a command: four times the parameters that a command may have."""

BOOLEANS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
"""Plain values of a boolean parameter, in any case."""


class CommandTarget(NamedTuple):
    """Device and command, or setting, that a topic names."""

    device: str
    command: str
    kind: TargetKind = "command"


class CommandTopic:
    """Topic on which clients of a broker send commands, or desired values, and the devices that they may command."""

    def __init__(self, topic: TopicTemplate, devices: Sequence[str], kind: TargetKind = "command") -> None:
        """`devices` are patterns with `*` and `?`. Raises ValueError for an invalid topic."""
        check_command_topic(topic, kind)
        self.template = topic
        self._kind: TargetKind = kind
        self.filter = topic.filter
        self._devices = tuple(devices)

    def target(self, topic: str) -> CommandTarget | None:
        """Return the device and the command or setting that a topic names, None for another topic."""
        found = self.template.match(topic)
        return None if found is None else CommandTarget(found["device"], found[self._kind], self._kind)

    def topic_of(self, device: str, command: str) -> str:
        """Return the topic of a command or setting."""
        return self.template.fill({"device": device, self._kind: command})

    def may_command(self, device: str) -> bool:
        """Return whether clients of the broker may command this device."""
        return any(fnmatchcase(device, pattern) for pattern in self._devices)


def check_command_topic(topic: TopicTemplate, kind: TargetKind) -> None:
    """Raise ValueError with a sentence about an invalid topic."""
    is_plain = not topic.share and all(not level.wild or (level.name and not level.rest) for level in topic.levels)
    if not is_plain or {*topic.names} != {"device", kind}:
        raise ValueError(
            f"{kind}_topic {topic.text!r} needs {{device}} and {{{kind}}}, and no other placeholder or wildcard"
        )


def command_overlaps(topic: CommandTopic, filters: Sequence[str]) -> list[str]:
    """Return a sentence for each other subscription that receives these messages: a broker may deliver them twice."""
    return [
        f"messages on {topic.template.text!r} would also arrive through the subscription {filter!r}, for example with "
        f"the topic {common!r}; give one of them another prefix"
        for filter in filters
        if filter != topic.filter and (common := overlap(filter, topic.template)) is not None
    ]


class TopicRefused(ValueError):
    """A message on the command topic that is no command. `code` is stable for programs."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class CommandMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """Payload with further fields. `id` is the sender's own: the same id again is the same command."""

    parameters: Annotated[dict[str, Any], Meta(max_length=MAX_PARAMETERS)] = {}
    id: Annotated[str, Meta(max_length=128)] = ""
    mode: CommandMode = "call"
    timeout_s: Annotated[float, Meta(ge=0.1, le=MAX_COMMAND_TIMEOUT_MS / 1000)] = DEFAULT_TIMEOUT_S
    ttl_s: Annotated[float, Meta(ge=1, le=MAX_TTL_S)] = DEFAULT_TTL_S
    confirmed: bool = False


def read_command(payload: bytes, declaration: CommandDeclaration | None) -> CommandMessage:
    """Return the content of a payload. `declaration` is that of the command, None if the device has no such command.

    The parameters are not checked against the declaration. Raises TopicRefused.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise TopicRefused("wrong_parameters", f"the payload has more than {MAX_PAYLOAD_BYTES:,} bytes")
    if not payload.strip():
        return CommandMessage()
    try:
        content = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return CommandMessage(_plain_parameters(payload, content, declaration))
    if not isinstance(content.get("parameters"), dict):
        return CommandMessage(content)
    try:
        return msgspec.convert(content, CommandMessage)
    except msgspec.ValidationError as error:
        sentence = str(error).replace("`$.", "`")
        raise TopicRefused("wrong_parameters", f"the payload is not valid: {sentence}") from None


def plain_parameter(declaration: CommandDeclaration) -> CommandParameter | None:
    """Return the parameter that a plain value is for: the only one, or the only one that is required."""
    parameters = declaration.parameters
    required = [parameter for parameter in parameters if is_required(parameter)]
    candidates = parameters if len(parameters) == 1 else required
    return candidates[0] if len(candidates) == 1 else None


def is_required(parameter: CommandParameter) -> bool:
    """Return whether a command needs a value of this parameter."""
    return parameter.required and parameter.default is None


def _plain_parameters(payload: bytes, content: object, declaration: CommandDeclaration | None) -> dict[str, Any]:
    if declaration is None:
        return {}
    parameter = plain_parameter(declaration)
    if parameter is None:
        sentence = f"a plain value does not say which parameter it is. Expected JSON: {declaration.signature()}"
        raise TopicRefused("wrong_parameters", sentence)
    return {parameter.name: _plain_value(payload, content, parameter)}


def read_setting(payload: bytes, setting: CommandParameter | None) -> Any:
    """Return the value for a setting; any for one that the device does not declare. Raises TopicRefused.

    The value is not checked against the declaration.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise TopicRefused("wrong_value", f"the payload has more than {MAX_PAYLOAD_BYTES:,} bytes")
    if setting is None:
        return 0
    try:
        content = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        content = None
    return _plain_value(payload, content, setting)


def _plain_value(payload: bytes, content: object, parameter: CommandParameter) -> object:
    """Return the value of a payload, whose content as JSON is known. Raises TopicRefused."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise TopicRefused("wrong_parameters", "the payload is not UTF-8") from None
    if parameter.type == "string":
        return text
    if parameter.type == "boolean":
        content = BOOLEANS.get(text.strip().lower(), content)
    # A value of another type is refused by the declaration, which names the expected one.
    return text if content is None else content


def command_id(bridge: str, device: str, id: str) -> str:
    """Return the id of a command whose sender has an id of its own: that of another bridge or device is another."""
    return sha256("\0".join((bridge, device, id)).encode(errors="surrogatepass")).hexdigest()[:32]


def may_answer(topic: str, reserved: Iterable[TopicTemplate]) -> bool:
    """Return whether the hub may publish an answer there: on a topic of its own, anything would be taken for its own
    message."""
    if not topic or topic.startswith("$") or len(topic.encode(errors="replace")) > MAX_TOPIC_BYTES:
        return False
    if any(character in topic for character in "+#\0"):
        return False
    return all(own.match(topic) is None for own in reserved)


def state_answer(record: CommandRecord, change: PhaseChange, id: str) -> bytes:
    """Return the answer about a state of a command: JSON with the `id` of the sender, "" for none.

    `last`: the hub sends no further answer about this command.
    """
    is_newest = change is record.changes[-1]
    content: dict[str, Any] = {
        **_identity(CommandTarget(record.device, record.name), id),
        "command_id": record.id,
        "state": change.state.value,
        "time": time_text(change.time_ns),
        **_reason(change.code, change.message),
        "last": is_newest and not record.state.is_open,
    }
    if is_newest and record.result is not None:
        content["result"] = record.result
    return msgspec.json.encode(content)


def refusal_answer(target: CommandTarget, id: str, code: str, sentence: str) -> bytes:
    """Return the answer about a command that is not recorded."""
    return msgspec.json.encode({**_identity(target, id), "error": code, "message": sentence, "last": True})


def _identity(target: CommandTarget, id: str) -> Mapping[str, str]:
    return {"device": target.device, target.kind: target.command, **({"id": id} if id else {})}


def _reason(code: str, message: str) -> Mapping[str, str]:
    return {key: text for key, text in (("code", code), ("message", message)) if text}
