"""Groups of command-line options: a command declares a group once and receives it as one value."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from typer.models import OptionInfo


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with each dataclass parameter replaced by one option for each of its fields.

    A field that is a dataclass itself is replaced in the same way. Typer reads the options from a flat signature.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        if is_dataclass(parameter.annotation):
            assert isinstance(parameter.annotation, type)
            groups[name] = parameter.annotation
        parameters += [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in _options(parameter)]

    def flat(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = _take(group, values)
        command(**values)

    flat.__name__, flat.__doc__ = command.__name__, command.__doc__
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return flat


def _options(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """Return the options of a group, or the parameter itself."""
    group = parameter.annotation
    if not is_dataclass(group):
        return [parameter]
    assert isinstance(group, type)
    # The annotations of an inherited option belong to the module of its class.
    annotations = get_type_hints(group, include_extras=True)
    return [
        option
        for field in inspect.signature(group).parameters.values()
        for option in _options(field.replace(annotation=annotations[field.name]))
    ]


def _take(group: type[Any], values: dict[str, Any]) -> Any:
    """Return a group with its options, which are removed from the values."""
    inner = get_type_hints(group)
    names = inspect.signature(group).parameters
    return group(
        **{name: _take(inner[name], values) if is_dataclass(inner[name]) else values.pop(name) for name in names}
    )


def option_words(group: Any, *, without: Collection[str] = ()) -> list[str]:
    """Return the options of a group that differ from their defaults, as on a command line."""
    annotations = get_type_hints(type(group), include_extras=True)
    words: list[str] = []
    for field in fields(group):
        value = getattr(group, field.name)
        if value is None or value == field.default or field.name in without:
            continue
        option = next(extra for extra in get_args(annotations[field.name]) if isinstance(extra, OptionInfo))
        # In an annotation the place of the default has the first name.
        names = [name for name in (option.default, *(option.param_decls or ())) if isinstance(name, str)]
        on, _, off = next(iter(names), f"--{field.name.replace('_', '-')}").partition("/")
        match value:
            case bool():
                words.append(on if value else off)
            case list():
                words += [word for element in value for word in (on, str(element))]
            case float():
                words += [on, f"{value:g}"]
            case _:
                words += [on, str(value)]
    return words
