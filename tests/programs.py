"""Programs of this project that run in a process of their own."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def running_module(module: str, *arguments: str, **environment: str) -> AsyncIterator[Process]:
    """Run `python -m` during the block; kill the program if it has not ended then.

    Warnings are errors. Settings in the environment of the tests do not reach the program.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "XDG_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", module, *arguments,
        stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env={**clean, **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run_module(module: str, *arguments: str, **environment: str) -> tuple[int | None, str, str]:
    """Run `python -m` until it ends; return its exit code, its output and its errors."""
    async with running_module(module, *arguments, **environment) as process:
        output, errors = await process.communicate()
        return process.returncode, output.decode(), errors.decode()
