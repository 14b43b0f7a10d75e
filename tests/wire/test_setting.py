"""Declarations of settings, and the check of values against them."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given

from tests.wire.strategies import plain_values, strategy_of
from wire import device, limits
from wire.command import CommandParameter, ParametersRefused, ParameterValue
from wire.setting import Settings, accepted_values, check_setting_values, is_same_value, unknown_setting

SETTINGS = [
    CommandParameter("pressure", unit="bar", min=0, max=6),
    CommandParameter("strokes", "integer"),
    CommandParameter("mode", "string", choices=["eco", "boost"]),
    CommandParameter("light", "boolean"),
]


def test_values_get_their_types() -> None:
    """A whole number becomes float, a float without a fraction integer."""
    accepted = accepted_values({"light": True, "strokes": 2.0, "pressure": 3}, SETTINGS)
    assert [(name, value, type(value)) for name, value in accepted.items()] == [
        ("light", True, bool), ("strokes", 2, int), ("pressure", 3.0, float),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"pressure": 6.5}, "pressure: 6.5 bar is above 6 bar"),
        ({"pressure": None}, "pressure: null is not of the type float"),
        ({"pressure": math.inf}, "pressure: inf is no finite number"),
        ({"mode": "off"}, 'mode: "off" is none of "eco", "boost"'),
        ({"light": 1}, "light: 1 is not of the type boolean"),
        ({"Mode": "eco"}, 'the device has no setting "Mode": it has light, mode, pressure, strokes (4 settings)'),
    ],
)
def test_values_beyond_the_declaration_are_refused_with_the_reason(values: Any, problem: str) -> None:
    """The sentence names the setting, the value and the bound."""
    with pytest.raises(ParametersRefused) as refused:
        accepted_values(values, SETTINGS)
    assert refused.value.problems == [problem]


def test_every_problem_is_reported() -> None:
    """An operator corrects them all at once."""
    with pytest.raises(ParametersRefused) as refused:
        accepted_values({"light": 0, "mode": "eco", "strokes": 0.5}, SETTINGS)
    assert [problem.split(":")[0] for problem in refused.value.problems] == ["light", "strokes"]


def test_the_sentence_about_a_device_without_settings() -> None:
    """It says so."""
    assert unknown_setting("mode", []) == 'the device has no setting "mode": it declares no setting (0 settings)'


@given(settings=strategy_of(Settings), value=plain_values)
def test_any_value_is_accepted_with_the_declared_type_or_refused(settings: Any, value: Any) -> None:
    """An accepted value is accepted again, is the same value, and fits a message."""
    for setting in settings:
        try:
            accepted = accepted_values({setting.name: value}, settings)
        except ParametersRefused as refused:
            assert len(refused.problems) == 1
            continue
        assert accepted_values(accepted, settings) == accepted
        assert is_same_value(accepted[setting.name], value)
        check_setting_values(accepted)


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [(2, 2.0, True), (1, True, False), (False, 0.0, False), ("1", 1, False), ("eco", "eco", True), (2.5, 2.4, False)],
)
def test_numbers_are_compared_by_their_value(first: Any, second: Any, is_same: bool) -> None:
    """JSON does not distinguish 2 and 2.0, but true and 1."""
    assert is_same_value(first, second) is is_same_value(second, first) is is_same


def test_the_largest_report_fits_its_frame() -> None:
    """As many settings as there may be, all with a problem of the longest message."""
    names = [f"{number:0{limits.MAX_COMMAND_NAME}}" for number in range(limits.MAX_SETTINGS)]
    problems = [device.SettingProblem(name, "c" * limits.MAX_COMMAND_CODE, "\0" * limits.MAX_MESSAGE) for name in names]
    text = "v" * (limits.MAX_SETTINGS_BYTES // limits.MAX_SETTINGS - 80)
    values: dict[str, ParameterValue] = dict.fromkeys(names, text)
    assert len(msgspec.json.encode(device.Reported(limits.MAX_SEQ, values, problems))) < limits.MAX_BATCH_BYTES
