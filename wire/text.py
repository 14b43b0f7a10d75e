"""Texts for people that the hub and its clients have in common. Pure."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters (C0, DEL, C1), line separators, and marks that change the direction of text."""


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
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def escape_log_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape the texts of a log event before it is rendered for a terminal: a processor of structlog.

    A stack has lines, and consists of source code.
    """
    for key, value in event.items():
        if isinstance(value, str) and key != "stack":
            event[key] = escaped(value)
    return event
