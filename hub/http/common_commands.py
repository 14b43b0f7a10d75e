"""The commands that selected devices declare, and how their declarations differ. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

import msgspec

from hub.http.command_answers import described
from hub.http.command_job_answers import CommonCommand, DifferingUnit
from wire.command import CommandDeclaration

MAX_UNITS = 8
"""Differing units of a command that are returned, those of the most devices. A person reads them in a note."""


@dataclass
class _Variant:
    """A declaration, and the number of devices that declare these parameters."""

    declaration: CommandDeclaration
    devices: int = 0


class CommonDeclarations:
    """Counts the declarations of a selection by command and parameters: at most one of each device and command."""

    def __init__(self) -> None:
        self._variants: dict[str, dict[bytes, _Variant]] = {}

    def add(self, declaration: CommandDeclaration) -> None:
        """Count the declaration of one device."""
        variants = self._variants.setdefault(declaration.name, {})
        key = blake2b(msgspec.json.encode(declaration.parameters), digest_size=16).digest()
        variants.setdefault(key, _Variant(declaration)).devices += 1

    def command(self, name: str) -> CommonCommand | None:
        """Return a command as most of the devices declare it, as the first of them at a tie; None if none declares
        it."""
        variants = self._variants.get(name)
        if variants is None:
            return None
        most = max(variants.values(), key=lambda variant: variant.devices)  # the first of equal ones
        devices = sum(variant.devices for variant in variants.values())
        return CommonCommand(
            command=described(most.declaration),
            devices=devices,
            differing=devices - most.devices,
            units=_differing_units(most.declaration, list(variants.values())),
        )

    def commands(self, limit: int) -> list[CommonCommand]:
        """Return at most `limit` commands, those of the most devices first."""
        devices = {name: sum(variant.devices for variant in found.values()) for name, found in self._variants.items()}
        names = islice(sorted(devices, key=lambda name: -devices[name]), limit)
        return [found for found in map(self.command, names) if found is not None]


def _differing_units(most: CommandDeclaration, variants: list[_Variant]) -> list[DifferingUnit]:
    units = {parameter.name: parameter.unit for parameter in most.parameters}
    differing: Counter[tuple[str, str]] = Counter()
    for variant in variants:
        for parameter in variant.declaration.parameters:
            if units.get(parameter.name, parameter.unit) != parameter.unit:
                differing[parameter.name, parameter.unit] += variant.devices
    return [
        DifferingUnit(parameter=name, unit=unit, expected=units[name], devices=devices)
        for (name, unit), devices in differing.most_common(MAX_UNITS)
    ]
