"""Nothing prints a command that installs the package by its name: in an index, anybody could have registered it."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BY_NAME = re.compile(
    r"\b(?:pip3?|pipx|uv)\b[^\n`]*\b(?:install|add|run|download)\b[^\n`]*?"
    r"[\s'\"=]telemetry-hub\b(?![-/]|(?:\[\w+\])? @ )"
)
TEXT = {".py", ".md", ".toml", ".ts", ".tsx", ".yml", ".yaml", ".service", ".txt", ".html", ".json", ".sh", ""}


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.suffix in TEXT and path.is_file() and path != Path(__file__)]


def test_no_file_installs_the_package_by_its_name() -> None:
    """Documents, programs and the page name a file, a folder or an address instead."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if BY_NAME.search(line)
    ]
    assert found == []


def test_documents_name_the_file_of_this_version() -> None:
    """A copied command finds the file that the hub of these documents serves."""
    named = {
        found
        for path in (ROOT / "docs").glob("*.md")
        for found in re.findall(r"telemetry_hub-[\w.]+-py3-none-any\.whl", path.read_text(encoding="utf-8"))
    }
    assert named == {f"telemetry_hub-{version('telemetry-hub')}-py3-none-any.whl"}


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("pip install telemetry-hub", True),
        ('<CopyableCommand text="pip install telemetry-hub" />', True),
        ("/opt/telemetry-hub/bin/pip install --upgrade 'telemetry-hub[hub]'", True),
        ("uv pip install telemetry-hub==0.1.0", True),
        ("pipx install telemetry-hub", True),
        ("pip --python /opt/telemetry-hub install --no-compile dist/*.whl", False),
        ("pip install '.[hub]'", False),
        (
            "pip install 'telemetry-hub[hub] @ http://127.0.0.1:8600/download/telemetry_hub-0.1.0-py3-none-any.whl'",
            False,
        ),
        ("docker build --tag telemetry-hub:0.1.0 .", False),
    ],
)
def test_the_search_finds_what_it_must(line: str, is_found: bool) -> None:
    """A command with the name alone, with an extra or with a version, and no other."""
    assert (BY_NAME.search(line) is not None) is is_found
