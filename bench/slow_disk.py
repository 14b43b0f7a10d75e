"""A slower disk for one program: each fsync and fdatasync takes some milliseconds more, and nothing else changes."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


class NoCompiler(Exception):
    """There is no C compiler to make the slower disk with."""


def slow_disk(directory: Path, delay_ms: float) -> dict[str, str]:
    """The environment of a program whose every fsync is to take so much longer, of SQLite's files and of DuckDB's.

    `directory` is where the library that does it is built. Raises NoCompiler.
    """
    library = directory / "slow_disk.so"
    command = ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    directory.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        raise NoCompiler("a slower disk needs a C compiler: install gcc") from None
    return {"LD_PRELOAD": str(library.resolve()), "FSYNC_DELAY_US": str(round(delay_ms * 1000))}
