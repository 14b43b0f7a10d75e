"""Rules are validated, and printed as TOML that is read back."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from formats.rules import Rules, RulesError, rules_of, rules_text


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"fromat": "csv"}, "fromat"),
        ({"format": "xml"}, "xml"),
        ({"time_format": "yesterday"}, "time_format"),
        ({"decimal": ",", "thousands": ","}, "thousands"),
        ({"delimiter": '"'}, "delimiter"),
        ({"metric_column": "a"}, "value_column"),
        ({"format": "regex"}, "pattern"),
        ({"format": "regex", "pattern": "("}, "pattern"),
        ({"format": "regex", "pattern": "a"}, "named group"),
        ({"encoding": "base64"}, "encoding"),
        ({"encoding": "no-such"}, "encoding"),
        ({"device": "{model"}, "template"),
        ({"device": "{}"}, "template"),
        ({"units": {"a": "x" * 33}}, "unit"),
    ],
)
def test_rules_that_cannot_work_are_refused(fields: dict[str, Any], word: str) -> None:
    """The message names the setting."""
    with pytest.raises(RulesError, match=word):
        rules_of(fields)


def test_rules_are_printed_as_toml() -> None:
    """Defaults are left out; texts keep every character."""
    rules = rules_of(
        {
            "format": "csv",
            "delimiter": "\t",
            "header": False,
            "time": ["Datum", "Zeit \x7f"],
            "decimal": ",",
            "types": {"Küche [°C]": "float"},
            "units": {"a.b": "°C"},
            "no_value": ["weg"],
        }
    )
    assert rules_of(tomllib.loads(rules_text(rules))) == rules
    assert rules_text(Rules()) == ""


def test_a_word_for_the_form_may_stand_in_time() -> None:
    """It means the usual field in that form."""
    assert rules_of({"time": "uptime_ms"}) == rules_of({"time_format": "uptime_ms"})
    assert rules_of({"time": "stamp"}).time == ("stamp",)
