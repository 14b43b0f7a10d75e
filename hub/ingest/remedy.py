"""Remedies for refused values, in the words of the door through which a client sends. Pure.

`formats` names settings as a settings file has them. A client of these doors has no such file: it has the URL of its
requests, or the hub has a section of settings for all clients. A type that the hub has already is changed by a command.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from typing import Any

from formats.record import RefusedInput
from formats.rules import toml_key, toml_value
from wire.model import MetricType

SECTIONS = {"influxdb": "influx_write"}
"""Section of the hub's settings with the rules of an input. The rules of the others are parameters of their URL."""

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""Bytes that a query has as they are (RFC 3986, section 2.3)."""

_TEXT = r'"(?:[^"\\]|\\.)*"'
_PART = re.compile(
    rf"(?P<setting>\b[a-z_]+(?:\.(?:{_TEXT}|[\w-]+))? = (?:\[{_TEXT}\]|{_TEXT}|\w+))|(?P<command>run (?:`[^`]*`|.+))"
)
"""A setting with its value, or a command, among the words of a `RefusedInput.setting`."""


_RETYPING = re.compile(r"run `hub metric retype .* string`")


def remedy(refusal: RefusedInput, input: str, known: MetricType | None) -> str:
    """Return what makes the value acceptable, as a part of a sentence; "" if nothing does.

    `known` is the type of the metric if the hub has it, or has it with the other values of the frame.
    """
    found = [*_PART.finditer(refusal.setting)]
    if not found:
        # The name of a setting, without a value that would be right.
        name = refusal.setting
        return _settings_text(input, [f"{name}=…" if input not in SECTIONS else name]) if name else ""
    settings: list[str] = []
    commands: list[str] = []
    for part in found:
        if part["command"]:
            is_to_text = _RETYPING.fullmatch(part["command"]) is not None
            commands.append(_retyping(refusal, input, "string") if is_to_text else part["command"])
            continue
        name, value = next(iter(tomllib.loads(part["setting"]).items()))
        if name == "types" and known not in (None, "string"):
            commands += [_retyping(refusal, input, type) for type in value.values()]
        else:
            settings.append(_setting(input, name, value))
    texts = [_settings_text(input, settings)] if settings else []
    return ", or ".join((*texts, *commands))


def _settings_text(input: str, settings: list[str]) -> str:
    alternatives = " or ".join(settings)
    if section := SECTIONS.get(input):
        return f"set {alternatives} in [{section}] of the hub's settings"
    return f"add {alternatives} to the URL"


def _retyping(refusal: RefusedInput, input: str, type: str) -> str:
    """Return the change of a type. Numbers and booleans of a metric that is a text then must be declared as texts."""
    device, metric = shlex.quote(refusal.device or "DEVICE"), shlex.quote(refusal.metric)
    command = f"run `hub metric retype {device} {metric} {type}`"
    if type != "string":
        return command
    return f"{command} and {_settings_text(input, [_setting(input, 'types', {refusal.metric: type})])}"


def _setting(input: str, name: str, value: Any) -> str:
    """Return a setting in the form of the door."""
    if input not in SECTIONS:
        return _parameter(name, value)
    if isinstance(value, Mapping):
        return " and ".join(f"{name}.{toml_key(key)} = {toml_value(text)}" for key, text in value.items())
    return f"{name} = {toml_value(value)}"


def _parameter(name: str, value: Any) -> str:
    """Return a setting as a parameter of a URL."""
    # `payload` is what a broker's subscription calls the format.
    name = "format" if name == "payload" else name
    if isinstance(value, Mapping):
        return "&".join(f"{name}={_quoted(f'{key}={text}')}" for key, text in value.items())
    values = value if isinstance(value, list) else [value]
    texts = [str(each).lower() if isinstance(each, bool) else str(each) for each in values]
    return "&".join(f"{name}={_quoted(text)}" for text in texts)


def _quoted(text: str) -> str:
    """Return a text in the percent-encoding of a query."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode("utf-8", "replace"))
