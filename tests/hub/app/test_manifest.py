"""Manifests of backups."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.app.manifest import (
    FILE_NAME,
    Manifest,
    ManifestError,
    describe_file,
    read_manifest,
    verify_files,
    write_manifest,
)


def written(folder: Path) -> Manifest:
    """Write a backup of two files, and return its manifest."""
    folder.mkdir()
    (folder / "wheels").mkdir()
    (folder / "journal.db").write_bytes(b"journal" * 1000)
    (folder / "wheels" / "a-1.whl").write_bytes(b"wheel")
    files = [describe_file(folder, name, lambda size_bytes: None) for name in ("journal.db", "wheels/a-1.whl")]
    manifest = Manifest(hub="h", version="1", created_ns=1, journal="j", last_offset=7, files=files)
    write_manifest(folder, manifest)
    return manifest


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Its files are intact, and only their owner can read the manifest."""
    manifest = written(tmp_path / "b")
    assert read_manifest(tmp_path / "b") == manifest
    assert (tmp_path / "b" / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert [f.intact for f in verify_files(tmp_path / "b", manifest, lambda size_bytes: None)] == [True, True]


def test_a_changed_and_a_missing_file_are_found(tmp_path: Path) -> None:
    """One byte is enough."""
    manifest = written(tmp_path / "b")
    (tmp_path / "b" / "journal.db").write_bytes(b"journal" * 999 + b"journaL")
    (tmp_path / "b" / "wheels" / "a-1.whl").unlink()
    assert [f.intact for f in verify_files(tmp_path / "b", manifest, lambda size_bytes: None)] == [False, False]


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "wheels/../../outside", "", ".hidden", "a/b/c"])
def test_a_manifest_names_no_file_outside_its_folder(tmp_path: Path, name: str) -> None:
    """A restore writes the names of the manifest into the data directory."""
    written(tmp_path / "b")
    path = tmp_path / "b" / FILE_NAME
    path.write_text(path.read_text().replace("journal.db", name))
    with pytest.raises(ManifestError, match="damaged"):
        read_manifest(tmp_path / "b")


def test_a_folder_without_a_manifest_or_with_another_format_is_no_backup(tmp_path: Path) -> None:
    """The message says what to do."""
    with pytest.raises(ManifestError, match="hub backup"):
        read_manifest(tmp_path)
    written(tmp_path / "b")
    path = tmp_path / "b" / FILE_NAME
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(ManifestError, match="install version 1"):
        read_manifest(tmp_path / "b")
