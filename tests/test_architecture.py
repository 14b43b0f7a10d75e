"""Borders between the packages: each contract in pyproject.toml fails on the import that it forbids."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("wire", "formats", "integrity", "hub", "agent_client", "importer", "device_agent", "device_sim")

SIDES = "The hub imports no client, except that hub.cli imports the importer and the options of clients"
DEVICE_SIDE = "The clients and wire do not import the hub"
DEVICE_LAYERS = (
    "Clients import downwards: device_sim, then device_agent and importer, then agent_client, then formats, then wire"
)
PURE_WIRE = "wire imports no input or output, no clock, no randomness and no event loop"
PURE_FORMATS = "formats imports no input or output, no clock, no randomness and no event loop"
LAYERS = "Packages of the hub import packages of lower layers only"
CONFIG = "hub.config imports no decoder, so that every command starts quickly"
QUIET_PACKAGES = "hub.live, hub.ingest and hub.model use no sockets and no files"
DUCKDB = "Only hub.storage imports duckdb"
PYARROW = "Only hub.storage, hub.http.tables and hub.cli.export_file import pyarrow"
INFLUXDB = "Only hub.storage.influxdb imports influxdb_client and aiohttp"
LINE_PROTOCOL = "Only formats imports line_protocol_parser"
REGEX = "Only formats.pattern imports regex"
PAHO = "Only hub.mqtt imports paho"
PROTOBUF = "Only hub.mqtt.sparkplug imports google.protobuf"
INTEGRITY = "integrity imports no other package of the repository"
QUIET_IMPORTING = "Only importer.upload uses the network, and only through agent_client"
STARLETTE = "Only hub.http imports starlette and uvicorn"
APSW = "Only hub.journal, hub.registry, device_agent.spool and integrity import apsw"
SERIAL = "Only device_agent.sources imports serial, and psutil with device_sim.simulation"
MODBUS = "Only device_agent.sources.modbus.bus imports pymodbus"
SETTINGS = "Only hub.config imports pydantic_settings, and only commands import typer"
NUMPY = "Only hub.model, hub.ingest, hub.live and hub.storage import numpy"

# The package of a forbidden module, what that module imports, and the contract that reports it.
WRONG_IMPORTS = [
    ("wire", "hub.model", DEVICE_SIDE),
    ("wire", "device_agent", DEVICE_LAYERS),
    ("wire", "device_sim", SIDES),
    *(("wire", module, PURE_WIRE) for module in ("asyncio", "socket", "time", "datetime", "random", "os", "pathlib")),
    ("wire", "formats", DEVICE_LAYERS),
    ("formats", "hub.model", DEVICE_SIDE),
    ("formats", "agent_client", DEVICE_LAYERS),
    *(("formats", module, PURE_FORMATS) for module in ("asyncio", "pathlib", "time", "zoneinfo", "integrity")),
    ("integrity", "wire.model", INTEGRITY),
    ("hub", "device_agent", SIDES),
    ("hub.http", "device_sim", SIDES),
    ("device_agent", "hub.model", DEVICE_SIDE),
    ("device_agent", "device_sim", DEVICE_LAYERS),
    ("agent_client", "device_agent", DEVICE_LAYERS),
    ("importer", "device_agent", DEVICE_LAYERS),
    ("hub.http", "importer", SIDES),
    ("device_sim", "hub.cli", DEVICE_SIDE),
    ("hub.http", "hub.cli", LAYERS),
    ("hub.http", "hub.storage", LAYERS),
    ("hub.journal", "hub.storage", LAYERS),
    ("hub.storage", "hub.registry", LAYERS),
    ("hub.live", "hub.http", LAYERS),
    ("hub.live", "hub.ingest", LAYERS),
    ("hub.model", "hub.live", LAYERS),
    ("hub.config", "hub.mqtt.decoders", CONFIG),
    ("hub.config", "hub.mqtt.sparkplug", CONFIG),
    ("hub.ingest", "socket", QUIET_PACKAGES),
    ("hub.live", "pathlib", QUIET_PACKAGES),
    ("hub.http", "duckdb", DUCKDB),
    ("device_agent", "pyarrow", PYARROW),
    ("hub.http", "pyarrow", PYARROW),
    ("hub.http", "influxdb_client", INFLUXDB),
    ("hub.http", "line_protocol_parser", LINE_PROTOCOL),
    ("hub.mqtt", "line_protocol_parser", LINE_PROTOCOL),
    ("formats", "regex", REGEX),
    ("hub.app", "paho", PAHO),
    ("hub.mqtt", "google", PROTOBUF),
    ("hub.mqtt", "hub.registry", LAYERS),
    ("importer", "asyncio", QUIET_IMPORTING),
    ("importer", "websockets", QUIET_IMPORTING),
    ("importer", "agent_client.client", QUIET_IMPORTING),
    ("importer", "hub.http", DEVICE_SIDE),
    ("hub.ingest", "starlette", STARLETTE),
    ("hub.cli", "uvicorn", STARLETTE),
    ("hub.storage", "apsw", APSW),
    ("device_sim", "sqlite3", APSW),
    ("device_agent", "serial", SERIAL),
    ("device_agent.sources", "pymodbus", MODBUS),
    ("hub.http", "numpy", NUMPY),
    ("hub.journal", "pydantic_settings", SETTINGS),
    ("hub.http", "typer", SETTINGS),
    ("hub.http", "hub.config", LAYERS),
]


Findings = dict[str, str]
"""Output of the linter: the name of each broken contract, and the text that lists the wrong imports."""


def copy_of_the_packages(folder: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "static"))
    return folder


def lint(tree: Path) -> Findings:
    ran = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as go; go()", "--no-logo"],
        cwd=tree,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    summary, _, details = ran.stdout.partition("Broken contracts\n")
    assert "Contracts: " in summary, ran.stdout + ran.stderr
    sections = re.split(r"\n(.+)\n-{3,}\n", details)
    findings = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert ran.returncode == (1 if findings else 0), ran.stdout + ran.stderr
    return findings


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Return the linter's output for one tree that holds every forbidden module."""
    tree = copy_of_the_packages(tmp_path_factory.mktemp("spoiled"))
    for number, (package, imported, _) in enumerate(WRONG_IMPORTS):
        (tree / package.replace(".", "/") / f"intruder_{number}.py").write_text(f"import {imported}\n")
    return lint(tree)


def test_the_packages_keep_every_contract(tmp_path: Path) -> None:
    """The project as it is keeps every contract."""
    assert lint(copy_of_the_packages(tmp_path)) == {}


@pytest.mark.parametrize(
    "number",
    range(len(WRONG_IMPORTS)),
    ids=[f"{package}-imports-{imported}" for package, imported, _ in WRONG_IMPORTS],
)
def test_a_wrong_import_breaks_its_contract(number: int, findings: Findings) -> None:
    """A module that imports over a border is reported under the name of that contract."""
    package, imported, contract = WRONG_IMPORTS[number]
    assert f"{package}.intruder_{number} -> {imported} " in findings[contract]


def test_every_contract_can_fail() -> None:
    """Every contract in pyproject.toml has a wrong import that breaks it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert {contract["name"] for contract in settings["contracts"]} == {case[2] for case in WRONG_IMPORTS}


def test_a_package_without_a_layer_breaks_the_layers(tmp_path: Path) -> None:
    """A new package in the hub must get a layer before any package may import it."""
    tree = copy_of_the_packages(tmp_path)
    (tree / "hub" / "annex.py").write_text("")
    assert "annex" in lint(tree)[LAYERS]


def test_no_test_module_imports_another() -> None:
    """Helpers that several test modules use are in files of their own, so that a test module can change alone."""
    imports = re.compile(r"^(?:from|import) tests\.(?:\w+\.)*test_", re.MULTILINE)
    tests = (ROOT / "tests").rglob("test_*.py")
    assert [path for path in tests if imports.search(path.read_text())] == []
