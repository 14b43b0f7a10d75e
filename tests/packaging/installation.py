"""Build the distributions as a release does, and install the wheel into an empty environment."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import distributions
from itertools import chain
from pathlib import Path

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.lock import PYTHON_LOCK, ROOT, needed_by, read_lock


@dataclass(frozen=True)
class Distributions:
    """The files that `python -m build` makes."""

    wheel: Path
    source: Path


@dataclass(frozen=True)
class Installation:
    """An environment that holds the wheel and its locked dependencies, and nothing else."""

    folder: Path

    def command(self, name: str) -> str:
        """Return the path of one of the project's commands, as pip installed it."""
        return str(self.folder / "bin" / name)


def build_distributions(folder: Path) -> Distributions:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return Distributions(wheel=next(folder.glob("*.whl")), source=next(folder.glob("*.tar.gz")))


def install(wheel: Path, folder: Path, *, extra: str = "") -> Installation:
    """Install the wheel with one extra, or with none: locked versions only, each checked by its hash.

    Nothing is resolved here, so the installed packages prove that the lock is complete for this extra.
    """
    venv.create(folder, with_pip=False)
    with zipfile.ZipFile(wheel) as archive:
        metadata_file = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Metadata.from_email(archive.read(metadata_file), validate=False)
    own_name = canonicalize_name(metadata.name)
    wanted = Requirement(f"{own_name}[{extra}]" if extra else own_name)
    own_lines = [str(requirement) for requirement in metadata.requires_dist or []]
    names = needed_by([wanted], not_installed={own_name: own_lines}) - {own_name}
    lock = read_lock(PYTHON_LOCK)
    own_line = f"{own_name} @ {wheel.as_uri()} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join([*chain.from_iterable(lock[name] for name in sorted(names)), own_line]))
    pip = (sys.executable, "-m", "pip", "--python", str(folder), "--quiet")
    run(*pip, "install", "--no-deps", "--no-compile", "--require-hashes", "-r", str(requirements))
    run(*pip, "check")
    places = [str(place) for place in folder.glob("lib/python*/site-packages")]
    installed = {canonicalize_name(found.name) for found in distributions(path=places)}
    assert installed == names | {own_name}
    return Installation(folder)


def run(*command: str) -> None:
    """Run a program to its end; a failure shows its output."""
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{' '.join(command)}\n{finished.stdout}{finished.stderr}"
