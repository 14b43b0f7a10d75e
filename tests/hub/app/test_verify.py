"""Verification of data directories that real hubs have written."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from hub.app.errors import HubError
from hub.app.verify import DirectoryFacts, Observer, compare, verify_directory
from hub.journal.verify import JournalFacts
from hub.model.journal import JournalPosition
from hub.model.store import StoreCursor
from hub.registry.verify import RegistryFacts
from hub.storage.duckdb.verify import StoreFacts
from integrity.finding import Finding
from tests.hub.cli.hub_command import batch, commanded_hub

REGISTRY = RegistryFacts("a", frozenset({(1, "float"), (2, "float"), (2, "string")}), JournalPosition("j", 20))
JOURNAL = JournalFacts("j", 11, 20, {"store": 15})
STORE = StoreFacts("a", StoreCursor("j", 15), frozenset({(1, "float")}))


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (DirectoryFacts(REGISTRY, JOURNAL, STORE), []),
        (DirectoryFacts(None, JOURNAL, STORE), []),
        (DirectoryFacts(REGISTRY, None, STORE), []),
        (DirectoryFacts(REGISTRY, JOURNAL, None), []),
        (DirectoryFacts(REGISTRY, JOURNAL, STORE._replace(registry="b")), ["another registry.db"]),
        (DirectoryFacts(REGISTRY, JOURNAL, STORE._replace(registry="")), []),
        (
            DirectoryFacts(
                REGISTRY, JOURNAL, STORE._replace(series=frozenset({(1, "float"), (3, "float"), (4, "float")}))
            ),
            ["2 series of history.duckdb"],
        ),
        (
            DirectoryFacts(REGISTRY, JOURNAL, STORE._replace(series=frozenset({(1, "float"), (1, "integer")}))),
            ["a type of 1 series of history.duckdb"],
        ),
        (DirectoryFacts(REGISTRY, JOURNAL, STORE._replace(cursor=StoreCursor("j", 20))), []),
        (DirectoryFacts(REGISTRY, JOURNAL, STORE._replace(cursor=StoreCursor("j", 21))), ["journal.db ends at 20"]),
        (DirectoryFacts(REGISTRY, JOURNAL, STORE._replace(cursor=StoreCursor("j", 14))), ["it had it up to 15"]),
        (DirectoryFacts(REGISTRY, JOURNAL, STORE._replace(cursor=StoreCursor("other", 99))), []),
        (DirectoryFacts(REGISTRY._replace(journal=None), JOURNAL, STORE), []),
        (DirectoryFacts(None, JOURNAL._replace(recorded=JournalPosition("j", 20)), None), []),
        (DirectoryFacts(None, JOURNAL._replace(recorded=JournalPosition("j", 30)), None), ["journal.db ends at 20"]),
        (DirectoryFacts(REGISTRY._replace(journal=JournalPosition("j", 21)), JOURNAL, None), ["journal.db ends at 20"]),
        (DirectoryFacts(REGISTRY._replace(journal=JournalPosition("old", 7)), JOURNAL, STORE), ["was removed"]),
    ],
)
def test_files_that_do_not_fit_together_are_found(facts: DirectoryFacts, found: list[str]) -> None:
    """Each file is intact, and one of them is lost or of another time."""
    findings = list(compare(facts))
    assert len(findings) == len(found)
    for finding, what in zip(findings, found, strict=True):
        assert finding.intact is False
        assert what in finding.what
        assert finding.consequence
        assert finding.next_step


def verified(data: Path) -> dict[str, Finding]:
    """Return the findings of a stopped hub's directory by file; the last one of a file with several."""
    findings: list[Finding] = []
    verify_directory(data, Observer(lambda name, size: None, lambda size: None, findings.append))
    return {finding.file: finding for finding in findings}


def damage(path: Path, at: float, size: int = 64) -> None:
    """Overwrite bytes at a share of the file."""
    content = bytearray(path.read_bytes())
    start = int(len(content) * at)
    content[start : start + size] = bytes(byte ^ 0x55 for byte in content[start : start + size])
    path.write_bytes(content)


@pytest.fixture(scope="module")
async def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data directory of a hub that has stored readings and was stopped, with files of every kind."""
    data = tmp_path_factory.mktemp("stopped") / "data"
    async with commanded_hub(data) as hub:
        await hub.send("pump", *(batch(seq, float(seq)) for seq in range(1, 30)))
    (data / "mqtt-plant.json").write_text('{"filters":["a/#"],"refused":[]}')
    (data / "wheels").mkdir()
    with zipfile.ZipFile(data / "wheels" / "some-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some.py", "x = 1\n" * 100)
    (data / "journal.db-wal.damaged-20260101T000000Z").write_bytes(b"damaged")
    return data


@pytest.fixture
def data(stopped: Path, tmp_path: Path) -> Path:
    """Return a copy of that directory."""
    return Path(shutil.copytree(stopped, tmp_path / "data"))


async def test_every_file_of_an_intact_directory_is_listed_and_unchanged(data: Path) -> None:
    """Nothing is damaged, and no file is created or changed by the verification, except SQLite's indexes of logs."""
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    findings = verified(data)
    assert {name: finding.intact for name, finding in findings.items()} == {
        "registry.db": True,
        "journal.db": True,
        "history.duckdb": True,
        "journal.db.lock": True,
        "registry.db.state": True,
        "mqtt-plant.json": True,
        "wheels/some-1-py3-none-any.whl": True,
        "journal.db-wal.damaged-20260101T000000Z": True,
    }
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("history.duckdb", 0.0),
        ("mqtt-plant.json", 0.0),
        ("wheels/some-1-py3-none-any.whl", 0.1),
        ("registry.db", 0.0),
        ("journal.db.lock", 0.0),
        ("registry.db.state", 0.2),
    ],
)
async def test_a_damaged_file_is_found(data: Path, name: str, at: float) -> None:
    """Its finding has a consequence and a next step, and the other files are intact."""
    damage(data / name, at)
    findings = verified(data)
    assert [file for file, finding in findings.items() if finding.intact is False] == [name]
    assert findings[name].consequence
    assert findings[name].next_step


async def test_a_history_that_was_set_aside_is_kept_for_the_rebuild(data: Path) -> None:
    """Until then it is needed; a rebuilt one is no finding, and an old log may be deleted."""
    name = "history.duckdb.damaged-20260101T000000Z"
    shutil.copy(data / "history.duckdb", data / name)
    finding = verified(data)[name]
    assert finding.intact is False
    assert "delete" not in finding.what
    assert "hub store rebuild" in finding.next_step


@pytest.mark.parametrize("name", ["registry.db", "journal.db", "history.duckdb"])
async def test_a_missing_file_is_found(data: Path, name: str) -> None:
    """The hub would begin a new one, so only a verification before its start shows the loss."""
    (data / name).unlink()
    findings = verified(data)
    assert findings[name].intact is False
    assert "missing" in findings[name].what


def test_a_directory_without_a_hub_is_refused(tmp_path: Path) -> None:
    """A wrong directory must not look intact."""
    with pytest.raises(HubError, match="there is no hub"):
        verified(tmp_path)
