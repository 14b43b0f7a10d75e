"""Groups of command-line options: a command declares a group once and receives it as one value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, get_type_hints


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with each dataclass parameter replaced by one option for each of its fields.

    Typer reads the options from a flat signature.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type[Any], list[str]]] = {}
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        group, options = parameter.annotation, [parameter]
        if is_dataclass(group):
            assert isinstance(group, type)
            # The annotations of an inherited option belong to the module of its class.
            annotations = get_type_hints(group, include_extras=True)
            options = [
                option.replace(annotation=annotations[option.name])
                for option in inspect.signature(group).parameters.values()
            ]
            groups[name] = group, [option.name for option in options]
        parameters += [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]

    def flat(**values: Any) -> None:
        for name, (group, options) in groups.items():
            values[name] = group(**{option: values.pop(option) for option in options})
        command(**values)

    flat.__name__, flat.__doc__ = command.__name__, command.__doc__
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return flat
