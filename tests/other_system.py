"""A program that runs another one as on a system without the modules and functions that only POSIX or Linux has.

Arguments: a module with `main`, and its arguments; or `library`, the URL of a hub, a token and a spool, which imports
every module, too. The standard
library and the libraries of others stay those of this system, so they are imported before anything is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import os
import pkgutil
import signal
import subprocess
import sys
import types
from typing import Any, NoReturn

PACKAGES = ("wire", "formats", "integrity", "agent_client", "device_agent", "device_sim")

MODULES = ("fcntl", "termios", "tty", "pty", "grp", "pwd", "resource", "syslog", "uvloop", "crypt", "spwd", "nis")

FUNCTIONS = (
    "fork", "forkpty", "pwrite", "pread", "pwritev", "preadv", "killpg", "setsid", "setpgid", "getpgid", "getuid",
    "geteuid", "getgid", "getloadavg", "fchmod", "fchown", "chown", "mkfifo", "sysconf", "statvfs", "getgrouplist",
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK",
)  # fmt: skip

SIGNALS = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM")

POSIX_ONLY = {"device_agent.sources.ports.posix"}
"""Modules that are not imported on other systems."""


def all_modules() -> list[str]:
    """Return the names of all modules of the agent, its library and the simulator."""
    return [
        found.name
        for package in PACKAGES
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
        if not found.name.endswith("__main__")
    ]


def become_windows() -> None:
    """Import the libraries, and remove what Windows does not have."""
    for name in all_modules():
        with contextlib.suppress(ImportError):  # a library that is not installed
            importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]
    sys.modules["msvcrt"] = _msvcrt()
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in FUNCTIONS:
        with contextlib.suppress(AttributeError):
            delattr(os, name)
    for name in SIGNALS:
        delattr(signal, name)
    loop: Any = asyncio.SelectorEventLoop
    for name in ("add_signal_handler", "remove_signal_handler", "add_reader", "add_writer"):
        setattr(loop, name, _not_implemented)
    for name in ("start_unix_server", "open_unix_connection"):
        delattr(asyncio, name)
    # A test can send no Ctrl-Break.
    signal.SIGBREAK = signal.SIGTERM  # type: ignore[attr-defined]
    subprocess.CREATE_NEW_PROCESS_GROUP = 0  # type: ignore[attr-defined]
    os.O_BINARY = 0  # type: ignore[attr-defined]
    sys.platform = "win32"


def _not_implemented(*arguments: object) -> NoReturn:
    raise NotImplementedError


def _msvcrt() -> types.ModuleType:
    """Return the one function of Windows' library that the agent calls, by the lock of ranges that POSIX has."""
    module: Any = types.ModuleType("msvcrt")
    lock, exclusive = fcntl.lockf, fcntl.LOCK_EX | fcntl.LOCK_NB
    module.LK_NBLCK = 2

    def locking(descriptor: int, mode: int, size: int) -> None:
        assert mode == module.LK_NBLCK
        lock(descriptor, exclusive, size, 0, os.SEEK_CUR)

    module.locking = locking
    found: types.ModuleType = module
    return found


async def use_library(url: str, token: str, spool: str) -> None:
    """Send readings with the library."""
    from device_agent import Agent

    async with Agent(url, device="library", token=token, spool=spool) as agent:
        for number in range(100):
            await agent.send({"n": number})
        await agent.drain(30)


def main() -> None:
    """Run the program."""
    become_windows()
    name, *arguments = sys.argv[1:]
    if name == "library":
        for module in set(all_modules()) - POSIX_ONLY:
            importlib.import_module(module)
        asyncio.run(use_library(*arguments))
    else:
        sys.argv = [name, *arguments]
        importlib.import_module(name).main()


if __name__ == "__main__":
    main()
