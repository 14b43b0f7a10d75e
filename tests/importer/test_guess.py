"""Rules for line protocol follow from the beginning of the file."""

from __future__ import annotations

from typing import Any

import pytest

from formats.rules import Rules
from importer.guess import guessed
from importer.mapping import import_rules
from importer.records import MappingError


def rules_of(content: str, **given: Any) -> Rules:
    """Return the rules for a file with this content."""
    return guessed(import_rules(given), content.encode())


def test_tags_that_distinguish_series_are_part_of_the_name() -> None:
    """A tag that never differs is not, nor is the one that names the device."""
    lines = [
        f"disk,host=a,os=x,path={path} used={number} 170000000{number}\n" for number, path in enumerate(("/", "/home"))
    ]
    rules = rules_of("# a comment\n" + "".join(lines))
    assert (rules.metric, rules.time_format, rules.measurements) == ("{path}.{field}", "s", ("disk",))
    assert rules_of("".join(lines), device="{path}").metric == "{field}"


def test_several_measurements_are_part_of_the_name() -> None:
    """No line is left out then. A field that is called value says nothing, so its measurement is a part, too."""
    rules = rules_of("cpu,device=a value=1 1\nmem,device=a value=2 1\n")
    assert (rules.metric, rules.measurements) == ("{measurement}.{field}", ())
    assert rules_of("level,device=a value=1 1\n").metric == "{measurement}.{field}"


def test_a_host_with_several_disks_is_one_device() -> None:
    """Its disks are different metrics, also where other lines of the file have no disk."""
    disks = "disk,device=sda1,host=a,path=/ used=1 1\ndisk,device=sda2,host=a,path=/ used=2 1\n"
    assert rules_of(disks).metric == "{device}.{field}"
    assert rules_of(f"{disks}mem,host=a used=1 1\n").metric == ""


def test_a_tag_whose_name_is_no_place_leaves_the_usual_names() -> None:
    """A template cannot contain it."""
    assert rules_of("m,device=a,x|y=1 v=1 1\nm,device=a,x|y=2 v=1 1\n").metric == ""


@pytest.mark.parametrize(
    ("digits", "unit"),
    [("1700000000", "s"), ("1700000000000", "ms"), ("1700000000000000", "us"), ("1700000000000000000", "ns")],
)
def test_the_unit_of_times_follows_from_their_digits(digits: str, unit: str) -> None:
    """The longest time decides."""
    assert rules_of(f"m,device=a x=1 {digits}\nm,device=a x=2 7\n").time_format == unit


def test_given_settings_stay() -> None:
    """Also in a file of another format, for which nothing is decided here."""
    rules = rules_of("m,device=a x=1 1700000000\n", metric="{measurement}:{field}", precision="ms")
    assert (rules.metric, rules.time_format, rules.measurements) == ("{measurement}:{field}", "ms", ())
    assert rules_of("time,x\n1700000000,1\n") == Rules()
    assert rules_of("m x=1 1\n", format="csv") == Rules(format="csv")


def test_a_template_without_the_field_is_refused() -> None:
    """All fields of a line would be one metric."""
    with pytest.raises(MappingError, match="field"):
        rules_of("m,device=a x=1 5\n", metric="{measurement}")
