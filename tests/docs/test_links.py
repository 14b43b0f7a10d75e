"""Tests of what the documents refer to: other documents, files and folders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
CLIENTS = sorted((ROOT / "docs" / "clients").glob("*.md"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *PAGES, *CLIENTS, ROOT / "dashboards" / "web" / "README.md"]
PATH = re.compile(
    r"`((?:wire|hub|agent_client|importer|device_agent|device_sim|dashboards|deploy|bench|tests)/[\w./]*)`"
)
GENERATED = {"hub/http/static/"}
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower().strip()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    """A relative link names an existing file, and its anchor a heading of that file."""
    targets = re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8"))
    for target in [target for target in targets if "://" not in target]:
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_path_exists(document: Path) -> None:
    """A file or folder of the repository that a document names in code style exists."""
    for path in set(PATH.findall(document.read_text(encoding="utf-8"))) - GENERATED:
        assert (ROOT / path).exists(), path


def test_the_index_links_to_every_page() -> None:
    """docs/README.md leads to each page of docs/."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.name == "README.md" or f"]({page.name}" in index
