"""Skipped tests are visible in continuous integration, in both languages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import NO_DISK_TO_CUT, is_forbidden, main

ROOT = Path(__file__).parent.parent


def report(folder: Path, *statuses: str) -> Path:
    tests = [{"fullName": f"test {index}", "status": status} for index, status in enumerate(statuses)]
    path = folder / "report.json"
    path.write_text(json.dumps({"testResults": [{"name": "/x/chart.test.ts", "assertionResults": tests}]}))
    return path


@pytest.mark.parametrize("status", ["skipped", "pending", "todo"])
def test_a_typescript_test_that_did_not_run_fails_ci(
    status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With CI=true a skipped or planned test ends the run with 1 and is named."""
    monkeypatch.setenv("CI", "true")
    assert main(report(tmp_path, "passed", status)) == 1
    assert "chart.test.ts: test 1" in capsys.readouterr().err


def test_a_typescript_test_may_be_skipped_by_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CI a skipped test is only reported."""
    monkeypatch.delenv("CI", raising=False)
    assert main(report(tmp_path, "passed", "skipped")) == 0


def test_a_run_without_a_report_fails(tmp_path: Path) -> None:
    """Tests that never started do not count as passed."""
    assert main(tmp_path / "none.json") == 1


WAYS_TO_SKIP = {
    "call": "import pytest\ndef test_it(): pytest.skip('skipped by call')",
    "mark": "import pytest\n@pytest.mark.skip('skipped by mark')\ndef test_it(): pass",
    "module": "import pytest\npytest.skip('skipped by module', allow_module_level=True)",
}


@pytest.mark.parametrize(("ci", "outcome"), [("true", "failed"), ("", "skipped")])
def test_a_python_test_that_is_skipped_fails_ci(ci: str, outcome: str, tmp_path: Path) -> None:
    """With CI=true every kind of skip is a failure that has its reason; other outcomes stay."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_ran.py").write_text("def test_ran(): pass")
    for way, source in WAYS_TO_SKIP.items():
        (tmp_path / f"test_{way}.py").write_text(source)
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-ra",
            "--continue-on-collection-errors",
            str(tmp_path),
        ],
        cwd=tmp_path,
        env={**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    for way in WAYS_TO_SKIP:
        assert f"skipped by {way}" in ran.stdout
    if outcome == "failed":
        assert "1 failed, 1 passed, 2 errors" in ran.stdout
        assert ran.returncode == 1
    else:
        assert "1 passed, 3 skipped" in ran.stdout
        assert ran.returncode == 0


def test_only_a_machine_without_devices_may_skip_in_continuous_integration(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program is a failure there, because it can be installed; missing loop devices are not."""
    monkeypatch.setenv("CI", "true")
    assert is_forbidden("no eatmydata on the PATH: install the package eatmydata")
    assert not is_forbidden(f"Skipped: {NO_DISK_TO_CUT}")
