"""Reads docs/protocol.md for the tests that hold it against the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"


class Block(NamedTuple):
    """A fenced block: what stands after the fence, and its content."""

    label: str
    content: str


def text() -> str:
    """The whole page."""
    return DOCUMENT.read_text(encoding="utf-8")


def blocks(label: str) -> list[Block]:
    """The fenced blocks whose label begins with these words."""
    found = re.findall(r"^```([^\n]+)\n(.*?)^```$", text(), re.MULTILINE | re.DOTALL)
    return [Block(name, content) for name, content in found if name.split()[: len(label.split())] == label.split()]


def section(title: str) -> str:
    """Return the text under a heading, up to the next one of its level or above."""
    lines = text().split("\n")
    start = lines.index(title)
    level = len(title) - len(title.lstrip("#"))
    heading = re.compile(rf"#{{1,{level}}} ")
    fenced = False
    for end in range(start + 1, len(lines)):
        fenced ^= lines[end].startswith("```")
        if not fenced and heading.match(lines[end]):
            return "\n".join(lines[start + 1 : end])
    return "\n".join(lines[start + 1 :])


def headings(content: str, level: int) -> list[str]:
    """The titles of this level in a part of the page."""
    return re.findall(rf"^{'#' * level} (.+)$", content, re.MULTILINE)


def rows(content: str) -> list[list[str]]:
    """The cells of all table rows in a part of the page, without heads."""
    lines = [line for line in content.split("\n") if line.startswith("|")]
    heads = {index for index, line in enumerate(lines) if re.fullmatch(r"[|\s-]+", line)}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for index, line in enumerate(lines)
        if index not in heads and index + 1 not in heads
    ]


def name_in(cell: str) -> str:
    """Return the name that a cell has in code style."""
    found = re.search(r"`([^`]+)`", cell)
    return found.group(1) if found else ""
