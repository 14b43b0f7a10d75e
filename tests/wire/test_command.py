"""Declarations of commands, and the check of parameters against them."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import plain_values, strategy_of
from wire import limits
from wire.command import CommandDeclaration, CommandParameter, ParametersRefused, result_problem, unknown_command

SET_SPEED = CommandDeclaration(
    "set_speed",
    parameters=[
        CommandParameter("speed", unit="m/s", min=0, max=30),
        CommandParameter("gear", "integer", choices=[1, 2, 3], default=1),
        CommandParameter("note", "string", required=False),
        CommandParameter("soft", "boolean", required=False),
    ],
)


def test_parameters_get_their_types_and_defaults_in_the_order_of_the_declaration() -> None:
    """A whole number becomes float, a float without a fraction integer; what is optional may be missing."""
    accepted = SET_SPEED.accepted({"soft": True, "gear": 2.0, "speed": 30})
    assert [(name, value, type(value)) for name, value in accepted.items()] == [
        ("speed", 30.0, float), ("gear", 2, int), ("soft", True, bool),
    ]  # fmt: skip
    assert SET_SPEED.accepted({"speed": 0.5, "note": None}) == {"speed": 0.5, "gear": 1}


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({}, "speed: a value is missing"),
        ({"speed": 30.5}, "speed: 30.5 m/s is above 30 m/s"),
        ({"speed": -1}, "speed: -1 m/s is below 0 m/s"),
        ({"speed": True}, "speed: true is not of the type float"),
        ({"speed": "12"}, 'speed: "12" is not of the type float'),
        ({"speed": math.nan}, "speed: nan is no finite number"),
        ({"speed": 10**400}, "speed: "),
        ({"speed": 1, "gear": 4}, "gear: 4 is none of 1, 2, 3"),
        ({"speed": 1, "gear": 1.5}, "gear: 1.5 is not of the type integer"),
        ({"speed": 1, "gear": 2**63}, "gear: 9223372036854775808 has more than 64 bits"),
        ({"speed": 1, "gear": True}, "gear: true is not of the type integer"),
        ({"speed": 1, "soft": 1}, "soft: 1 is not of the type boolean"),
        ({"speed": 1, "note": "n" * 1025}, "note: the text is longer than 1,024 characters"),
        ({"speed": 1, "Speed": 2}, '"Speed" is no parameter of set_speed'),
    ],
)
def test_parameters_beyond_the_declaration_are_refused_with_the_reason(parameters: Any, problem: str) -> None:
    """The sentence names the parameter, the value and the bound."""
    with pytest.raises(ParametersRefused) as refused:
        SET_SPEED.accepted(parameters)
    assert len(refused.value.problems) == 1
    assert refused.value.problems[0].startswith(problem)


def test_every_problem_is_reported() -> None:
    """An operator corrects them all at once."""
    with pytest.raises(ParametersRefused) as refused:
        SET_SPEED.accepted({"speed": 31, "gear": 0, "wheel": 1})
    assert [problem.split()[0] for problem in refused.value.problems] == ['"wheel"', "speed:", "gear:"]


def test_parameters_have_a_bound_together() -> None:
    """Five texts of the longest kind are too many bytes, four are not."""
    texts = CommandDeclaration(
        "show", parameters=[CommandParameter(f"t{n}", "string", required=False) for n in range(5)]
    )
    assert texts.accepted({f"t{n}": "t" * 1000 for n in range(4)})
    with pytest.raises(ParametersRefused, match="more than 4,096 bytes"):
        texts.accepted({f"t{n}": "t" * 1000 for n in range(5)})


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "string", "min": 1},
        {"type": "boolean", "max": 1},
        {"min": math.inf},
        {"choices": ["a"]},
        {"choices": [1, 9], "max": 5},
        {"default": "fast"},
        {"default": 9, "max": 5},
        {"default": 3, "choices": [1, 2]},
        {"unit": "\x1b[2J"},
        {"description": "\u202e"},
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(fields: dict[str, Any]) -> None:
    """It would accept nothing, or what it says it does not."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "speed", **fields}, CommandParameter)


def test_a_command_is_one_line_for_people() -> None:
    """Parameters in brackets may be left out."""
    assert SET_SPEED.signature() == "set_speed speed=FLOAT m/s (0 to 30) [gear=1|2|3] [note=STRING] [soft=BOOLEAN]"
    assert unknown_command("stop", ["b", "a"]) == 'the device has no command "stop": it has a, b (2 commands)'


@given(strategy_of(CommandDeclaration), plain_values)
def test_accepted_parameters_are_accepted_again_as_they_are(declaration: CommandDeclaration, value: Any) -> None:
    """The agent accepts everything that the hub accepts, in either encoding."""
    given_ = {p.name: value if p.default is None else p.default for p in declaration.parameters}
    try:
        accepted = declaration.accepted(given_)
    except ParametersRefused as refused:
        assert refused.problems
        return
    assert declaration.accepted(accepted) == accepted
    assert declaration.accepted(msgspec.msgpack.decode(msgspec.msgpack.encode(accepted))) == accepted
    assert len(msgspec.json.encode(accepted)) <= limits.MAX_COMMAND_BYTES


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=3), parts, max_size=3),
    max_leaves=8,
)


@given(JSON_VALUES, st.integers(0, 2 * limits.MAX_RESULT_DEPTH))
def test_a_result_nests_to_a_bound(value: object, levels: int) -> None:
    """An accepted one is written and read as JSON without an error."""

    def depth(part: object) -> int:
        parts = part.values() if isinstance(part, dict) else part if isinstance(part, list) else None
        return 0 if parts is None else 1 + max(map(depth, parts), default=0)

    for level in range(levels):
        value = [value] if level % 2 else {"part": value}
    assert (result_problem(value) == "") == (depth(value) <= limits.MAX_RESULT_DEPTH)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("a" * (limits.MAX_COMMAND_BYTES - 1), "it has 4,097 bytes as JSON: at most 4,096 are kept"),
        ([{"speed": float("nan")}], "it has a number that JSON does not have"),
        (float("inf"), "it has a number that JSON does not have"),
        ({1, object()}, "not a JSON value"),
    ],
)
def test_a_result_that_is_not_kept(value: object, problem: str) -> None:
    assert problem in result_problem(value)
    assert result_problem("a" * (limits.MAX_COMMAND_BYTES - 2)) == ""
