"""A file as lines of bytes: plain or gzip, with a bounded memory, its content's hash and how far it is read."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from importer.errors import FileError

MAX_LINE_BYTES = 1 << 20
"""A line that is longer is no record of any instrument: it comes in pieces of this size, each of which is refused."""

HEAD_BYTES = 1 << 18
"""How much of the beginning is looked at to find out what a file means."""

HEAD_LINES = 2000

BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"


class Line(NamedTuple):
    """A line with its line break, and its number, counted from 1."""

    number: int
    raw: bytes


class TextFile:
    """A file that is read from the beginning, as often as needed.

    `position` is how far the last reading came, in bytes of the file as it lies on the disk (of `size_bytes`), `digest`
    the SHA-256 of what was read, uncompressed, and `cut_off` says that a compressed file ends too early.
    """

    def __init__(self, path: Path) -> None:
        """Raises FileError where there is no such file."""
        self.path = path
        self.position = 0
        self.cut_off = False
        self._hash = hashlib.sha256()
        try:
            with path.open("rb") as file:
                beginning = file.read(4)
                self.size_bytes = file.seek(0, 2)
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error.strerror}") from None
        self._is_gzip = beginning.startswith(_GZIP)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content that was read."""
        return self._hash.digest()

    def head(self) -> list[Line]:
        """The first whole lines; of a file of one line, that one. Raises FileError."""
        lines: list[Line] = []
        size = 0
        for line in self.lines():
            lines.append(line)
            size += len(line.raw)
            if size > HEAD_BYTES or len(lines) >= HEAD_LINES:
                break
        return lines

    def lines(self) -> Iterator[Line]:
        """All lines, without the byte order mark. Raises FileError where the file cannot be read any more."""
        self.position = 0
        self.cut_off = False
        self._hash = hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                if self._is_gzip:
                    with gzip.GzipFile(fileobj=file) as content:
                        yield from self._lines(_until_cut_off(content, self), file)
                else:
                    yield from self._lines(file.readline, file)
        except (OSError, zlib.error) as error:
            raise FileError(f"{self.path} cannot be read: {error}") from error

    def _lines(self, read_line: Callable[[int], bytes], file: IO[bytes]) -> Iterator[Line]:
        number = 0
        is_whole = True
        while raw := read_line(MAX_LINE_BYTES):
            self._hash.update(raw)
            if is_whole:
                number += 1
            is_whole = raw.endswith(b"\n")
            if number & 0xFF == 0 or not is_whole:
                self.position = file.tell()
            yield Line(number, raw.removeprefix(BOM) if number == 1 else raw)
        self.position = self.size_bytes


def _until_cut_off(content: gzip.GzipFile, file: TextFile) -> Callable[[int], bytes]:
    """Reads lines until the end of a gzip file, be it a proper one or not."""

    def read_line(limit: int) -> bytes:
        try:
            return content.readline(limit)
        except EOFError:
            file.cut_off = True
            return b""

    return read_line
