from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

COMMITS = """
import sys, time, apsw
from bench.slow_disk import SlowDisk
disk = SlowDisk(0.05)
path = sys.argv[1]
writer = apsw.Connection(path)
writer.pragma("journal_mode", "wal")
writer.pragma("synchronous", "full")
writer.execute("create table t (x)")
reader = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
began = time.monotonic()
for i in range(3):
    writer.execute("insert into t values (?)", (i,))
print(time.monotonic() - began, reader.execute("select count(*) from t").get)
writer.close()
reader.close()
"""


def test_every_commit_waits_for_the_slow_disk(tmp_path: Path) -> None:
    """Each of three commits takes at least the delay, what was written is there, and a reader closes in peace.

    In a process of its own, because a VFS is the default of a whole process.
    """
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMMITS, str(tmp_path / "t.db")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    took_s, rows = said.stdout.split()
    assert float(took_s) >= 3 * 0.05
    assert rows == "3"
    assert said.stderr == ""
