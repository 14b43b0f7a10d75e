"""How values look on a terminal; nothing that came over the network gets there as a command to it."""

from __future__ import annotations

from datetime import UTC, datetime

WIDE = 400
"""Columns of a table that goes into a file or a pipe."""

SECONDS = "%Y-%m-%d %H:%M:%S"


def printable(text: str) -> str:
    """The text with everything spelled out that is no character to see: escape sequences above all."""
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text
    )


def time_text(time_ns: int) -> str:
    """A time in UTC, to the second."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime(SECONDS)


def bytes_text(size_bytes: int) -> str:
    """A size in bytes, kB or MB."""
    if size_bytes < 1_000:
        return f"{size_bytes} B"
    return f"{size_bytes / 1e3:.1f} kB" if size_bytes < 1_000_000 else f"{size_bytes / 1e6:.1f} MB"
