"""The files of a data directory: which there are, and which of them a backup contains."""

from __future__ import annotations

from pathlib import Path

from hub.app.errors import HubError
from hub.http.routes.download import LIBRARIES
from hub.journal.schema import FILE_NAME as JOURNAL_FILE
from hub.registry.database import FILE_NAME as REGISTRY_FILE
from hub.storage.duckdb.database import FILE_NAME as DUCKDB_FILE
from hub.storage.influxdb.state import FILE_NAME as INFLUXDB_FILE

DATABASES = (JOURNAL_FILE, REGISTRY_FILE)
"""SQLite databases. Their logs and locks belong to them."""

STORE_FILES = (DUCKDB_FILE, f"{DUCKDB_FILE}.wal", INFLUXDB_FILE)
"""Files that do not change during a hold on the store."""

BRIDGE_FILES = "mqtt-*.json"

RESTORING = "restoring"
"""Folder for files of a restore that do not have their names yet. The next restore removes it."""

REPLACED = "replaced-"
"""Beginning of the name of a folder with the files that a restore has replaced; the rest is the time."""

__all__ = [
    "BRIDGE_FILES",
    "DATABASES",
    "DUCKDB_FILE",
    "INFLUXDB_FILE",
    "JOURNAL_FILE",
    "LIBRARIES",
    "REGISTRY_FILE",
    "REPLACED",
    "RESTORING",
    "STORE_FILES",
    "check_hub",
    "check_restored",
    "interrupted_restore",
    "plain_files",
    "set_aside_files",
]


def plain_files(data: Path) -> list[str]:
    """Return the names of the files that are replaced as a whole when they change: they can be copied at any time."""
    wheels = (path for path in sorted((data / LIBRARIES).glob("*.whl")) if path.is_file())
    return [path.name for path in sorted(data.glob(BRIDGE_FILES))] + [f"{LIBRARIES}/{path.name}" for path in wheels]


def check_hub(data: Path) -> None:
    """Raise HubError if there is no hub in the directory. Nothing is created there."""
    if not (data / REGISTRY_FILE).exists():
        raise HubError(f"there is no hub in {data}: set --data or HUB_DATA to its data directory")


def check_restored(data: Path) -> None:
    """Raise HubError if a restore into this directory was interrupted."""
    if (interrupted := interrupted_restore(data)) is not None:
        raise HubError(interrupted)


def interrupted_restore(data: Path) -> str | None:
    """Return what an interrupted restore into this directory means, and what to do; None if none was interrupted.

    An empty folder is left by a restore whose files all have their names.
    """
    folder = data / RESTORING
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    return (
        f"a restore into {data} was interrupted: its files may be of different times. Run `hub restore` again, with "
        f"--replace. To keep the files from before instead, move those in the newest folder {REPLACED}TIME back, if "
        f"there is one, and delete the folder {RESTORING}"
    )


def set_aside_files(data: Path) -> list[Path]:
    """Return the files and folders that a repair or a restore has set aside."""
    return sorted([*data.glob("*.damaged-*"), *data.glob(f"{REPLACED}*")])
