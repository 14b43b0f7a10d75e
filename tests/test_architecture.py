"""The borders between the rooms hold: each contract in pyproject.toml fails on the import that it forbids."""

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
ROOMS = ("wire", "hub", "agent_client", "importer", "device_agent", "device_sim")

SIDES = "the hub reaches its clients only through the protocol; its command line starts the importer"
DEVICE_SIDE = "the clients reach the hub only through the protocol"
DEVICE_LAYERS = "the clients: device_sim above device_agent, both and importer above agent_client, all above wire"
PURE_WIRE = "wire is pure: no input, no output, no clock, no randomness, no event loop"
LAYERS = "inside the hub imports go down only, and rooms of one layer do not know each other"
CONFIG = "hub.config reads settings and loads no decoder, so that every command starts quickly"
QUIET_ROOMS = "live and ingest use no sockets and no files"
DUCKDB = "duckdb belongs to hub.storage"
PYARROW = "pyarrow belongs to those who hand whole columns on: a store, the API's tables and the file of an export"
INFLUXDB = "influxdb_client belongs to hub.storage.influxdb"
LINE_PROTOCOL = "line_protocol_parser belongs to those who read line protocol: a file's and a message's"
PAHO = "paho belongs to hub.mqtt, which is the bridge to a broker"
PROTOBUF = "google.protobuf belongs to hub.mqtt.sparkplug"
QUIET_IMPORTING = "the importer uses sockets through agent_client only, and only in its upload"
STARLETTE = "starlette and uvicorn belong to hub.http"
APSW = "apsw belongs to hub.journal, hub.registry and device_agent.spool, which own a file each"
SERIAL = "serial and psutil belong to device_agent.sources"
SETTINGS = "pydantic_settings belongs to hub.config, and typer to the commands"
NUMPY = "numpy belongs to the rooms that work on columns"

# The room that gets a module it must not have, what that module imports, and the contract that says so.
WRONG_IMPORTS = [
    ("wire", "hub.model", DEVICE_SIDE),
    ("wire", "device_agent", DEVICE_LAYERS),
    ("wire", "device_sim", SIDES),
    *(("wire", module, PURE_WIRE) for module in ("asyncio", "socket", "time", "random", "os", "pathlib")),
    ("hub", "device_agent", SIDES),
    ("hub.http", "device_sim", SIDES),
    ("device_agent", "hub.model", DEVICE_SIDE),
    ("device_agent", "device_sim", DEVICE_LAYERS),
    ("agent_client", "device_agent", DEVICE_LAYERS),
    ("importer", "device_agent", DEVICE_LAYERS),
    ("hub.http", "importer", SIDES),
    ("device_sim", "hub.cli", DEVICE_SIDE),
    ("hub.http", "hub.cli", LAYERS),
    ("hub.http", "hub.journal", LAYERS),
    ("hub.journal", "hub.storage", LAYERS),
    ("hub.storage", "hub.registry", LAYERS),
    ("hub.live", "hub.http", LAYERS),
    ("hub.live", "hub.ingest", LAYERS),
    ("hub.model", "hub.live", LAYERS),
    ("hub.config", "hub.mqtt.decoders", CONFIG),
    ("hub.config", "hub.mqtt.sparkplug", CONFIG),
    ("hub.ingest", "socket", QUIET_ROOMS),
    ("hub.live", "pathlib", QUIET_ROOMS),
    ("hub.http", "duckdb", DUCKDB),
    ("device_agent", "pyarrow", PYARROW),
    ("hub.http", "pyarrow", PYARROW),
    ("hub.http", "influxdb_client", INFLUXDB),
    ("hub.http", "line_protocol_parser", LINE_PROTOCOL),
    ("hub.mqtt", "line_protocol_parser", LINE_PROTOCOL),
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
    ("hub.http", "numpy", NUMPY),
    ("hub.journal", "pydantic_settings", SETTINGS),
    ("hub.http", "typer", SETTINGS),
    ("hub.http", "hub.config", LAYERS),
]


Findings = dict[str, str]
"""What the linter said: each broken contract's name, and the text that lists the wrong imports."""


def copy_of_the_rooms(folder: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", folder)
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", "static"))
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
    """What the linter says about one tree that holds every intruder."""
    tree = copy_of_the_rooms(tmp_path_factory.mktemp("spoiled"))
    for number, (room, imported, _) in enumerate(WRONG_IMPORTS):
        (tree / room.replace(".", "/") / f"intruder_{number}.py").write_text(f"import {imported}\n")
    return lint(tree)


def test_the_rooms_keep_every_contract(tmp_path: Path) -> None:
    """As it stands no room imports what it must not."""
    assert lint(copy_of_the_rooms(tmp_path)) == {}


@pytest.mark.parametrize(
    "number",
    range(len(WRONG_IMPORTS)),
    ids=[f"{room}-imports-{imported}" for room, imported, _ in WRONG_IMPORTS],
)
def test_a_wrong_import_breaks_its_contract(number: int, findings: Findings) -> None:
    """A module that imports over a border is found, under the name of the border it crosses."""
    room, imported, contract = WRONG_IMPORTS[number]
    assert f"{room}.intruder_{number} -> {imported} " in findings[contract]


def test_every_contract_can_fail() -> None:
    """No contract stands in pyproject.toml without a wrong import that proves it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert {contract["name"] for contract in settings["contracts"]} == {case[2] for case in WRONG_IMPORTS}


def test_a_room_without_a_layer_breaks_the_layers(tmp_path: Path) -> None:
    """A new room in the hub has to be given its place before anything may be built on it."""
    tree = copy_of_the_rooms(tmp_path)
    (tree / "hub" / "annex.py").write_text("")
    assert "annex" in lint(tree)[LAYERS]
