"""The settings of an import as rules, and the identity of an import.

A mapping file is TOML with the settings of `formats.rules`:

    format = "csv"
    time = ["Datum", "Uhrzeit"]
    time_format = "%d.%m.%Y %H:%M"
    zone = "Europe/Berlin"
    device = "boiler-1"

    [columns]
    "Temperatur [°C]" = "temperature"

    [units]
    temperature = "°C"
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from formats.rules import Rules, RulesError, rules_of
from formats.times import UPTIME_NS
from importer.records import MappingError
from wire.model import device_id_problem

LAYOUT = "telemetry-import-2"
"""Part of the epoch. Change it whenever the same file and settings would be cut into other batches."""


def import_rules(fields: Mapping[str, Any]) -> Rules:
    """Return the rules with these fields. Raises MappingError.

    Fields of earlier mapping files are accepted: `precision` is `time_format`, and `device_tag` and `device_column`
    are a template of `device`.
    """
    given = {name: value for name, value in fields.items() if name not in ("precision", "device_tag", "device_column")}
    if precision := fields.get("precision"):
        given.setdefault("time_format", precision)
    if given.get("time_format") == "iso":
        given["time_format"] = "iso8601"
    source = fields.get("device_tag") or fields.get("device_column")
    if source and not given.get("device"):
        given["device"] = f"{{{source}}}"
    try:
        rules = rules_of(given)
    except RulesError as error:
        raise MappingError(str(error)) from None
    if rules.device and "{" not in rules.device and (problem := device_id_problem(rules.device)) is not None:
        raise MappingError(problem)
    if rules.format == "function":
        raise MappingError('an import has no format "function": convert the file first')
    if rules.time_format in UPTIME_NS:
        raise MappingError(f"{rules.time_format} is a time since the start of a device, which a file does not show")
    return rules


def epoch_of(digest: bytes, rules: Rules, facts: object) -> str:
    """Return the epoch of an import. Equal content with equal rules and equal facts about its batches has the same
    epoch, so it is stored once."""
    meaning = json.dumps([msgspec.to_builtins(rules), facts], sort_keys=True).encode()
    return hashlib.sha256(b"\0".join((LAYOUT.encode(), digest, meaning))).hexdigest()[:16]
