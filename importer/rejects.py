"""The rejected lines of a file, copied unchanged to a file of their own, with the header that they need."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from formats.framing import MAX_LINE_BYTES
from importer.records import TextFile

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r(?=[^\n]))")
r"""A line with its end. A \r at the end of a piece can be the first half of \r\n."""

_UTF_8_MARK = b"\xef\xbb\xbf".decode("latin-1")


class LineNumbers:
    """Set of line numbers in an eighth of a byte for each line of the file."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def __bool__(self) -> bool:
        return bool(self._bits)

    def __contains__(self, line: int) -> bool:
        return line >> 3 < len(self._bits) and bool(self._bits[line >> 3] & (1 << (line & 7)))

    def add(self, first: int, count: int = 1) -> None:
        """Add a line and those behind it."""
        missing = ((first + count) >> 3) + 1 - len(self._bits)
        if missing > 0 and count:
            self._bits.extend(bytes(missing))
        for line in range(first, first + count):
            self._bits[line >> 3] |= 1 << (line & 7)


def copy_lines(
    file: TextFile, path: Path, rejected: LineNumbers, *, header: Collection[int], annotated: bool, encoding: str
) -> None:
    """Write the header and the rejected lines of a file to another file.

    An annotated file has a header before each table; it is written before the first rejected line of its table. Raises
    FileError and OSError.
    """
    codec = _codec_of(file, encoding)
    encode = codecs.getincrementalencoder(codec)().encode
    table: list[str] = []
    is_table_header = False
    with path.open("wb") as copy:
        for number, text in _lines(file, codec):
            if annotated and text.removeprefix(_UTF_8_MARK).startswith("#"):
                table = [*table, text] if is_table_header else [text]
                is_table_header = True
            elif annotated and is_table_header and text.strip():
                table.append(text)
                is_table_header = False
            elif number in header:
                copy.write(encode(text))
            elif number in rejected:
                copy.write(encode("".join(table) + text))
                if not text.endswith(("\n", "\r")):
                    copy.write(encode("\n"))
                table = []


def _codec_of(file: TextFile, encoding: str) -> str:
    """Return a codec that gives the bytes of a line back. In all but the wide encodings a line end is a byte."""
    head = file.head()[:4]
    if encoding == "auto":
        if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
            return "utf-32"
        return "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin-1"
    return encoding if "\r\n".encode(encoding) != b"\r\n" else "latin-1"


def _lines(file: TextFile, codec: str) -> Iterator[tuple[int, str]]:
    """Yield the lines with their ends and numbers. A very long line comes in pieces of one number."""
    decoder = codecs.getincrementaldecoder(codec)("replace")
    number = 1
    rest = ""
    for piece in file.pieces():
        rest += decoder.decode(piece)
        end = 0
        for found in _LINE.finditer(rest):
            yield number, found[0]
            number += 1
            end = found.end()
        rest = rest[end:]
        if len(rest) > MAX_LINE_BYTES:
            yield number, rest[:-1]
            rest = rest[-1:]
    rest += decoder.decode(b"", final=True)
    if rest:
        yield number, rest
