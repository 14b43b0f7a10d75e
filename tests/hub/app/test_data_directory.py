"""The files of a data directory, by name."""

from __future__ import annotations

from pathlib import Path

from hub.app.data_directory import plain_files, set_aside_files


def test_files_are_chosen_by_their_names(tmp_path: Path) -> None:
    """Bridges and wheels belong to a backup; what a repair or a restore set aside does not."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "folder.whl").mkdir()
    for name in ("mqtt-b.json", "mqtt-a.json", "wheels/agent.whl", "wheels/notes.txt", "journal.db", "other.json"):
        (tmp_path / name).touch()
    for name in ("journal.db.damaged-20261129T000000Z", "replaced-20261129T000000Z"):
        (tmp_path / name).touch()
    assert plain_files(tmp_path) == ["mqtt-a.json", "mqtt-b.json", "wheels/agent.whl"]
    assert [path.name for path in set_aside_files(tmp_path)] == [
        "journal.db.damaged-20261129T000000Z",
        "replaced-20261129T000000Z",
    ]


def test_an_empty_directory_has_none(tmp_path: Path) -> None:
    """A hub without bridges and wheels has no such folder."""
    assert plain_files(tmp_path) == []
    assert set_aside_files(tmp_path) == []
