"""Words NAME=VALUE of a command line, as values of the types that a device declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hub.cli.command import MISUSE, fail


def typed_values(command: str, words: Sequence[str], types: Mapping[str, str]) -> dict[str, object]:
    """Return the values by the types that the device declares. The hub checks everything else.

    Ends the command with 2 for a word without =, and for a name that is given twice.
    """
    values: dict[str, object] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name in values:
            problem = f"{name} is given twice" if equals else f"{word} is no value: write NAME=VALUE"
            fail(command, problem, MISUSE)
        values[name] = _read(text, types.get(name, "string"))
    return values


def _read(text: str, type: str) -> object:
    """Return the value that a text means for a declaration of this type, or the text, which the hub then refuses."""
    if type == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return text if type == "string" else int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text
