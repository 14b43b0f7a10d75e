"""The units in deploy/, which run a hub and an agent without containers."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from device_agent.agent import DRAIN_SECONDS
from device_agent.errors import MISUSE
from device_agent.service import CREDENTIAL
from hub.app.run import CLOSING_S, DRAIN_S
from hub.cli.application import app
from tests.deploy.compose import ROOT


def section(name: str) -> dict[str, str]:
    """Return a unit's section for the service; names keep their case. A name that is repeated has its last value."""
    unit = ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy" / name)
    return dict(unit["Service"])


@pytest.fixture(scope="module")
def service() -> dict[str, str]:
    """Return the section of the hub."""
    return section("telemetry-hub.service")


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


@pytest.fixture(scope="module")
def agent() -> dict[str, str]:
    """Return the section of the agent."""
    return section("device-agent.service")


def test_the_agent_s_unit_fits_the_agent(agent: dict[str, str]) -> None:
    """systemd waits for the agent's own end, reads the token that the agent looks for, and gives it a directory."""
    assert agent["Type"] == "notify"
    assert float(agent["TimeoutStopSec"]) > DRAIN_SECONDS + 10
    assert agent["LoadCredential"].partition(":")[0] == CREDENTIAL
    assert agent["RestartPreventExitStatus"] == str(MISUSE)
    assert agent["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (agent["DynamicUser"], agent["ProtectSystem"], agent["CapabilityBoundingSet"]) == ("yes", "strict", "")
    text = (ROOT / "docs" / "agent.md").read_text()
    for path in (agent["ExecStart"].split()[0].removesuffix("/bin/device-agent"), agent["ExecStart"].split()[-1]):
        assert path in text
    assert f"/var/lib/{agent['StateDirectory']}" in text


@pytest.mark.parametrize("name", ["device-agent.service", "telemetry-hub.service"])
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    """Every setting is known. The programs are not installed here, so another one stands for them."""
    analyze = shutil.which("systemd-analyze")
    unit = (ROOT / "deploy" / name).read_text()
    (tmp_path / name).write_text(re.sub(r"/opt/telemetry-\w+/bin/[a-z-]+", "/bin/true", unit))
    if analyze is not None:
        checked = subprocess.run([analyze, "verify", tmp_path / name], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
