"""What can go wrong with an import as a whole; a line that cannot be taken is no error, but a Refusal."""

from __future__ import annotations


class ImportingError(Exception):
    """The import cannot be done, or cannot go on; the message says what to do."""


class MappingError(ImportingError):
    """What the file means is not known, or was told wrongly: something has to be told with an option."""


class FileError(ImportingError):
    """The file cannot be read, or changed while it was being read."""


class UploadError(ImportingError):
    """The hub does not take what is sent, and sending it again would not help."""
