"""Rules of the package wire as a whole."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import wire

MODULES = sorted(Path(wire.__file__).parent.glob("*.py"))
PURE = {
    "__future__",
    "array",
    "collections.abc",
    "dataclasses",
    "datetime",  # its calendar; the clock is excluded below
    "decimal",
    "enum",
    "json",
    "math",
    "msgspec",
    "re",
    "struct",
    "sys",  # its byte order
    "typing",
    "wire",
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_nothing_that_has_a_clock_a_file_or_a_socket(path: Path) -> None:
    """A module imports only wire itself and modules that compute, and does not read the clock of datetime."""
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"\.(now|utcnow|today)\(", source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported = {node.module or ""}
        else:
            continue
        assert {name if name in PURE else name.split(".")[0] for name in imported} <= PURE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_opens_and_prints_nothing(path: Path) -> None:
    """The built-in functions that reach outside are not called."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not {call.id for call in calls if isinstance(call, ast.Name)} & {"open", "print", "input", "exec", "eval"}
