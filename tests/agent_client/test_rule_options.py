"""Options for the rules of foreign data, and the files that they name."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from agent_client.option_group import with_option_groups
from agent_client.rule_files import zone_of
from agent_client.rule_options import InputOptions, RuleOptions, options_text
from formats.rules import Rules, RulesError, rules_of

BY_FILE = {"modbus"}
"""Rules that are tables: the file of --rules sets them."""


def test_each_rule_has_an_option() -> None:
    """The names are those of the rules, in the singular for an option that can be repeated."""
    options = {field.name for field in fields(InputOptions)}
    rules = {field.name for field in msgspec.structs.fields(Rules)} - BY_FILE
    singular = {"types": "type", "units": "unit", "columns": "column", "measurements": "measurement"}
    assert {singular.get(name, name) for name in rules} == options - {"rules", "function"}


def test_options_win_over_the_file(tmp_path: Path) -> None:
    """A rule that neither sets has its default, and one that the command fixes wins over both."""
    (tmp_path / "rules.toml").write_text('zone = "Europe/Berlin"\ndecimal = ","\n[types]\na = "string"\n')
    options = RuleOptions(rules=tmp_path / "rules.toml", decimal=".", type=["b=integer"], column=["x", "y=z"])
    rules = options.to_rules(device="kiln")
    assert (rules.zone, rules.decimal, rules.device) == ("Europe/Berlin", ".", "kiln")
    assert (rules.types, rules.columns) == ({"a": "string", "b": "integer"}, {"x": "x", "y": "z"})


RULES = st.fixed_dictionaries(
    {},
    optional={
        "format": st.sampled_from(["json", "csv", "pairs"]),
        "delimiter": st.sampled_from([";", "\t", " "]),
        "header": st.booleans(),
        "metric": st.just("{field} x"),
        "columns": st.dictionaries(st.sampled_from("ab"), st.sampled_from(["x", "y z"])),
        "time": st.lists(st.sampled_from(["date", "time of day"]), min_size=1, max_size=2),
        "zone": st.just("Europe/Berlin"),
        "decimal": st.just(","),
        "no_value": st.lists(st.sampled_from(["-1", "n o"])),
        "types": st.dictionaries(st.sampled_from(["a", "b=c", "-d"]), st.sampled_from(["float", "string"])),
        "units": st.dictionaries(st.sampled_from("ab"), st.just("m/s")),
    },
)


@given(RULES)
@settings(max_examples=30)
def test_the_options_of_rules_give_the_rules_again(fields: dict[str, object]) -> None:
    """Whatever a shell and the parser of options do with their text."""
    rules = rules_of({**fields, "device": "kiln"})
    found: list[Rules] = []
    app = typer.Typer()

    @app.command()
    @with_option_groups
    def read(options: InputOptions) -> None:
        found.append(options.to_rules())

    result = CliRunner().invoke(app, shlex.split(options_text(rules)))
    assert (result.exit_code, found) == (0, [rules]), result.output


def test_an_option_can_imply_the_format(tmp_path: Path) -> None:
    """A pattern is for the format regex, a function for the format function."""
    (tmp_path / "decode.py").write_text("def decode(frame):\n    return {'n': len(frame)}\n")
    options = RuleOptions(function=tmp_path / "decode.py")
    function = options.load_function()
    assert (options.to_rules().format, function and function(b"ab")) == ("function", {"n": 2})
    assert RuleOptions(pattern="(?P<t>[0-9]+)").to_rules().format == "regex"
    assert RuleOptions(delimiter="tab").to_rules().delimiter == "\t"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (RuleOptions(zone="Nowhere/City"), "the time zone 'Nowhere/City' is unknown"),
        (RuleOptions(type=["temp"]), "--type 'temp': write NAME=VALUE"),
        (RuleOptions(format="function"), "needs --function FILE"),
        (RuleOptions(rules=Path("none.toml")), "none.toml cannot be read"),
    ],
)
def test_a_wrong_option_is_named(options: RuleOptions, sentence: str) -> None:
    """The sentence says what to write."""
    with pytest.raises(RulesError, match=sentence):
        options.to_rules()


def test_a_file_without_the_function_is_named(tmp_path: Path) -> None:
    """A file that cannot be loaded is, too."""
    for text, sentence in (("x = 1\n", "does not define decode"), ("x = \n", "cannot be loaded: SyntaxError")):
        (tmp_path / "decode.py").write_text(text)
        with pytest.raises(RulesError, match=sentence):
            RuleOptions(function=tmp_path / "decode.py").load_function()


def test_no_zone_is_utc() -> None:
    """A zone has a name of the tz database."""
    assert (str(zone_of("")), str(zone_of("Europe/Berlin"))) == ("UTC", "Europe/Berlin")
