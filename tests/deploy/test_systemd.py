"""Unit deploy/telemetry-hub.service, which runs a hub without containers."""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hub.app.run import CLOSING_S, DRAIN_S
from hub.cli.application import app
from tests.deploy.compose import ROOT


@pytest.fixture(scope="module")
def service() -> dict[str, str]:
    """Return the unit's section for the service; names keep their case."""
    unit = ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy" / "telemetry-hub.service")
    return dict(unit["Service"])


def test_the_hub_gets_the_time_to_store_what_it_has(service: dict[str, str]) -> None:
    """systemd waits at least as long as the hub needs to stop by itself."""
    assert float(service["TimeoutStopSec"]) > CLOSING_S + DRAIN_S + 10


def test_the_service_can_write_its_data_only(service: dict[str, str]) -> None:
    """The service has no root, no capability and a read-only system; it owns the directory that the command names."""
    assert service["ExecStart"].endswith(f" --data /var/lib/{service['StateDirectory']}")
    assert (service["DynamicUser"], service["ProtectSystem"], service["CapabilityBoundingSet"]) == ("yes", "strict", "")


def test_its_commands_are_the_hub_s(service: dict[str, str], tmp_path: Path) -> None:
    """The settings check uses the same file as the hub that then runs."""
    program, *checking = service["ExecStartPre"].split()
    assert service["ExecStart"].split()[:2] == [program, "run"]
    assert service["ExecStart"].split()[2:4] == checking[2:]
    file = tmp_path / "hub.toml"
    file.write_text("")
    checked = CliRunner().invoke(app, [*checking[:-1], str(file)])
    assert (checked.exit_code, checked.output) == (0, "the settings are valid\n")


def test_the_documented_certificate_is_readable_by_the_service(service: dict[str, str]) -> None:
    """The unit joins the group that owns the key. The commands install the files that the settings name."""
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition("### Certificates with systemd\n")[2].partition("\n## ")[0]
    blocks = [re.sub(r"(?m)^   ", "", block) for block in re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)]
    create, unit, install, settings, _ = blocks
    group = create.split()[-1]
    # A static group of the service's own name would conflict with its dynamic user.
    assert (service["DynamicUser"], group == "telemetry-hub") == ("yes", False)
    assert unit == f"[Service]\nSupplementaryGroups={group}\n"
    certificate, key = (line.split() for line in install.splitlines())
    tls = tomllib.loads(settings)["tls"]
    assert [certificate[-1], key[-1]] == [tls["certificate"], tls["key"]]
    assert key[1:5] == ["-m", "0640", "-g", group]
