"""Build of the programs of docs/clients."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.services import clients
from tests.services.built import BuildError
from tests.services.clients import ClientProgram, build_client

COPY = (sys.executable, "-c", "open('built', 'w').write(open('source').read())")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientProgram:
    """Return a program of one file; the cache is a folder of the test."""
    folder = tmp_path / "clients" / "small"
    folder.mkdir(parents=True)
    (folder / "source").write_text("1")
    monkeypatch.setattr(clients, "SOURCES", folder.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return ClientProgram("small", {}, (COPY,), ("./built",))


def test_a_program_is_built_in_a_copy_of_its_folder(program: ClientProgram) -> None:
    """The build leaves nothing beside the sources. A changed source is another program."""
    assert not program.is_built()
    folder = build_client(program)
    assert (folder / "built").read_text() == "1"
    assert [file.name for file in (clients.SOURCES / "small").iterdir()] == ["source"]
    assert program.is_built()
    assert build_client(program) == folder
    (clients.SOURCES / "small" / "source").write_text("2")
    assert not program.is_built()


def test_a_failed_build_leaves_no_program(program: ClientProgram) -> None:
    """The error has the last lines of the output."""
    broken = ClientProgram("small", {}, ((sys.executable, "-c", "raise SystemExit('no such library')"),), ())
    with pytest.raises(BuildError, match="no such library"):
        build_client(broken)
    assert not broken.is_built()


def test_a_missing_tool_is_named(program: ClientProgram) -> None:
    """The error says what to install."""
    needy = ClientProgram("small", {"no-such-compiler": "install it"}, (COPY,), ())
    with pytest.raises(BuildError, match="no no-such-compiler on the PATH: install it"):
        build_client(needy)
