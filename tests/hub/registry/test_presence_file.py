"""The file with the presence of devices: read as it was written, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.live.cadence import Cadences
from hub.live.presence import SavedDevice, SavedPresence
from hub.registry.presence_file import SUFFIX, read_presence, write_presence

SAVED = SavedPresence(7, {"d": SavedDevice(True, False, True, False, "silent", 5, 3)}, Cadences().save(0))


def test_the_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A second write replaces the first one."""
    path = tmp_path / "registry.db"
    write_presence(path, "hub", SavedPresence(1, {}, Cadences().save(0)))
    write_presence(path, "hub", SAVED)
    assert read_presence(path, "hub") == SAVED
    assert [file.name for file in tmp_path.iterdir()] == [f"registry.db{SUFFIX}"]


@pytest.mark.parametrize("damage", ["missing", "flipped", "cut", "other hub"])
def test_a_file_that_cannot_be_used_is_none(tmp_path: Path, damage: str) -> None:
    """The hub learns again: a wrong state could alarm."""
    path, hub = tmp_path / "registry.db", "hub"
    write_presence(path, hub, SAVED)
    file = tmp_path / f"registry.db{SUFFIX}"
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "flipped":
        file.write_bytes(content[:40] + bytes((content[40] ^ 1,)) + content[41:])
    elif damage == "cut":
        file.write_bytes(content[:-3])
    else:
        hub = "other"
    assert read_presence(path, hub) is None
