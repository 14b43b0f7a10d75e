"""The parts of a file: lines, rows of readings and rejected records; the errors of the importer."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple

from wire.model import Value

MAX_LINE_BYTES = 1 << 20
"""A longer line is not a record. It arrives in pieces of this size, each of which is rejected."""

HEAD_BYTES = 1 << 18
"""Bytes at the beginning of a file from which its mapping is detected."""

HEAD_LINES = 2000

BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"


class ImportingError(Exception):
    """The import cannot start or continue; the message says what to do."""


class MappingError(ImportingError):
    """The meaning of the file is unknown or described wrongly: an option has to be set."""


class FileError(ImportingError):
    """The file cannot be read, or changed while it was read."""


class UploadError(ImportingError):
    """The hub rejects the batches, and sending them again would not help."""


class FileRow(NamedTuple):
    """The readings of one device at one time, from one record of the file.

    `line` is the number of the record's first line, counted from 1; `raw` is the record as it is in the file, with its
    line breaks. Rows of one `group` mostly have the same metrics and are sent together. `values` contains no None.
    """

    line: int
    raw: bytes
    device: str
    group: str
    time_ns: int
    values: dict[str, Value]


RejectReason = Literal["encoding", "syntax", "time", "device", "metric", "value", "type", "limit", "cut off", "hub"]
"""The kind of problem of a record, for counting. "hub": the hub put it in quarantine."""


class RecordProblem(Exception):
    """A record cannot be imported; the reason becomes a RejectedRecord."""

    def __init__(self, why: RejectReason, message: str) -> None:
        super().__init__(message)
        self.why = why
        self.message = message


class RejectedRecord(NamedTuple):
    """A record that is not imported. It is rejected as a whole, so that the corrected line can be imported once."""

    line: int
    raw: bytes
    why: RejectReason
    message: str


class Line(NamedTuple):
    """A line with its line break, and its number, counted from 1."""

    number: int
    raw: bytes


class TextFile:
    """A plain or gzip file that can be read from the beginning several times, in bounded memory.

    `position` is how far the last pass has read, in bytes on the disk (of `size_bytes`). `digest` is the SHA-256 of the
    uncompressed content. `cut_off` says that a compressed file ends too early.
    """

    def __init__(self, path: Path) -> None:
        """Raises FileError if the file cannot be opened."""
        self.path = path
        self.position = 0
        self.cut_off = False
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

    def head(self) -> list[Line]:
        """Return the first complete lines, or the only line. Raises FileError."""
        lines: list[Line] = []
        size = 0
        for line in self.lines():
            lines.append(line)
            size += len(line.raw)
            if size > HEAD_BYTES or len(lines) >= HEAD_LINES:
                break
        return lines

    def lines(self) -> Iterator[Line]:
        """Yield all lines, without the byte order mark. Raises FileError."""
        self.position = 0
        self.cut_off = False
        self._hash = hashlib.sha256()
        number = 0
        is_whole = True
        try:
            with self.path.open("rb") as file:
                content: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=file) if self._is_gzip else file
                while raw := self._read_line(content):
                    self._hash.update(raw)
                    if is_whole:
                        number += 1
                    is_whole = raw.endswith(b"\n")
                    if number & 0xFF == 0 or not is_whole:
                        self.position = file.tell()
                    yield Line(number, raw.removeprefix(BOM) if number == 1 else raw)
        except (OSError, zlib.error) as error:
            raise FileError(f"{self.path} cannot be read: {error}") from error
        self.position = self.size_bytes

    def _read_line(self, content: IO[bytes] | gzip.GzipFile) -> bytes:
        """Return the next line; b"" at the end, also when a gzip file is incomplete."""
        try:
            return content.readline(MAX_LINE_BYTES)
        except EOFError:
            self.cut_off = True
            return b""
