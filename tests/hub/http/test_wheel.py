"""The hub's own wheel: it has the files of a built one, the same bytes each time, and pip installs it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest

from hub.http.wheel import Wheel, WheelError, make_wheel


@pytest.fixture(scope="module")
def wheel() -> Wheel:
    return make_wheel(distribution("telemetry-hub"))


def unpack(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(set(archive.namelist()))
        return {name: archive.read(name) for name in archive.namelist()}


def install(wheel: Wheel, folder: Path) -> Path:
    """Install a wheel into a new environment, without an index and without its dependencies; return the environment."""
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    file = folder / wheel.file
    file.write_bytes(wheel.content)
    command = [sys.executable, "-m", "pip", "--python", str(environment), "install", "--no-index", "--no-deps"]
    subprocess.run([*command, f"{file.as_uri()}#sha256={wheel.sha256}"], check=True, capture_output=True)
    return environment


def installed_in(environment: Path) -> Distribution:
    (folder,) = environment.glob("lib/python*/site-packages/telemetry_hub-*.dist-info")
    return PathDistribution(folder)


def test_the_same_files_give_the_same_bytes(wheel: Wheel) -> None:
    """A device can check the file against a hash that it received earlier."""
    assert make_wheel(distribution("telemetry-hub")) == wheel
    assert wheel.sha256 == hashlib.sha256(wheel.content).hexdigest()


def test_the_record_lists_every_file(wheel: Wheel) -> None:
    """With its size and hash, except the record itself."""
    files = unpack(wheel.content)
    (record,) = (name for name in files if name.endswith(".dist-info/RECORD"))
    rows = list(csv.reader(io.StringIO(files[record].decode())))
    assert [row[0] for row in rows] == list(files)
    for name, digest, size in rows:
        if name == record:
            assert (digest, size) == ("", "")
            continue
        expected = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).decode().rstrip("=")
        assert (digest, int(size)) == (f"sha256={expected}", len(files[name])), name


def test_the_wheel_contains_only_the_packages(wheel: Wheel) -> None:
    """No compiled file, no file of the installer, nothing of the rest of the source tree."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    tops = {name.partition("/")[0] for name in unpack(wheel.content)}
    assert tops == {*packages, wheel.file.rpartition("-py3")[0] + ".dist-info"}
    assert not [name for name in unpack(wheel.content) if name.endswith((".pyc", ".pth", "direct_url.json"))]


@pytest.mark.parametrize(("name", "tag"), [("pyserial", "py2.py3-none-any"), ("rich", "py3-none-any")])
def test_the_name_has_every_tag_of_a_wheel(name: str, tag: str) -> None:
    """Also for libraries that run on several versions of Python."""
    assert make_wheel(distribution(name)).file == f"{name}-{distribution(name).version}-{tag}.whl"


def test_an_installation_of_the_wheel_gives_the_same_wheel(wheel: Wheel, tmp_path: Path) -> None:
    """So a device could pass it on: from the installed files, the same bytes are made as from the source tree."""
    environment = install(wheel, tmp_path)
    assert make_wheel(installed_in(environment)) == wheel


def test_the_installed_agent_starts(wheel: Wheel, tmp_path: Path) -> None:
    """Its libraries come from elsewhere: here, from the environment of the tests."""
    environment = install(wheel, tmp_path)
    (packages,) = environment.glob("lib/python*/site-packages")
    libraries = Path(pytest.__file__).parents[1]
    (packages / "libraries.pth").write_text(str(libraries))
    assert shutil.which("device-agent", path=environment / "bin") is not None
    helped = subprocess.run(
        [environment / "bin" / "device-agent", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert helped.returncode == 0, helped.stderr
    assert "serial" in helped.stdout


def test_a_damaged_installation_gives_no_wheel(wheel: Wheel, tmp_path: Path) -> None:
    """The error names the file that is missing."""
    environment = install(wheel, tmp_path)
    (code,) = environment.glob("lib/python*/site-packages/wire/text.py")
    code.unlink()
    with pytest.raises(WheelError, match=r"wire/text\.py cannot be read"):
        make_wheel(installed_in(environment))
    (record,) = environment.glob("lib/python*/site-packages/*.dist-info/RECORD")
    record.unlink()
    with pytest.raises(WheelError, match="RECORD"):
        make_wheel(installed_in(environment))
