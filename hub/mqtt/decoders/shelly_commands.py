"""Commands of Shelly devices, from the components that they report. Pure.

Source: its API documentation. Gen2 and later, "RPC Channels": a request is published at <prefix>/rpc, and the answer
arrives at <src>/rpc with the id of the request. Gen1, "MQTT Support": a relay is switched at
shellies/<device>/relay/<number>/command and reports its state one level above.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from hub.mqtt.decoders.command import declared_command, is_set, parameter, plain_number
from hub.mqtt.decoders.fields import object_at, parse_json
from hub.mqtt.message import (
    CommandDelivery,
    Confirmation,
    Decoded,
    Message,
    Publish,
    ReportedOutcome,
    Undecodable,
)
from wire.command import CommandDeclaration, ParameterValue
from wire.device import Command

REJECTED = frozenset((-32700, -32601, -32602, -103, -105, 401, 404))
"""Error codes of a request that the device did not execute ("Common errors"): unreadable, no such method, wrong
arguments, no such component, or a password."""

PASSWORD = 401

COMPONENTS_KEPT = 1_024
"""Names of components whose commands are remembered: every message repeats them."""

_COMPONENT = re.compile(r"(?P<kind>[a-z]+)[:.](?P<number>\d{1,4})")

LIGHTS = {"light": "Light", "rgb": "RGB", "rgbw": "RGBW", "cct": "CCT"}
"""Components with the method Set and a brightness."""

VIRTUAL = {"number": "float", "text": "string", "enum": "string", "boolean": "boolean"}
"""Virtual components with the method Set and a value of this type."""


class ShellyCommand(NamedTuple):
    """A command of a component. `method` is that of the request (Gen2 and later), or "" for Gen1, where the value is
    published at `topic` below the device and confirmed at `state`."""

    declaration: CommandDeclaration
    number: int = 0
    method: str = ""
    topic: str = ""
    state: str = ""

    def delivery(self, prefix: str, source: str, command: Command) -> CommandDelivery:
        """Return the message to the device with this topic prefix; it answers to `source`."""
        if not self.method:
            return self._plain_delivery(prefix, command)
        values = {name: plain_number(value) for name, value in command.parameters.items()}
        request = {"id": command.id, "src": source, "method": self.method, "params": {"id": self.number, **values}}
        return CommandDelivery(Publish(f"{prefix}/rpc", msgspec.json.encode(request), 1))

    def _plain_delivery(self, prefix: str, command: Command) -> CommandDelivery:
        (wanted,) = command.parameters.values()
        text = _text(wanted)

        def outcome(message: Message, decoded: Sequence[Decoded]) -> ReportedOutcome | None:
            state = message.payload.decode(errors="replace").strip()
            shown = state == text if isinstance(wanted, bool) else is_set(wanted, state)
            return ReportedOutcome("succeeded", result=state) if shown else None

        confirmation = Confirmation(frozenset((f"{prefix}/{self.state}",)), self.state, outcome)
        return CommandDelivery(Publish(f"{prefix}/{self.topic}", text.encode(), 1), confirmation)


def component_commands(components: Iterable[str]) -> list[ShellyCommand]:
    """Return the commands of components such as "switch:0" (Gen2 and later)."""
    return [command for component in components for command in _commands_of(component)]


@lru_cache(COMPONENTS_KEPT)
def _commands_of(component: str) -> Sequence[ShellyCommand]:
    matched = _COMPONENT.fullmatch(component)
    if matched is None:
        return ()
    kind, number = matched["kind"], int(matched["number"])
    found = []
    for verb, method, parameters in _methods(kind):
        declaration = declared_command(f"{verb}_{kind}_{number}", "", parameters)
        if declaration is not None:
            found.append(ShellyCommand(declaration, number, method))
    return found


def gen1_commands(levels: Sequence[str]) -> list[ShellyCommand]:
    """Return the commands of what a Gen1 device reports at these levels of a topic: a relay, or a roller's position."""
    match levels:
        case ["relay", number] if number.isdecimal():
            declaration = declared_command(f"set_relay_{number}", "", [parameter("on", "boolean")])
            topic, state = f"relay/{number}/command", f"relay/{number}"
        case ["roller", number, "pos"] if number.isdecimal():
            position = parameter("pos", "float", min=0, max=100, unit="%")
            declaration = declared_command(f"set_roller_{number}", "", [position])
            topic, state = f"roller/{number}/command/pos", f"roller/{number}/pos"
        case _:
            return []
    return [] if declaration is None else [ShellyCommand(declaration, topic=topic, state=state)]


def answer_of(payload: bytes) -> tuple[str, ReportedOutcome] | None:
    """Return the id of a request and its outcome, None for a message that is no answer to a command."""
    try:
        answer: Any = parse_json(payload)
    except Undecodable:
        return None
    if not isinstance(answer, dict) or not isinstance(id := answer.get("id"), str):
        return None
    error = object_at(answer, "error")
    if error is None:
        return (id, ReportedOutcome("succeeded", result=answer["result"])) if "result" in answer else None
    code = error.get("code")
    message = str(error.get("message") or f"error {code}")
    if code == PASSWORD:
        message = "the device has a password: the hub cannot command it through the broker"
    return id, ReportedOutcome("rejected" if code in REJECTED else "failed", "device_error", message)


def _methods(kind: str) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Return the commands of a kind of component: the verb of the name, the method and the parameters."""
    if kind == "switch":
        return [("set", "Switch.Set", [parameter("on", "boolean")])]
    if kind in LIGHTS:
        parameters = [
            parameter("on", "boolean", required=False),
            parameter("brightness", "float", min=0, max=100, unit="%", required=False),
        ]
        return [("set", f"{LIGHTS[kind]}.Set", parameters)]
    if kind == "cover":
        position = parameter("pos", "float", min=0, max=100, unit="%")
        verbs: list[tuple[str, str, list[dict[str, Any]]]] = [("set", "Cover.GoToPosition", [position])]
        return [*verbs, ("open", "Cover.Open", []), ("close", "Cover.Close", []), ("stop", "Cover.Stop", [])]
    if kind in VIRTUAL:
        return [("set", f"{kind.capitalize()}.Set", [parameter("value", VIRTUAL[kind])])]
    return []


def _text(value: ParameterValue) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(plain_number(value))
