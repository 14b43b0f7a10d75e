"""Commands by the templates of a bridge: what is published, and which message reports the outcome. Pure.

Three ways of confirmation. A device that knows MQTT 5 answers at the response topic, with the correlation data of the
request (MQTT 5.0, section 4.10); a response topic that contains {id} works with MQTT 3.1.1, too. Any other device
publishes something at `confirm_topic` that `confirm_pattern` matches. Without either, nothing confirms the command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import msgspec

from formats.names import legal_device
from hub.mqtt.decoders.command import plain_number
from hub.mqtt.decoders.fields import parse_json
from hub.mqtt.message import (
    CommandAnswer,
    CommandDelivery,
    Confirmation,
    Decoded,
    Decoder,
    Message,
    Publish,
    ReportedOutcome,
    Undecodable,
    Undeliverable,
)
from hub.mqtt.topics import TopicTemplate
from wire.command import CommandDeclaration, CommandParameter, ParameterValue
from wire.device import Command

DEVICE, ID = "device", "id"
"""Places of every template, besides the names of the parameters."""

STATES = ("received", "succeeded", "failed", "rejected")
"""Values of `state` in an answer. Other answers have succeeded unless they contain an error."""

EXAMPLES: dict[str, ParameterValue] = {"float": 1.5, "integer": 1, "boolean": True, "string": 'a "text"'}
"""Values with which the settings are checked."""

MAX_COMPARED_BYTES = 16 * 1024
"""Beginning of a message that is compared with a pattern: a slow expression must not hold the hub."""

_PLACE = re.compile(r"\{([A-Za-z0-9_.-]+)\}")
_CODE = re.compile(r"[a-z_]{1,32}")
_ID = re.compile(r"[0-9a-f]{16,32}")


class CommandTemplate(NamedTuple):
    """A command of the devices that match a pattern.

    `payload` is "" for a JSON object of the parameters. A payload that begins with a brace or a bracket, and not with a
    place, is JSON and gets its values as JSON.
    """

    devices: str
    declaration: CommandDeclaration
    topic: TopicTemplate
    payload: str = ""
    response_topic: TopicTemplate | None = None
    confirm_topic: TopicTemplate | None = None
    confirm_pattern: str = ""
    repeat: bool = False

    def check(self) -> None:
        """Raise ValueError with a sentence if the template cannot work."""
        label = f"the command {self.declaration.name!r}"
        if DEVICE not in self.topic.names and any(character in self.devices for character in "*?["):
            raise ValueError(
                f"{label}: the topic {self.topic.text!r} needs {{device}}, or `devices` the id of one device"
            )
        for template in (self.topic, self.response_topic, self.confirm_topic):
            if template is not None and (
                template.share or any(level.wild and not level.name for level in template.levels)
            ):
                raise ValueError(f"{label}: the topic {template.text!r} must not contain '+', '#' or a group")
        always = {DEVICE, ID, *(item.name for item in self.declaration.parameters if _is_given(item))}
        for where, names in (
            ("topic", {*self.topic.names}),
            ("payload", {*_PLACE.findall(self.payload)}),
            ("confirm_pattern", {*_PLACE.findall(_without_counts(self.confirm_pattern))}),
        ):
            _check_places(f"{label}: the {where}", names, always, {item.name for item in self.declaration.parameters})
        self._check_answers(label)
        values = {item.name: _example(item) for item in self.declaration.parameters}
        if self._is_json:
            try:
                msgspec.json.decode(_filled_json(self.payload, {DEVICE: "a", ID: "a", **values}))
            except msgspec.DecodeError as error:
                raise ValueError(
                    f"{label}: the payload is no JSON when its places are filled ({error}). Values are inserted as "
                    "JSON, so write a text as {name} without quotes"
                ) from None

    def _check_answers(self, label: str) -> None:
        if self.response_topic is not None and self.confirm_topic is not None:
            raise ValueError(f"{label}: set response_topic or confirm_topic, not both")
        if (self.confirm_topic is None) != (not self.confirm_pattern):
            raise ValueError(f"{label}: confirm_topic and confirm_pattern belong together: set both or neither")
        if self.response_topic is not None and not {*self.response_topic.names} <= {DEVICE, ID}:
            raise ValueError(f"{label}: response_topic may contain only {{device}} and {{id}}")
        for template in (self.response_topic, self.confirm_topic):
            if template is not None and DEVICE not in template.names and any(c in self.devices for c in "*?["):
                raise ValueError(f"{label}: the topic {template.text!r} needs {{device}}: it names who answers")
        if self.confirm_pattern:
            values = {item.name: _example(item) for item in self.declaration.parameters}
            try:
                _pattern(self.confirm_pattern, {DEVICE: "a", ID: "a", **values})
            except re.error as error:
                raise ValueError(f"{label}: confirm_pattern is no regular expression: {error}") from None

    def delivery(self, name: str, command: Command) -> CommandDelivery:
        """Return the message to the device with this name in topics. Raises Undeliverable."""
        values: dict[str, ParameterValue] = {**command.parameters, DEVICE: name, ID: command.id}
        texts = {key: _text(value) for key, value in values.items()}
        try:
            topic = self.topic.fill(texts)
            response = self.response_topic.fill(texts) if self.response_topic is not None else ""
            confirm = self.confirm_topic.fill(texts) if self.confirm_topic is not None else ""
        except ValueError as error:
            raise Undeliverable("wrong_parameters", str(error)) from None
        if not self.payload:
            payload = msgspec.json.encode({key: plain_number(value) for key, value in command.parameters.items()})
        elif self._is_json:
            payload = _filled_json(self.payload, values)
        else:
            payload = _PLACE.sub(lambda found: texts.get(found[1], found[0]), self.payload).encode()
        confirmation = self._confirmation(confirm, values) if confirm else None
        correlation = command.id.encode() if response else b""
        return CommandDelivery(Publish(topic, payload, 1), confirmation, response, correlation, repeat=self.repeat)

    def _confirmation(self, topic: str, values: Mapping[str, ParameterValue]) -> Confirmation:
        pattern = _pattern(self.confirm_pattern, values)

        def outcome(message: Message, decoded: Sequence[Decoded]) -> ReportedOutcome | None:
            payload = message.payload[:MAX_COMPARED_BYTES].decode(errors="replace")
            return ReportedOutcome("succeeded", result=payload) if pattern.search(payload) else None

        return Confirmation(frozenset((topic,)), self.declaration.name, outcome)

    @property
    def _is_json(self) -> bool:
        return self.payload.lstrip().startswith(("{", "[")) and not _PLACE.match(self.payload.lstrip())


class TemplateDecoder(Decoder):
    """Commands by templates, and the answers at their response topics.

    `name_of` returns the name of a device in topics. Raises ValueError with a sentence about templates that cannot
    work.
    """

    needs_properties = True

    def __init__(
        self, templates: Sequence[CommandTemplate], name_of: Callable[[str], str] = lambda device: device
    ) -> None:
        for number, template in enumerate(templates):
            template.check()
            if any((template.devices, template.declaration.name) == (other.devices, other.declaration.name)
                   for other in templates[:number]):  # fmt: skip
                raise ValueError(f"two commands of {template.devices!r} are named {template.declaration.name!r}")
        self._templates = templates
        self._name_of = name_of
        self._responses = [t.response_topic for t in templates if t.response_topic is not None]
        self._plain = {t.response_topic: t.devices for t in templates if t.response_topic is not None}
        self.filters = list(dict.fromkeys(template.filter for template in self._responses))

    def takes(self, topic: str) -> bool:
        """Return whether the topic is a response topic."""
        return any(template.match(topic) is not None for template in self._responses)

    def commands_of(self, device: str) -> Sequence[CommandDeclaration]:
        """Return the commands of the templates that match a device, the first of each name."""
        found: dict[str, CommandDeclaration] = {}
        for template in self._templates:
            if fnmatchcase(device, template.devices):
                found.setdefault(template.declaration.name, template.declaration)
        return [*found.values()]

    def repeats(self, device: str) -> bool:
        """Return whether a template that matches the device may be executed twice."""
        return any(template.repeat and fnmatchcase(device, template.devices) for template in self._templates)

    def delivery(self, device: str, command: Command) -> CommandDelivery | None:
        """Return the message of the first template that matches the device and the command."""
        for template in self._templates:
            if template.declaration.name == command.name and fnmatchcase(device, template.devices):
                return template.delivery(self._name_of(device), command)
        return None

    def decode(self, message: Message) -> list[Decoded]:
        """Return the answer to a command; nothing for a message that names none."""
        for template in self._responses:
            names = template.match(message.topic)
            if names is None:
                continue
            id = names.get(ID) or message.correlation.decode(errors="replace")
            if _ID.fullmatch(id):
                device = names[DEVICE] if DEVICE in names else self._plain[template]
                return [CommandAnswer(legal_device(device), id, answered_outcome(message.payload))]
        return []


class ConfirmationTopics(Decoder):
    """Decoder of the messages that only confirm commands: they contain no readings of other subscriptions."""

    def __init__(self, templates: Sequence[CommandTemplate]) -> None:
        self._topics = [template.confirm_topic for template in templates if template.confirm_topic is not None]
        self.filters = list(dict.fromkeys(template.filter for template in self._topics))

    def takes(self, topic: str) -> bool:
        """Return whether the topic is one of confirmations."""
        return any(template.match(topic) is not None for template in self._topics)

    def decode(self, message: Message) -> list[Decoded]:
        """Return nothing: the confirmation of a command is compared with the message itself."""
        return []


def answered_outcome(payload: bytes) -> ReportedOutcome:
    """Return what an answer says: an object by its fields `state`, `ok`, `rejected`, `error`, `message`, `value` and
    `result`. Without an error the command has succeeded, and another payload is its result."""
    try:
        content: Any = parse_json(payload) if payload.strip() else None
    except Undecodable:
        return ReportedOutcome("succeeded", result=payload.decode(errors="replace"))
    if not isinstance(content, dict):
        return ReportedOutcome("succeeded", result=content)
    error, message = content.get("error"), content.get("message")
    code = error if isinstance(error, str) and _CODE.fullmatch(error) else "device_error" if error else ""
    text = message if isinstance(message, str) else error if isinstance(error, str) and error != code else ""
    state = content.get("state")
    is_rejected = state == "rejected" or (state not in STATES and content.get("rejected") is True)
    has_failed = state == "failed" or (state not in STATES and (bool(error) or content.get("ok") is False))
    if is_rejected or has_failed:
        return ReportedOutcome("rejected" if is_rejected else "failed", code or "device_error", text)
    known = ("state", "ok", "rejected", "error", "message", "value", "result", "id")
    rest = {name: value for name, value in content.items() if name not in known}
    result = next((content[name] for name in ("result", "value") if name in content), rest or None)
    return ReportedOutcome("received" if state == "received" else "succeeded", code, text, result)


def _check_places(where: str, names: set[str], always: set[str], parameters: set[str]) -> None:
    for name in sorted(names - always):
        if name in parameters:
            raise ValueError(
                f"{where} contains {{{name}}}, which is not always given: make it required, or give it a default"
            )
        raise ValueError(f"{where} contains {{{name}}}, which is no parameter: there are {', '.join(sorted(always))}")


def _is_given(item: CommandParameter) -> bool:
    return item.required or item.default is not None


def _example(item: CommandParameter) -> ParameterValue:
    given = [value for value in (item.default, *item.choices, item.min) if value is not None]
    return given[0] if given else EXAMPLES[item.type]


def _text(value: ParameterValue) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(plain_number(value))


def _filled_json(payload: str, values: Mapping[str, ParameterValue]) -> bytes:
    def inserted(found: re.Match[str]) -> str:
        if found[1] not in values:
            return found[0]
        return msgspec.json.encode(plain_number(values[found[1]])).decode()

    return _PLACE.sub(inserted, payload).encode()


def _without_counts(pattern: str) -> str:
    """Return a regular expression without its counts such as {3}, which are no places."""
    return re.sub(r"\{\d+\}", "", pattern)


def _pattern(pattern: str, values: Mapping[str, ParameterValue]) -> re.Pattern[str]:
    def inserted(found: re.Match[str]) -> str:
        return re.escape(_text(values[found[1]])) if found[1] in values else found[0]

    return re.compile(_PLACE.sub(inserted, pattern))
