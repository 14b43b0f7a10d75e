"""Sentences and numbers of docs/operations.md that the programs have, too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent_client.refusal import REASONS
from device_agent.spool.contract import DAMAGED_REASON
from device_agent.spool.durable import KEPT_SECONDS
from device_agent.spool.file import KEPT_BYTES
from device_agent.spool.layout import MAX_INCIDENTS, MAX_SET_ASIDE
from hub.app.data_directory import REPLACED
from hub.ingest.source_report import EVENT_BURST
from hub.live.cadence import (
    KEPT,
    MIN_STALE_NS,
    REGULAR_NUMBERS,
    REGULAR_REPEATED,
    REGULAR_STATES,
    STALE_INTERVALS,
)
from hub.live.presence import FIRST_READING_NS, GRACE_NS
from hub.registry.hub_run import RESTORED_KIND
from hub.storage.hold import MAX_HOLD_S
from wire.timestamp import NS_PER_S

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


def section(heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    return (ROOT / "docs" / "operations.md").read_text().partition(f" {heading}\n")[2].partition("\n## ")[0]


def test_the_section_about_spools_has_the_agent_s_words_and_bounds() -> None:
    """The reason of a gap, and the numbers of batches and incidents that a spool keeps, are those of the agent."""
    spools = section("The spool of an agent is damaged")
    assert f"`{DAMAGED_REASON}`" in spools
    assert f"the last {MAX_SET_ASIDE} such batches" in spools
    assert f"the last {MAX_INCIDENTS} are kept" in spools


def test_the_section_about_states_has_the_page_s_words_and_bounds() -> None:
    """Each state has a row with the page's word; the times and the bound of events are those of the hub."""
    states = section("States of devices")
    icons = (WEB / "ui" / "icon.tsx").read_text()
    words = re.findall(r'\w+: "(\w+)"', icons.partition("CONDITION_TEXTS")[2].partition(";")[0])
    assert re.findall(r"(?m)^\| (\w+) \|", states) == [*words, "Backlog"]
    assert (STALE_INTERVALS, "**five of its own intervals**" in states) == (5, True)
    assert f"at least {MIN_STALE_NS // NS_PER_S}" in states
    assert f"the last {KEPT} intervals" in states
    assert (GRACE_NS, "for more than a minute" in states) == (60 * NS_PER_S, True)
    assert (FIRST_READING_NS, "in the two hours since" in states) == (7_200 * NS_PER_S, True)
    assert "have arrived: five to seven of a number, nine of a text or boolean." in states
    assert (REGULAR_REPEATED + 1, REGULAR_NUMBERS + 1, REGULAR_STATES + 1) == (5, 7, 9)
    assert f"at most {EVENT_BURST} events of its sources at once" in states


def test_the_sections_about_backups_have_the_programs_bounds() -> None:
    """The batches that an agent keeps, the longest hold, and the words that a person searches for."""
    backup, restore = section("Back up"), section("Restore")
    assert f"at most {MAX_HOLD_S / 3600:.0f} hour" in backup.replace("an hour", "1 hour")
    assert f"last {KEPT_SECONDS / 60:.0f} minutes" in restore
    assert f"up to {KEPT_BYTES >> 20} MiB" in restore
    assert f"`{REPLACED}TIME`" in restore
    assert f"`{RESTORED_KIND}`" in restore
