"""Checks of the Dockerfile: its bases, its content and its user."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import PurePosixPath

from deploy import first_start
from hub.config.settings import load_settings
from tests.deploy.compose import DOCKERFILE, PINNED, ROOT, read_dockerfile

STAGES = read_dockerfile(DOCKERFILE.read_text())
LAST = STAGES[-1]
NAMES = {stage[0].rest.partition(" AS ")[2] for stage in STAGES} - {""}
BUILT = "/source/hub/http/static"
"""Paths that one stage makes and another copies; every other source is in the tree or was installed."""


def rests(word: str) -> list[str]:
    """Return what follows a keyword in the last stage."""
    return [instruction.rest for instruction in LAST if instruction.word == word]


def sources() -> list[str]:
    """Return what is copied from the tree, in any stage."""
    found = []
    for instruction in (i for stage in STAGES for i in stage if i.word == "COPY"):
        *given, _ = instruction.rest.split()
        if given[0].startswith("--from="):
            assert given[0].removeprefix("--from=") in NAMES
        else:
            found += given
    return found


def is_sent(path: str) -> bool:
    """Return whether the build receives a path of the tree: the last matching line of .dockerignore decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().split("\n"):
        pattern = line.strip().removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        above = [path, *map(str, PurePosixPath(path).parents)]
        names = [pattern, pattern.removeprefix("**/")]
        if any(fnmatch(place, name) for place in above for name in names):
            sent = line.startswith("!")
    return sent


def test_every_base_is_pinned() -> None:
    """Each stage begins with one exact version of an image."""
    bases = [stage[0].rest.partition(" AS ")[0] for stage in STAGES]
    assert [base for base in bases if not PINNED.fullmatch(base)] == []
    assert bases[-1] == bases[-2], "what is installed in one is copied into the other"


def test_every_copied_path_exists_and_is_sent_to_the_build() -> None:
    """Every source is in the tree, and .dockerignore includes it."""
    for source in sources():
        assert (ROOT / source).exists(), source
        assert is_sent(source), source


def test_nothing_else_of_the_tree_is_sent_to_the_build() -> None:
    """Data, environments, a page that was built here and secrets are excluded."""
    places = ("data/registry.db", ".env", ".git/config", ".venv/bin/python", "hub/http/static/index.html", "build/x")
    assert [path for path in places if is_sent(path)] == []
    assert not is_sent("dashboards/web/node_modules/vite/package.json")
    assert not is_sent("hub/__pycache__/settings.cpython-311.pyc")
    assert is_sent("hub/config/settings.py")


def test_everything_that_the_wheel_needs_is_copied() -> None:
    """The build copies the packages and the files that the build configuration names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], project["project"]["readme"]}
    needed |= {*project["project"]["license-files"], "pyproject.toml", "hatch_build.py"}
    assert needed <= set(sources())


def test_only_locked_packages_are_installed() -> None:
    """Each installation checks hashes, except that of the wheel which was just built; npm uses its lock."""
    commands = [c.strip() for s in STAGES for i in s if i.word == "RUN" for c in i.rest.split("&&")]
    installing = [
        command for command in commands if re.search(r"\bpip .*install\b|\bnpm (install|i|ci)\b|apt", command)
    ]
    assert len(installing) == 4
    for command in installing:
        locked = "--require-hashes" in command or command == "npm ci"
        assert locked or ("--no-deps" in command and command.endswith("dist/*.whl")), command


def test_it_runs_as_its_own_user_with_its_own_directory() -> None:
    """The image runs as the user that the secrets are made for, and not as root."""
    assert rests("USER") == ["hub"]
    made = " ".join(rests("RUN"))
    assert f"--uid {first_start.HUB.uid} --gid hub" in made
    assert "install -d -o hub -g hub -m 0700 /data" in made
    assert rests("VOLUME") == ["/data"]


def test_the_image_has_labels_and_a_health_check() -> None:
    """The image has labels with version and licence, a port, a health check, a stop signal and the command."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', " ".join(rests("LABEL"))))
    assert (labels["version"], labels["licenses"]) == (project["version"], project["license"])
    assert rests("EXPOSE") == ["8600"]
    assert json.loads(rests("HEALTHCHECK")[0].partition(" CMD ")[2]) == ["python", "-S", "/opt/telemetry-hub/health.py"]
    assert rests("STOPSIGNAL") == ["SIGTERM"]
    assert (rests("ENTRYPOINT"), rests("CMD")) == (['["hub"]'], ['["run"]'])


def test_the_image_alone_does_not_listen_in_clear_text() -> None:
    """The image does not assume a proxy: its operator configures how it is protected."""
    assert "BEHIND_PROXY" not in DOCKERFILE.read_text()
    assert not load_settings().access.behind_proxy
