"""Roles, rights and device patterns."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.identity import Action, Identity, Role, pattern_problem

ID_CHARACTERS = string.ascii_letters + string.digits + "_.-"
device_ids = st.text("ab.-", min_size=1, max_size=8).filter(lambda text: text not in (".", ".."))
patterns = st.text("ab.-*?", min_size=1, max_size=8)


def matches(pattern: str, text: str) -> bool:
    """Return whether a pattern matches, by the plain definition."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return matches(pattern[1:], text) or (bool(text) and matches(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and matches(pattern[1:], text[1:])


def test_the_rights_equal_the_table_in_the_documentation() -> None:
    """The table of roles in docs/security.md is compared with the code."""
    lines = (Path(__file__).parents[3] / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    header = next(row for row in rows if row[0] == "role")
    documented = {
        row[0]: {action for action, cell in zip(header[1:-1], row[1:-1], strict=True) if cell}
        for row in rows
        if row[0] in list(Role)
    }
    assert set(header[1:-1]) == set(Action)
    assert documented == {role: {action for action in Action if Identity("t", role, "d").may(action)} for role in Role}


@given(device_ids, device_ids)
def test_a_device_writes_as_itself_only(own: str, other: str) -> None:
    """A device token allows exactly the device that it names, whatever characters the name contains."""
    assert Identity("t", Role.DEVICE, own).may_write(other) == (own == other)


@given(patterns, device_ids)
def test_a_gateway_writes_as_the_devices_of_its_pattern(pattern: str, device: str) -> None:
    """`*` matches any characters, `?` matches one, all others match themselves."""
    assert Identity("t", Role.GATEWAY, pattern).may_write(device) == matches(pattern, device)


def test_a_dot_in_a_pattern_is_a_dot() -> None:
    """A pattern is not a regular expression."""
    assert not Identity("t", Role.GATEWAY, "plant.1").may_write("plant-1")


def test_a_pattern_of_many_stars_is_matched_quickly() -> None:
    """A client chooses the id, so no pattern may be slow. (With backtracking this test would not end.)"""
    assert not Identity("t", Role.GATEWAY, "*a" * 32).may_write("a" * 31 + "b" * 33)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.ADMIN])
def test_people_never_write_readings(role: Role) -> None:
    """Even an admin cannot write readings under the name of a device."""
    assert not Identity("t", role, "*").may_write("boiler")


@pytest.mark.parametrize("device", ["", "a b", "a\n", "ü", "a" * 65, "a/b", "*", ".", ".."])
def test_an_invalid_device_id_may_not_be_written(device: str) -> None:
    """Even a pattern that matches everything allows valid device ids only."""
    assert not Identity("t", Role.GATEWAY, "*").may_write(device)


@pytest.mark.parametrize(
    ("role", "pattern", "accepted"),
    [
        (Role.DEVICE, "boiler-1", True),
        (Role.DEVICE, "", False),
        (Role.DEVICE, "boiler-*", False),
        (Role.DEVICE, "a" * 64, True),
        (Role.DEVICE, "a" * 65, False),
        (Role.GATEWAY, "*", True),
        (Role.GATEWAY, "plant-?.*", True),
        (Role.GATEWAY, "", False),
        (Role.GATEWAY, "plant-[12]", False),
        (Role.GATEWAY, "a" * 65, False),
        (Role.GATEWAY, "a\n", False),
        (Role.VIEWER, "", True),
        (Role.VIEWER, "boiler-1", False),
        (Role.OPERATOR, "*", False),
        (Role.ADMIN, "", True),
    ],
)
def test_a_pattern_fits_its_role(role: Role, pattern: str, accepted: bool) -> None:
    """A device token names one device, a gateway token a pattern, other tokens nothing; the error is a sentence."""
    problem = pattern_problem(role, pattern)
    assert (problem is None) == accepted
    assert problem is None or "token" in problem


@given(st.text(ID_CHARACTERS, min_size=1, max_size=64).filter(lambda text: text not in (".", "..")))
def test_every_device_id_can_have_a_token(device: str) -> None:
    """Every device id of the protocol is valid for a token."""
    assert pattern_problem(Role.DEVICE, device) is None
    assert Identity("t", Role.DEVICE, device).may_write(device)
