"""The journal in the data directory, with the bounds of the settings."""

from __future__ import annotations

from hub.config import Settings
from hub.journal.sqlite_journal import SqliteJournal

FILE_NAME = "journal.db"


def open_journal(settings: Settings) -> SqliteJournal:
    """The journal, to be entered. Only one process has it at a time."""
    return SqliteJournal(
        settings.data / FILE_NAME,
        keep_bytes=settings.journal.keep_bytes,
        keep_seconds=settings.journal.keep_seconds,
        max_bytes=settings.journal.max_bytes,
    )
