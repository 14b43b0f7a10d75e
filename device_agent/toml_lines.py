"""Lines and names of the keys in a TOML document, for error messages. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

KeyPath = tuple[str | int, ...]
"""Names of tables and keys from the outermost one, with the index of an element of an array, counted from 0."""

NAMING_KEYS = ("name", "port", "address", "url", "file", "command")
"""Keys by whose value people recognise a table, the best one first."""


MAX_SHOWN = 80
"""Characters of a word that describes a table: as many as the longest permanent names of serial ports have."""


class _Statement(NamedTuple):
    line: int
    text: str
    content: dict[str, Any]


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, counted from 1, of each table and key of a valid document.

    The keys of an inline table have the line where its statement begins; elements of a list have none.
    """
    lines: dict[KeyPath, int] = {}
    arrays: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for statement in _statements(text):
        if statement.text.startswith("["):
            is_array = statement.text.startswith("[[")
            table = _table_path(statement.content, arrays, is_array=is_array)
            lines.setdefault(table, statement.line)
        else:
            for path in _paths(statement.content):
                lines.setdefault(table + path, statement.line)
    return lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """Return the line of a key, or of the closest table around it; None for a key that the document lacks."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def key_text(path: KeyPath) -> str:
    """Return a path for programs: `source[0].baud`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def place_text(path: KeyPath, document: Mapping[str, Any]) -> str:
    """Return a path for people: `source 1 (serial /dev/ttyUSB0): baud`. Elements of an array are counted from 1."""
    places: list[str] = []
    names: list[str] = []
    value: Any = document
    for part in path:
        value = _element(value, part)
        if isinstance(part, int):
            places.append(f"{'.'.join(names)} {part + 1}{_description(value)}")
            names = []
        else:
            names.append(part)
    return ": ".join([*places, *([".".join(names)] if names else [])])


def _element(value: Any, part: str | int) -> Any:
    """Return the element of a table or array; None for one that is missing."""
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def _description(table: Any) -> str:
    """Return the kind and the name of a table in brackets; nothing without both."""
    if not isinstance(table, dict):
        return ""
    name = next((table[key] for key in NAMING_KEYS if key in table), "")
    name = name[0] if isinstance(name, list) and name else name
    words = [str(word)[:MAX_SHOWN] for word in (table.get("kind", ""), name) if word not in ("", [])]
    return f" ({' '.join(words)})" if words else ""


def _statements(text: str) -> Iterator[_Statement]:
    """Yield the headers and the assignments. One ends where its lines are TOML by themselves."""
    collected, start = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        if not collected:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
        collected += f"{line}\n"
        try:
            content = tomllib.loads(collected)
        except tomllib.TOMLDecodeError:
            continue
        yield _Statement(start, collected.lstrip(), content)
        collected = ""


def _table_path(content: dict[str, Any], arrays: dict[KeyPath, int], *, is_array: bool) -> KeyPath:
    """Return the path of a header. A table inside an array of tables belongs to its last element."""
    path: KeyPath = ()
    value: Any = content
    while value:
        if isinstance(value, list):
            value = value[0]
            continue
        ((name, value),) = value.items()
        path = (*path, name)
        is_last = not value or value == [{}]
        if is_last and is_array:
            arrays[path] = arrays.get(path, -1) + 1
            return (*path, arrays[path])
        if path in arrays:
            path = (*path, arrays[path])
    return path


def _paths(content: dict[str, Any]) -> Iterator[KeyPath]:
    for name, value in content.items():
        yield (name,)
        if isinstance(value, dict):
            yield from ((name, *path) for path in _paths(value))
