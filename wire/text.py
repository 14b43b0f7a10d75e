"""Texts for people that the hub and its clients have in common. Pure."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters (C0, DEL, C1), line separators, and marks that change the direction of text."""


MAX_LOG_TEXT = 1_000
"""Characters of one text in a log line. The longest sentence of the program itself has 500."""

MAX_LOG_ITEMS = 50
"""Items of one list in a log line."""

MAX_LOG_TRACE = 10_000
"""Characters of a traceback in a log line, those at its end: about 100 calls. Its error may repeat a text from outside.
"""

_TRACES = frozenset({"stack", "exception"})


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: `1 batch`, `2,000 batches`. Without `many`, the plural has an s."""
    return f"{count:,} {one if abs(count) == 1 else many or f'{one}s'}"


def batches(first: int, last: int) -> str:
    """Return the name of a range of batches: `batch 7`, `batches 7 to 9`."""
    return f"batch {first}" if first == last else f"batches {first} to {last}"


def has_control(text: str) -> bool:
    """Return whether a text has characters that control a terminal, break the line or reorder the text around it."""
    return _CONTROL.search(text) is not None


def escaped(text: str) -> str:
    r"""Return the text with each invisible character as an escape such as `\x1b`; it cannot control a terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def escape_log_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape and cut the texts of a log event before it is rendered: a processor of structlog.

    Some of them are from outside. The lines of a stack or a traceback stay lines, and its end is kept, which has the
    error.
    """
    for key, value in event.items():
        if key in _TRACES and isinstance(value, str):
            cut = f"…{value[-MAX_LOG_TRACE:]}" if len(value) > MAX_LOG_TRACE else value
            event[key] = "\n".join(map(escaped, cut.split("\n")))
        else:
            event[key] = _for_log(value)
    return event


def _for_log(value: Any) -> Any:
    """Return a value of a log event with each of its texts escaped and cut."""
    match value:
        case str():
            return escaped(value if len(value) <= MAX_LOG_TEXT else f"{value[:MAX_LOG_TEXT]}…")
        case list() | tuple():
            return [*map(_for_log, value[:MAX_LOG_ITEMS])]
        case dict():
            return {_for_log(key): _for_log(item) for key, item in [*value.items()][:MAX_LOG_ITEMS]}
    return value
