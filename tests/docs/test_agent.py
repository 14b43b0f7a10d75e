"""Tests that docs/agent.md agrees with the settings of agent.toml."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import msgspec
import pytest

from device_agent.operator_commands.settings import ConfiguredCommand, ConfiguredSetting
from device_agent.reporting import ReportRule
from device_agent.settings import OPTIONS_OVER_FILE, AgentSettings, AgentTlsSettings, load_settings
from device_agent.sources.lines import ForeignSettings
from device_agent.sources.settings import KINDS, SourceSettings, settings_class
from tests.device_agent.peer import Peer
from wire.command import CommandParameter

DOCUMENT = (Path(__file__).parents[2] / "docs" / "agent.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z0-9_]+)` \| (?:`([^`]*)`|) *\| [^|]+ \|$", re.MULTILINE)
TABLES = {"tls", "report", "source", "command", "setting"}
"""Settings that are tables of their own."""


def documented(heading: str) -> list[tuple[str, str]]:
    """Return (key, default) of each row of the first table under a heading."""
    section = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert section is not None, f"docs/agent.md has no heading {heading}"
    table = re.search(r"(?:^\|.*\n)+", section[1], re.MULTILINE)
    return [] if table is None else ROW.findall(table[0])


def settings(made_of: type[msgspec.Struct], without: set[str]) -> list[tuple[str, str]]:
    """Return (key, default) of each setting of a table; no default is empty."""
    rows = []
    for field in msgspec.structs.fields(made_of):
        if field.name in without:
            continue
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if default in (msgspec.NODEFAULT, None):
            text = ""
        elif isinstance(default, tuple):
            text = msgspec.json.encode(default).decode()
        else:
            text = str(default).lower() if isinstance(default, bool) else str(default)
        rows.append((field.name, text))
    return rows


@pytest.mark.parametrize(
    ("heading", "made_of"),
    [
        ("## Settings", AgentSettings),
        ("### `[tls]`", AgentTlsSettings),
        ("### `[[report]]`", ReportRule),
        ("## Sources", SourceSettings),
        ("### `[[command]]`", ConfiguredCommand),
        ("### `[[command.parameters]]`", CommandParameter),
        ("### `[[setting]]`", ConfiguredSetting),
    ],
)
def test_every_setting_is_documented_with_its_default_and_nothing_else_is(
    heading: str, made_of: type[msgspec.Struct]
) -> None:
    """Each table has one row for each key, in the order of the code."""
    assert documented(heading) == settings(made_of, TABLES if made_of is AgentSettings else set())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_source_is_documented(kind: str) -> None:
    """A kind has a heading and its own settings."""
    found = settings_class(kind)
    base = ForeignSettings if issubclass(found, ForeignSettings) else SourceSettings
    common = set(base.__struct_fields__)
    assert sorted(documented(f"### `{kind}`")) == sorted(settings(found, common))


def test_no_other_kind_is_documented() -> None:
    """A heading of a kind that does not exist would send people astray."""
    sources = DOCUMENT.partition("\n## Sources\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### `(.+)`$", sources, re.MULTILINE)) == set(KINDS)


def test_the_example_of_commands_is_accepted(tmp_path: Path) -> None:
    """It can be copied behind the sources that it names."""
    section = DOCUMENT.partition("\n## Commands\n")[2]
    example = re.search(r"```toml\n(.*?)```", section, re.DOTALL)
    assert example is not None
    sources = """
        [[source]]
        kind = "serial"
        port = "/dev/ttyUSB0"
        [[source]]
        kind = "modbus"
        port = "/dev/ttyUSB1"
        name = "bus"
        maps = [{ slave = 1, name = "pump", table = "coil", fields = { running = { address = 0 } } }]
    """
    (tmp_path / "agent.toml").write_text(sources + example[1], encoding="utf-8")
    assert [command.name for command in load_settings(tmp_path / "agent.toml").command] == [
        "set_speed",
        "stop",
        "restart_camera",
    ]


async def test_the_program_in_python_runs(tmp_path: Path) -> None:
    """It stays connected, executes a command and has the setting of the next example."""
    program, setting = (python_example(heading) for heading in ("### Commands in Python", "### Settings in Python"))
    async with Peer() as peer:
        text = program.replace("http://127.0.0.1:8600", peer.url).replace(
            "async def main", f"{setting}\n\nasync def main"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", text, cwd=tmp_path,
            env={**os.environ, "HUB_TOKEN": "secret", "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        try:
            await peer.until(lambda: "target_pressure" in peer.settings)
            await peer.command("boiler-1", "00112233445566aa", "set_speed", speed=3)
            await peer.until(lambda: ("succeeded", "") in peer.states_of("00112233445566aa"))
            await peer.until(lambda: 3.0 in peer.values("speed"))
        finally:
            process.kill()
            await process.wait()


def python_example(heading: str) -> str:
    """Return the first program in Python under a heading."""
    example = re.search(r"```python\n(.*?)```", DOCUMENT.partition(f"\n{heading}\n")[2], re.DOTALL)
    assert example is not None
    return example[1]


def test_every_code_of_an_outcome_is_documented() -> None:
    """An operator finds each one in the table."""
    section = DOCUMENT.partition("### What an operator learns\n")[2].partition("\n### ")[0]
    documented_codes = set(re.findall(r"^\| \w+ \| `(\w+)` \|", section, re.MULTILINE))
    package = Path(__file__).parents[2] / "device_agent" / "operator_commands"
    text = "\n".join(file.read_text() for file in sorted(package.glob("*.py")))
    outcomes = re.findall(r'CommandOutcome\(\s*"\w+",\s*"(\w+)"', text)
    raised = re.findall(r'code="(\w+)"', text)
    reports = re.findall(r'"received", entry.received_ns, "(\w+)"', text)
    assert documented_codes == {*outcomes, *raised, *reports}


def test_the_example_is_accepted_and_the_options_are_named(tmp_path: Path) -> None:
    """The example can be copied."""
    example = re.search(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert example is not None
    (tmp_path / "agent.toml").write_text(example[1], encoding="utf-8")
    assert load_settings(tmp_path / "agent.toml").device == "kiln-1"
    named = DOCUMENT.partition("The options ")[2].partition(" win over the file")[0]
    assert {name.replace("-", "_") for name in re.findall(r"`--([a-z-]+)`", named)} == OPTIONS_OVER_FILE
