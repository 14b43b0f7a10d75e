"""A message in quarantine as text that a person can read: JSON, whatever it came as, and never more than fits. Pure."""

from __future__ import annotations

import json
import math
from struct import unpack
from typing import Any, NamedTuple

import msgspec

from wire.codec import Format
from wire.columns import ITEM_BYTES

MAX_ITEMS = 200
"""Of each list and object: more rows of a batch than anybody looks at."""

MAX_TEXT = 2_000
"""Characters of one string."""

MAX_DEPTH = 12
"""Of lists within lists: a batch has three levels."""

MAX_CHARACTERS = 64 * 1024
"""Of all of it: what a page shows without a pause."""

INDENT = "  "

OMITTED = "…"


class Readable(NamedTuple):
    """The text, and whether something was left out of it (where a `…` stands)."""

    text: str
    shortened: bool


def readable(payload: bytes, format: Format) -> Readable:
    """The message as JSON, a line for each member of its objects, lists on one line.

    Packed columns become numbers, a NaN in them (no value) null. What is no JSON at all stays the text that it is, and
    what is no msgpack is told in hexadecimal.
    """
    try:
        content = json.loads(payload) if format == "json" else msgspec.msgpack.decode(payload, ext_hook=_extension)
    except (ValueError, RecursionError, msgspec.DecodeError):
        text = payload[: MAX_CHARACTERS + 1].decode(errors="replace") if format == "json" else payload.hex(" ")
        return Readable(*_cut(text, MAX_CHARACTERS))
    writer = _Writer()
    # Half of a surrogate pair, which JSON can spell and UTF-8 cannot, is spelled as it came.
    text = writer.value(content, "", "").encode(errors="backslashreplace").decode()
    short, is_cut = _cut(text, MAX_CHARACTERS)
    return Readable(short, is_cut or writer.shortened)


class _Writer:
    """Writes values as JSON, and remembers whether anything was left out."""

    def __init__(self) -> None:
        self.shortened = False

    def value(self, value: Any, name: str, indent: str) -> str:
        """A value, of the member `name` of its object, that begins behind `indent`."""
        if len(indent) > MAX_DEPTH * len(INDENT):
            self.shortened = True
            return OMITTED
        match value:
            case dict():
                return self._object(value, indent)
            case bytes():
                return self._bytes(value, name, indent)
            case list() | tuple():
                return self._list(value, name, indent)
            case str():
                text, is_cut = _cut(value, MAX_TEXT)
                self.shortened |= is_cut
                return json.dumps(text, ensure_ascii=False)
            case float() if not math.isfinite(value):
                return str(value)
        return json.dumps(value, default=str)

    def _object(self, members: dict[Any, Any], indent: str) -> str:
        inner = indent + INDENT
        lines = [
            f"{inner}{self.value(str(name), '', inner)}: {self.value(value, str(name), inner)}"
            for name, value in [*members.items()][:MAX_ITEMS]
        ]
        if len(members) > MAX_ITEMS:
            self.shortened = True
            lines.append(f"{inner}{OMITTED} {len(members) - MAX_ITEMS} more")
        body = ",\n".join(lines)
        return f"{{\n{body}\n{indent}}}" if lines else "{}"

    def _list(self, items: list[Any] | tuple[Any, ...], name: str, indent: str) -> str:
        told = [self.value(item, name, indent + INDENT) for item in items[:MAX_ITEMS]]
        if len(items) > MAX_ITEMS:
            self.shortened = True
            told.append(f"{OMITTED} {len(items) - MAX_ITEMS} more")
        return f"[{', '.join(told)}]"

    def _bytes(self, packed: bytes, name: str, indent: str) -> str:
        """A packed column: times are integers, all others floats. Other bytes in hexadecimal."""
        rows, rest = divmod(len(packed), ITEM_BYTES)
        if rest:
            text, is_cut = _cut(packed.hex(" "), MAX_TEXT)
            self.shortened |= is_cut
            return json.dumps(f"{len(packed)} bytes: {text}", ensure_ascii=False)
        shown = min(rows, MAX_ITEMS)
        kind = "q" if name == "time" and len(indent) == len(INDENT) else "d"
        numbers = unpack(f"<{shown}{kind}", packed[: shown * ITEM_BYTES])
        column = [None if number != number else number for number in numbers]
        told = [self.value(number, name, indent + INDENT) for number in column]
        if rows > shown:
            self.shortened = True
            told.append(f"{OMITTED} {rows - shown} more")
        return f"[{', '.join(told)}]"


def _cut(text: str, length: int) -> tuple[str, bool]:
    return (f"{text[:length]}{OMITTED}", True) if len(text) > length else (text, False)


def _extension(code: int, data: memoryview) -> str:
    return f"extension {code}: {bytes(data).hex(' ')}"
