"""A file in pieces, its rejected lines, and the errors of the importer."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from formats.record import RefusedInput, setting_text

PIECE_BYTES = 1 << 20
"""Bytes that are read at a time: the lines of one piece can become one block."""

HEAD_BYTES = 1 << 18
"""Bytes at the beginning of a file that decide what its lines have in common."""

_GZIP = b"\x1f\x8b"


class ImportingError(Exception):
    """The import cannot start or continue; the message says what to do."""


class MappingError(ImportingError):
    """The meaning of the file is unknown or described wrongly: an option has to be set."""


class FileError(ImportingError):
    """The file cannot be read, or changed while it was read."""


class UploadError(ImportingError):
    """The hub rejects the batches, and sending them again would not help."""


class RejectedLines(NamedTuple):
    """Lines of the file, or a value in them, that are not imported.

    `line` is the number of the first line, counted from 1. `why` is the code of the reason: one of `formats`, "cut off"
    for the end of an incomplete file, or "hub" for readings that the hub put in quarantine.
    """

    line: int
    lines: int
    why: str
    message: str


def rejected(refusal: RefusedInput) -> RejectedLines:
    """Return what a refusal means for the file, in one sentence."""
    metric = f"{refusal.metric}: " if refusal.metric else ""
    setting = f"; {setting_text(refusal.setting)}" if refusal.setting else ""
    return RejectedLines(refusal.line, refusal.lines, refusal.code, f"{metric}{refusal.reason}{setting}")


class TextFile:
    """A plain or gzip file that can be read from the beginning several times, in bounded memory.

    `position` is how far the last pass has read, in bytes on the disk (of `size_bytes`). `digest` is the SHA-256 of the
    uncompressed content. `cut_off` says that a compressed file ends too early, `is_open` that the last line has no line
    end.
    """

    def __init__(self, path: Path) -> None:
        """Raises FileError if the file cannot be opened."""
        self.path = path
        self.position = 0
        self.cut_off = False
        self.is_open = False
        self._hash = hashlib.sha256()
        try:
            with path.open("rb") as file:
                self._is_gzip = file.read(len(_GZIP)) == _GZIP
                self.size_bytes = file.seek(0, 2)
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error.strerror}") from None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content that was read."""
        return self._hash.digest()

    def head(self) -> bytes:
        """Return the complete lines at the beginning, or the only line. Raises FileError."""
        head = next(self.pieces(HEAD_BYTES), b"")
        if len(head) < HEAD_BYTES:
            return head
        return head[: head.rfind(b"\n") + 1] or head

    def pieces(self, size_bytes: int = 0) -> Iterator[bytes]:
        """Yield the whole content in pieces of this size, by default PIECE_BYTES; only the last one is smaller.

        Raises FileError.
        """
        size_bytes = size_bytes or PIECE_BYTES
        self.position = 0
        self.cut_off = self.is_open = False
        self._hash = hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                content: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=file) if self._is_gzip else file
                while piece := self._read_piece(content, size_bytes):
                    self._hash.update(piece)
                    self.position = file.tell()
                    self.is_open = not piece.endswith((b"\n", b"\r", b"\0"))
                    yield piece
        except (OSError, zlib.error) as error:
            raise FileError(f"{self.path} cannot be read: {error}") from error
        self.position = self.size_bytes

    def _read_piece(self, content: IO[bytes] | gzip.GzipFile, size_bytes: int) -> bytes:
        """Return the next bytes; b"" at the end, also when a gzip file is incomplete."""
        parts: list[bytes] = []
        missing = size_bytes
        try:
            while missing and (part := content.read1(missing) if self._is_gzip else content.read(missing)):  # type: ignore[union-attr]
                parts.append(part)
                missing -= len(part)
        except EOFError:
            # What was read before the end is content.
            self.cut_off = True
        return b"".join(parts)
