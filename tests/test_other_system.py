"""Tests that what only one system has is used in few modules of the agent, its library and the simulator."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.other_system import MODULES, PACKAGES, POSIX_ONLY, all_modules

ROOT = Path(__file__).parents[1]

HOMES = {
    "fcntl": {"device_agent.spool.file_lock", "device_agent.sources.ports.posix"},
    "msvcrt": {"device_agent.spool.file_lock"},
    "termios": {"device_agent.sources.ports.posix"},
    "tty": {"device_agent.sources.ports.posix"},
    "pty": {"device_agent.sources.ports.posix"},
    "grp": {"device_agent.sources.ports.posix"},
    "add_signal_handler": {"agent_client.signals"},
    "add_reader": {"device_agent.sources.ports.posix"},
    "start_unix_server": {"device_agent.control"},
    "open_unix_connection": {"device_agent.control"},
    "AF_UNIX": {"device_agent.control", "device_agent.supervision"},
    "killpg": {"device_agent.process_group"},
    "O_DIRECTORY": {"integrity.descriptors"},
    "O_BINARY": {"integrity.descriptors"},
    "SIGHUP": {"agent_client.signals"},
}
"""Modules that use each of them."""

FOUND_ELSEWHERE = {"O_CLOEXEC", "pwrite", "getloadavg", "fork", "getuid", "geteuid", "SOCK_CLOEXEC", *MODULES} - {
    *HOMES
}
"""Others, which are not used at all; `psutil.getloadavg` exists on every system."""


def names_in(path: Path) -> set[str]:
    """Return the modules that a file imports, and the attributes of modules that it uses."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Attribute):
            is_psutil = isinstance(node.value, ast.Name) and node.value.id == "psutil"
            found |= set() if is_psutil else {node.attr}
    return found


def test_each_of_them_has_its_modules() -> None:
    """Anywhere else it would stop the agent on the other system."""
    used: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for name in names_in(path) & (HOMES.keys() | FOUND_ELSEWHERE):
                used.setdefault(name, set()).add(module)
    elsewhere = {name: modules - HOMES.get(name, set()) for name, modules in used.items()}
    assert {name: modules for name, modules in elsewhere.items() if modules} == {}
    assert used.keys() >= {"fcntl", "msvcrt", "add_signal_handler", "AF_UNIX"}


def test_all_modules_are_known() -> None:
    """The modules that other systems do not import exist."""
    assert set(all_modules()) > POSIX_ONLY
