"""Settings of a device: what an agent declares, and the check of values against it. Pure; both ends use it.

A setting is declared like a parameter of a command. Its desired value converges: the hub sends the whole document of
desired values, and the agent reports the values that are in force.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from msgspec import Meta

from wire import limits
from wire.command import (
    CommandName,
    CommandParameter,
    ParametersRefused,
    ParameterValue,
    converted,
    json_size,
    shown,
)
from wire.text import plural

Settings = Annotated[list[CommandParameter], Meta(max_length=limits.MAX_SETTINGS)]
SettingValues = Annotated[dict[CommandName, ParameterValue], Meta(max_length=limits.MAX_SETTINGS)]
"""Values of settings by their names, at most MAX_SETTINGS_BYTES as JSON."""
SettingsVersion = Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)]
"""Version of the document of desired values: it grows with each change."""


def check_settings(settings: Sequence[CommandParameter]) -> None:
    """Check declared settings together. Raises ValueError for a second one of a name, and for one with a default."""
    if len({setting.name for setting in settings}) < len(settings):
        raise ValueError("two settings have the same name")
    for setting in settings:
        if not setting.required or setting.default is not None:
            raise ValueError(f"the setting {setting.name} has `required` or `default`, which only parameters have")


def check_setting_values(values: Mapping[str, ParameterValue]) -> None:
    """Check the values of a message. Raises ValueError if they are too large, or one is no finite number."""
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"the value of the setting {name} is no finite number")
    if json_size(values) > limits.MAX_SETTINGS_BYTES:
        raise ValueError(f"the values of settings have more than {limits.MAX_SETTINGS_BYTES:,} bytes")


def accepted_values(values: Mapping[str, object], settings: Iterable[CommandParameter]) -> dict[str, ParameterValue]:
    """Return these values, each converted to the type of its declaration. Raises ParametersRefused with every problem.

    A whole number for a float setting becomes float, and a float without a fraction for an integer one integer.
    """
    declared = {setting.name: setting for setting in settings}
    accepted: dict[str, ParameterValue] = {}
    problems: list[str] = []
    for name, value in values.items():
        setting = declared.get(name)
        problem = unknown_setting(name, [*declared]) if setting is None else setting.problem(value)
        if setting is None or problem is not None:
            problems.append(str(problem))
        else:
            accepted[name] = converted(value, setting.type)
    if problems:
        raise ParametersRefused(problems)
    return accepted


def is_same_value(first: ParameterValue, second: ParameterValue) -> bool:
    """Return whether two values of a setting are equal: 2 and 2.0 are, 1 and true are not."""
    return first == second and isinstance(first, bool) == isinstance(second, bool)


def unknown_setting(name: str, existing: Sequence[str]) -> str:
    """Return the sentence about a setting that the device does not have, with those that it has."""
    has = f"it has {', '.join(sorted(existing))}" if existing else "it declares no setting"
    return f"the device has no setting {shown(name)}: {has} ({plural(len(existing), 'setting')})"
