"""Checks of the locks: complete, hashed, and without the address of a registry."""

from __future__ import annotations

import json
import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.lock import (
    BUILD_LOCK,
    FUZZ_LOCK,
    HUB_LOCK,
    NODE_LOCK,
    NPM_LOCK,
    PYTHON_LOCK,
    ROOT,
    needed_by,
    read_lock,
)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED = re.compile(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==(?P<version>\S+)")
OWN_NAME = canonicalize_name(PROJECT["project"]["name"])
ASKED = [
    requirement
    for requirement in map(
        Requirement,
        [
            *PROJECT["project"]["dependencies"],
            *PROJECT["project"]["optional-dependencies"]["hub"],
            *PROJECT["project"]["optional-dependencies"]["sim"],
            *PROJECT["dependency-groups"]["dev"],
            *PROJECT["build-system"]["requires"],
        ],
    )
    if canonicalize_name(requirement.name) != OWN_NAME
]


@pytest.mark.parametrize(
    "path", [PYTHON_LOCK, HUB_LOCK, BUILD_LOCK, FUZZ_LOCK, NODE_LOCK], ids=lambda path: str(path.name)
)
def test_every_locked_distribution_is_pinned_and_hashed(path: Path) -> None:
    """A lock entry is one exact version with at least one sha256."""
    for entry in chain.from_iterable(read_lock(path).values()):
        assert PINNED.match(entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


@pytest.mark.parametrize("requirement", ASKED, ids=str)
def test_the_lock_satisfies_the_requirements_of_the_project(requirement: Requirement) -> None:
    """Every requirement of pyproject.toml is locked at a version that it allows."""
    for entry in read_lock(PYTHON_LOCK)[canonicalize_name(requirement.name)]:
        pinned = PINNED.match(entry)
        assert pinned is not None
        assert requirement.specifier.contains(pinned["version"]), entry.splitlines()[0]


@pytest.mark.parametrize(
    "path", [PYTHON_LOCK, HUB_LOCK, BUILD_LOCK, FUZZ_LOCK, NODE_LOCK, NPM_LOCK], ids=lambda path: str(path.name)
)
def test_no_lock_names_a_registry(path: Path) -> None:
    """A lock holds no download address, so that it works with any registry or mirror."""
    text = path.read_text()
    assert '"resolved"' not in text
    assert "--index-url" not in text
    assert "--find-links" not in text
    assert not re.search(r"https?://\S+\.(tgz|whl|tar\.gz)", text)


def test_the_npm_lock_knows_every_platform() -> None:
    """Each optional package of a platform is in the npm lock, so that `npm ci` works on all platforms.

    npm omits a package that its registry lacks when the lock is written, and then `npm ci` fails everywhere.
    """
    packages = json.loads(NPM_LOCK.read_bytes())["packages"]
    for place, package in packages.items():
        for name in package.get("optionalDependencies", {}):
            nested = f"{place}/node_modules/{name}"
            assert nested in packages or f"node_modules/{name}" in packages, f"{place} wants {name}"
            assert packages.get(nested, packages.get(f"node_modules/{name}")).get("version"), name


def test_the_needed_part_of_the_lock_has_indirect_dependencies() -> None:
    """The part of the lock that an installation needs has the indirect dependencies and nothing else."""
    needed = needed_by([Requirement("pydantic-settings")])
    assert {"pydantic-settings", "pydantic", "pydantic-core"} <= needed
    assert "duckdb" not in needed


def pins(entries: list[str]) -> set[str]:
    """Return the versions and hashes without their origins and markers."""
    lines = (line.strip() for entry in entries for line in entry.splitlines())
    return {line.partition(" ;")[0].removesuffix(" \\") for line in lines if not line.startswith("#")}


@pytest.mark.parametrize("path", [HUB_LOCK, BUILD_LOCK], ids=lambda path: str(path.name))
def test_the_image_installs_what_the_tests_run_with(path: Path) -> None:
    """The image's locks are parts of the lock that the tests run with."""
    tested, image = read_lock(PYTHON_LOCK), read_lock(path)
    assert {name: pins(image[name]) for name in image} == {name: pins(tested[name]) for name in image}


def test_the_image_s_lock_is_complete() -> None:
    """The image's lock has everything that the hub needs, so that an image build resolves nothing."""
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [*PROJECT["project"]["dependencies"], *extras["hub"], *extras["sim"]]
    wanted = [r for r in map(Requirement, asked) if canonicalize_name(r.name) != OWN_NAME]
    assert needed_by(wanted) - read_lock(HUB_LOCK).keys() == set()
    assert needed_by(map(Requirement, PROJECT["dependency-groups"]["build"])) - read_lock(BUILD_LOCK).keys() == set()
    assert PROJECT["dependency-groups"]["build"] == PROJECT["build-system"]["requires"]
