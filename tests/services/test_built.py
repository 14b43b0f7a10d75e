"""Build of the servers for tests."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.services import built
from tests.services.built import INFLUXDB2, BuildError, Source, build, built_path

PROGRAM = 'package main\n\nfunc main() { println(version) }\n\nvar version = ""\n'


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Return a Go module of one line instead of a server; the cache is a folder of the test."""
    if shutil.which("go") is None:
        pytest.skip("no go on the PATH: install Go 1.24 or newer (go.dev/dl)")
    module = tmp_path / "small"
    module.mkdir()
    (module / "go.mod").write_text("module small\n\ngo 1.24\n")
    (module / "go.sum").write_text("")
    (module / "main.go").write_text(PROGRAM)
    asked = subprocess.run(["go", "env", "GOCACHE"], capture_output=True, text=True, check=True)
    # Go's own cache would move as well, and its library would be built again.
    monkeypatch.setenv("GOCACHE", asked.stdout.strip())
    monkeypatch.setattr(built, "HERE", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Source("small", "small", "1.2.3")


def test_a_built_program_is_found_by_the_next_caller(source: Source) -> None:
    """Two concurrent builds give one program, a later caller finds it, and another version is built separately."""
    paths: list[Path] = []
    builders = [threading.Thread(target=lambda: paths.append(build(source))) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert paths == [built_path(source)] * 2
    made = paths[0].stat()
    assert build(source).stat().st_mtime_ns == made.st_mtime_ns
    (built.HERE / "small" / "go.sum").write_text("\n")
    assert not built_path(source).exists()


def test_a_build_that_fails_says_why(source: Source) -> None:
    """A failed build leaves nothing that looks like a program."""
    (built.HERE / "small" / "main.go").write_text("package main\n\nfunc main() { nonsense }\n")
    with pytest.raises(BuildError, match=r"undefined: nonsense"):
        build(source)
    assert not built_path(source).exists()


def test_a_missing_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the tool and what to install."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=r"no go on the PATH.*install Go"):
        build(INFLUXDB2)
