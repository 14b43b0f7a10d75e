"""How values look on a terminal; nothing that came over the network gets there as a command to it."""

from __future__ import annotations

import sys
from collections.abc import Collection
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table

WIDE = 400
"""Columns of what goes into a file or a pipe, where nothing is to be folded to a width that nobody sees."""

SECONDS = "%Y-%m-%d %H:%M:%S"


def stdout_console() -> Console:
    """Where answers are printed: as wide as the terminal, or WIDE where there is none."""
    return Console(width=None if sys.stdout.isatty() else WIDE)


def progress_bar(*columns: str | ProgressColumn, worth_it: bool = True) -> Progress:
    """A bar on stderr that leaves nothing behind; shown on a terminal only, and where it is worth it."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not (worth_it and console.is_terminal))


def plain_table(*names: str, numbers: Collection[str] = ()) -> Table:
    """A table without lines. `numbers` are the columns that are aligned right and never folded."""
    table = Table(box=None, pad_edge=False)
    for name in names:
        if name in numbers:
            table.add_column(name, justify="right", no_wrap=True)
        else:
            table.add_column(name, overflow="fold")
    return table


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
