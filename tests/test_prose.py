"""Tests of the prose check: every rule finds its sample, and plain English passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prose import FRAGMENTS, check, main

SAMPLES = [
    "Raise to whoever asks.",
    "An agent whose own clock is wrong.",
    "The viewer is told.",
    "It tells the viewer.",
    "Return what the reader goes on with.",
    "Then both go on.",
    "A batch that comes again.",
    "A batch that came again.",
    "Return a stretch of time.",
    "Merge the stretches.",
    "The number is judged.",
    "History is not to be had.",
    "Nobody shall wait.",
    "It stops of its own accord.",
    "It is as good as done.",
    "Count what a batch has in it.",
]


def words(source: str, kind: str) -> list[str]:
    return [finding.word for finding in check(source, kind)]


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ('def f():\n    """Return nothing.\n\n    {}\n    """\n', ".py"),
        ("x = 1  # {}\n", ".py"),
        ('LIMIT = 1\n"""{}"""\n', ".py"),
        ('raise ValueError(f"{{x}}: {}")\n', ".py"),
        ('self._log.warning("{}", attempt=3)\n', ".py"),
        ('option = Option("--to", help="{}")\n', ".py"),
        ("# Title\n\n- An item: {}\n", ".md"),
        ("| head |\n| --- |\n| {} |\n", ".md"),
        ("const x = 1; // {}\n", ".ts"),
        ("/**\n * Text.\n * {}\n */\n", ".tsx"),
        ('const text = "{}";\n', ".ts"),
        ("const text = <p className={{name}}>{}</p>;\n", ".tsx"),
        ("[table]\nkey = 1  # {}\n", ".toml"),
        ("# {}\nall:\n", "Makefile"),
    ],
)
def test_a_banned_word_is_found_wherever_people_read_it(sample: str, frame: str, kind: str) -> None:
    """Every banned word is found in every kind of text."""
    assert words(frame.format(sample), kind)


@pytest.mark.parametrize("opening", FRAGMENTS)
@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ('"""{} a reader gets."""\n', ".py"),
        ('class A:\n    """{} a reader gets."""\n', ".py"),
        ('async def f():\n    """{} a reader gets."""\n', ".py"),
        ('LIMIT = 1\n"""{} a reader gets."""\n', ".py"),
        ("# Title\n\n{} a reader gets.\n", ".md"),
        ("- {} a reader gets.\n", ".md"),
        ("/** {} a reader gets. */\n", ".ts"),
    ],
)
def test_a_fragment_is_found_by_its_opening(opening: str, frame: str, kind: str) -> None:
    """Every opening of a fragment is found in docstrings, documents and documentation comments."""
    assert opening in words(frame.format(opening), kind)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ('"""Return the entries after `offset`, and wait for more."""\n', ".py"),
        ("position = file.tell()  # file.tell() counts bytes, judge_batch and tell=1 are names\n", ".py"),
        ('event = "told"  # The protocol calls it "told" and `goes on`.\n', ".py"),
        ('"""Return the rows that go on one page.\n\n    Where the page is full, the rest waits.\n    """\n', ".py"),
        ("SAMPLES = ['whoever is told']\n", ".py"),
        ('print("it goes on")\n', ".py"),
        ("# What to do next\n\nWhat is a device?\n\nUse `tell`:\n\n```\ntell whoever\n```\n\nDone.\n", ".md"),
        ('const url = "https://example/told"; const rule = /go on/; // It stops.\n', ".ts"),
        ("const text = `whoever${name}`; // Whatever it is.\n", ".ts"),
        ('key = "told #1"  # It stops.\n', ".toml"),
        ("// Where the sheet ends, draw it again.\n", ".ts"),
    ],
)
def test_plain_english_names_and_quoted_words_pass(source: str, kind: str) -> None:
    """Identifiers, code, quoted words and strings that are not messages give no finding."""
    assert check(source, kind) == []


def test_a_finding_has_its_line_and_its_replacement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program prints file, line, word and replacement, and returns 1."""
    file = tmp_path / "page.md"
    file.write_text("# Page\n\n```sh\ntell\n```\n\nOne line.\nThe caller is told.\n")
    assert main([tmp_path]) == 1
    assert capsys.readouterr().out == (f"{file}:8: 'told': write instead: report, return, show, state, distinguish\n")


def test_folders_of_tools_are_skipped(tmp_path: Path) -> None:
    """Installed packages and build results are not checked."""
    for folder in ("node_modules", ".venv", "build"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "page.md").write_text("Whoever reads this.\n")
    assert main([tmp_path]) == 0
