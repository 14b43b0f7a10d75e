"""Commands of Tasmota devices, from the fields of their messages. Pure.

Source: its documentation, "Commands" and "MQTT": a command is published at cmnd/<topic>/<command>, and its result at
stat/<topic>/RESULT as an object with the new value, or {"Command": "Unknown"} or {"Command": "Error"}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hub.mqtt.decoders.command import declared_command, is_set, parameter, plain_number
from hub.mqtt.decoders.fields import parse_object
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

COMMANDS = "cmnd"
"""Topic prefix of commands."""

VALUES: dict[str, dict[str, Any]] = {
    "Dimmer": {"type": "float", "min": 0, "max": 100, "unit": "%"},
    "White": {"type": "float", "min": 0, "max": 100, "unit": "%"},
    "CT": {"type": "float", "min": 153, "max": 500, "description": "Color temperature in mired."},
    "Speed": {"type": "float", "min": 1, "max": 40},
    "Fade": {"type": "boolean"},
    "Color": {"type": "string", "description": "Channels in hexadecimal, such as FF8000."},
    "HSBColor": {"type": "string", "description": "Hue, saturation and brightness, such as 30,100,50."},
}
"""Fields that are commands, too, and the values that they take ("Commands", section "Light")."""

_RELAY = re.compile(r"POWER\d*")
_DIMMER = re.compile(r"Dimmer\d")
_SHUTTER = re.compile(r"Shutter(?P<number>\d+)")


class TasmotaCommand(NamedTuple):
    """A command that sets one value. `key` is the field of its result, `word` the last level of its topic."""

    declaration: CommandDeclaration
    key: str
    word: str

    def delivery(self, command_topic: str, result_topic: str, command: Command) -> CommandDelivery:
        """Return the message; the topics are those of the device, the first without the command."""
        (wanted,) = command.parameters.values()
        text = ("ON" if wanted else "OFF") if isinstance(wanted, bool) else str(plain_number(wanted))

        def outcome(message: Message, decoded: Sequence[Decoded]) -> ReportedOutcome | None:
            try:
                result = parse_object(message.payload)
            except Undecodable:
                return None
            return self._refusal(result) or self._result(result, wanted)

        publish = Publish(f"{command_topic}/{self.word}", text.encode(), 1)
        return CommandDelivery(publish, Confirmation(frozenset((result_topic,)), self.key, outcome))

    def _result(self, result: dict[str, Any], wanted: ParameterValue) -> ReportedOutcome | None:
        value = result.get(self.key)
        if self.word.startswith("ShutterPosition"):
            state = value if isinstance(value, dict) else {}
            if is_set(wanted, state.get("Position")):
                return ReportedOutcome("succeeded", result=state)
            return ReportedOutcome("received") if is_set(wanted, state.get("Target")) else None
        if isinstance(wanted, bool):
            is_reached = value in (("ON", 1) if wanted else ("OFF", 0)) and not isinstance(value, bool)
        elif isinstance(wanted, str):
            is_reached = isinstance(value, str) and value.lower() == wanted.lstrip("#").lower()
        else:
            is_reached = is_set(wanted, value)
        return ReportedOutcome("succeeded", result={self.key: value}) if is_reached else None

    def _refusal(self, result: dict[str, Any]) -> ReportedOutcome | None:
        match result.get("Command"):
            case "Unknown":
                return ReportedOutcome("rejected", "unknown_command", f"the device has no command {self.word}")
            case "Error":
                return ReportedOutcome("rejected", "wrong_parameters", f"the device refuses the value of {self.word}")
        return None


def tasmota_commands(fields: Iterable[str]) -> list[TasmotaCommand]:
    """Return the commands that a device has because its messages contain these fields."""
    found = []
    for field in fields:
        shutter = _SHUTTER.fullmatch(field)
        if shutter is not None:
            position = parameter("position", "float", min=0, max=100, unit="%")
            made = declared_command(f"set_{field}", "", [position])
            word = f"ShutterPosition{shutter['number']}"
        else:
            details = {"type": "boolean"} if _RELAY.fullmatch(field) else VALUES.get(field)
            details = VALUES["Dimmer"] if details is None and _DIMMER.fullmatch(field) else details
            made = None if details is None else declared_command(f"set_{field}", "", [parameter(field, **details)])
            word = field
        if made is not None:
            found.append(TasmotaCommand(made, field, word))
    return found
