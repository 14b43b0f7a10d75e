from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.hub_process import slow_disk

DELAY_MS = 50.0

SQLITE = """
import sys, time, apsw
writer = apsw.Connection(sys.argv[1])
writer.pragma("journal_mode", "wal")
writer.pragma("synchronous", "full")
writer.execute("create table t (x)")
began = time.monotonic()
for i in range(3):
    writer.execute("insert into t values (?)", (i,))
print(time.monotonic() - began)
"""

DUCKDB = """
import sys, time, duckdb
writer = duckdb.connect(sys.argv[1])
writer.execute("create table t (x integer)")
began = time.monotonic()
for i in range(3):
    writer.execute("insert into t values (?)", (i,))
print(time.monotonic() - began)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler: install gcc")
@pytest.mark.parametrize("commits", [SQLITE, DUCKDB], ids=["SQLite", "DuckDB"])
def test_every_commit_waits_for_the_slow_disk(tmp_path: Path, commits: str) -> None:
    """Each of three commits takes at least the delay, with SQLite and with DuckDB."""
    finished = subprocess.run(
        [sys.executable, "-c", commits, str(tmp_path / "t.db")],
        env=os.environ | slow_disk(tmp_path / "build", DELAY_MS),
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(finished.stdout) >= 3 * DELAY_MS / 1000
