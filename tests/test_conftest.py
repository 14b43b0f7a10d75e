"""Rules of every test, shown by tests that break them in a run of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

BAD_TESTS = """
import asyncio, warnings
import pytest
from hypothesis import given, strategies

@pytest.mark.deadline(0.1)
async def test_hangs():
    await asyncio.Event().wait()

@pytest.mark.deadline(0.1)
@given(number=strategies.just(1))
async def test_property_hangs(number):
    await asyncio.Event().wait()

async def test_forgets_a_task():
    async def fail():
        raise RuntimeError("nobody waited for this")
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    del task
    await asyncio.sleep(0)

def test_warns():
    warnings.warn("mind this", DeprecationWarning)

async def test_is_fine():
    loop = asyncio.get_running_loop()
    assert loop.get_debug()
    assert 0 < len(loop.create_future()._source_traceback) <= 10
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return pytest's output for the bad tests, run with this project's configuration."""
    folder = tmp_path_factory.mktemp("rules")
    (folder / "conftest.py").write_text("from tests.conftest import *\n")
    (folder / "test_bad.py").write_text(BAD_TESTS)
    options = ("-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}", "-p", "no:cacheprovider")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        ("test_hangs", "TimeoutError"),
        ("test_property_hangs", "TimeoutError"),
        ("test_forgets_a_task", "RuntimeError: nobody waited for this"),
        ("test_warns", "DeprecationWarning: mind this"),
    ],
)
def test_a_test_that_breaks_a_rule_fails(test: str, outcome: str, printed: str) -> None:
    """A hang ends at its deadline; an exception in an abandoned task and a warning are failures."""
    assert f"FAILED test_bad.py::{test} - {outcome}" in printed, printed


def test_an_async_test_needs_no_mark(printed: str) -> None:
    """A test needs only `async def test_...` to run on asyncio in its debug mode."""
    assert "4 failed, 1 passed" in printed, printed


def test_each_run_lists_the_services_that_it_found(printed: str) -> None:
    """The header of a run names every service, with its version or why it is missing."""
    head = printed.partition("collected ")[0]
    assert "services:" in head
    assert "chromium" in head
