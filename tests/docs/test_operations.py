"""The table of docs/operations.md that explains why a page or an agent does not connect."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent_client.refusal import REASONS

ROOT = Path(__file__).parents[2]
WEB = ROOT / "dashboards" / "web" / "src"
PAGE_SOURCES = [
    *(ROOT / "hub" / "http").rglob("*.py"),
    WEB / "connection" / "diagnosis.ts",
    WEB / "ui" / "status.tsx",
    WEB / "pages" / "sign_in.tsx",
]
AGENT_SOURCES = [
    *(ROOT / "agent_client").glob("*.py"),
    *(ROOT / "hub" / "http").rglob("*.py"),
    ROOT / "wire" / "errors.py",
]


def rows() -> list[tuple[str, str]]:
    """Return what the page and the agent say, in each row of the table."""
    text = (ROOT / "docs" / "operations.md").read_text()
    table = text.partition("| The page says |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [(page, agent) for page, agent, _ in cells]


def pieces(said: str) -> list[str]:
    """Return the constant parts of a sentence, without statuses and values."""
    return [piece.strip() for piece in re.split(r"…|;|:|\(.*?\)|, or ", said) if piece.strip()]


def words_of(sources: list[Path]) -> str:
    """Return the text of sources in lower case, with joined strings as one."""
    return " ".join(re.sub(r'"\s*f?"|\s+', " ", path.read_text()) for path in sources).lower().replace("  ", " ")


@pytest.mark.parametrize(("page", "agent"), rows())
def test_each_sentence_of_the_table_is_one_of_the_program(page: str, agent: str) -> None:
    """A person searches the document for what the screen shows."""
    for said, sources in ((page, words_of(PAGE_SOURCES)), (agent, words_of(AGENT_SOURCES))):
        for piece in pieces(said):
            assert piece.lower().removeprefix("the sign-in page") in sources, piece


@pytest.mark.parametrize("reason", sorted(set(REASONS.values())))
def test_each_reason_of_an_agent_has_a_row(reason: str) -> None:
    """The table contains the sentence for every answer that an agent explains, at least up to its remedy."""
    assert any(reason.partition(":")[0] in agent for _, agent in rows()), reason
