"""Declarations of a selection are counted by command and parameters."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hub.http.common_commands import MAX_UNITS, CommonDeclarations
from wire.command import CommandDeclaration, CommandParameter

UNITS = st.sampled_from(["", "m/s", "km/h", "mph"])


@given(st.lists(UNITS, min_size=1))
def test_the_declaration_of_the_most_devices_is_returned(units: list[str]) -> None:
    """The first of equally frequent ones. Each other unit is reported with the number of its devices."""
    declarations = CommonDeclarations()
    for unit in units:
        declarations.add(CommandDeclaration("set_speed", parameters=[CommandParameter("speed", unit=unit)]))
    counts = Counter(units)
    most, devices = counts.most_common(1)[0]
    found = declarations.command("set_speed")
    assert found is not None
    assert [parameter.unit for parameter in found.command.parameters] == [most]
    assert (found.devices, found.differing) == (len(units), len(units) - devices)
    assert {row.unit: row.devices for row in found.units} == {u: n for u, n in counts.items() if u != most}
    assert all((row.parameter, row.expected) == ("speed", most) for row in found.units)
    assert declarations.command("stop") is None


def test_other_parameters_are_no_other_units() -> None:
    """A parameter that most devices do not have is not reported, and at most 8 units are."""
    declarations = CommonDeclarations()
    for parameters in ([CommandParameter("speed", unit="m/s")],) * 2 + ([CommandParameter("level", unit="%")],):
        declarations.add(CommandDeclaration("set", parameters=parameters))
    found = declarations.command("set")
    assert found is not None
    assert (found.differing, found.units) == (1, [])
    for number in range(MAX_UNITS + 1):
        declarations.add(CommandDeclaration("set", parameters=[CommandParameter("speed", unit=f"u{number}")]))
    found = declarations.command("set")
    assert found is not None
    assert len(found.units) == MAX_UNITS


def test_commands_of_the_most_devices_come_first() -> None:
    """At most `limit`; equally frequent ones in the order of their first declaration."""
    declarations = CommonDeclarations()
    for name in ("rare", "stop", "go", "go", "stop"):
        declarations.add(CommandDeclaration(name))
    assert [found.command.name for found in declarations.commands(2)] == ["stop", "go"]
