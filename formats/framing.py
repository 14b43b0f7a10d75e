"""Framing: bytes of a stream or a file to frames, in bounded memory. Cutting the stream anywhere changes nothing."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from formats.record import MAX_RAW_BYTES, RefusedInput, TextFrame

MAX_LINE_BYTES = 1 << 20
"""Longest line of a file. An input from a slow device passes a smaller bound."""

MAX_RECORD_LINES = 64
"""Lines of one record. It limits the work for a quote that is never closed."""

BOM = b"\xef\xbb\xbf"
_BOMS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_LONGEST_BOM = 4
_UNORDERED = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}
"""Encodings that need a byte order mark, and the ones that are used without it: little-endian, as on most machines."""


class Transcoder:
    """Decoder of an encoding to UTF-8, so that everything behind it reads one encoding.

    "auto" is UTF-8, or UTF-16 and UTF-32 with a byte order mark; bytes that are not valid are left as they are.
    `decoded_from` is the encoding that was decoded, "" for none. Bytes that it does not have become U+FFFD.
    """

    def __init__(self, encoding: str = "auto") -> None:
        self.decoded_from = ""
        self._encoding = "utf-8" if encoding == "auto" else codecs.lookup(encoding).name
        self._begin: bytes | None = b"" if self._encoding in ("utf-8", *_UNORDERED) else None
        self._decoder: codecs.IncrementalDecoder | None = None
        if self._begin is None:
            self._use(encoding)

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """Return the next bytes in UTF-8 without a byte order mark."""
        if self._begin is not None:
            self._begin += data
            if len(self._begin) < _LONGEST_BOM and not final:
                return b""
            data, self._begin = self._begin, None
            marked = next((name for mark, name in _BOMS if data.startswith(mark)), "")
            if marked or self._encoding in _UNORDERED:
                self._use(marked or _UNORDERED[self._encoding])
            else:
                data = data.removeprefix(BOM)
        if self._decoder is None:
            return data
        # A surrogate cannot be encoded in UTF-8, and only invalid input has one.
        return self._decoder.decode(data, final).encode("utf-8", "replace")

    def _use(self, encoding: str) -> None:
        self.decoded_from = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")


class LineFraming:
    r"""Splitter of bytes into lines that end with \n, \r\n or \r. Blank lines are counted and not returned.

    A longer line than `max_bytes` is discarded and becomes one refusal with its beginning.
    """

    def __init__(self, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rest = b""
        self._line = 0
        self._dropped: bytes | None = None

    def feed(self, data: bytes) -> list[TextFrame | RefusedInput]:
        """Return the frames that are now complete."""
        return self._split(self._rest + data, final=False)

    def complete_lines(self, data: bytes) -> tuple[int, bytes]:
        """Return the number of the next line, and the complete lines that these bytes would give.

        They are not taken: `skip` takes them as they are, `feed` splits them.
        """
        if self._dropped is not None:
            return self._line + 1, b""
        whole = self._rest + data
        return self._line + 1, whole[: whole.rfind(b"\n") + 1]

    def skip(self, data: bytes, taken: bytes) -> None:
        """Keep what is behind the complete lines of these bytes, which another reader took."""
        self._rest = (self._rest + data)[len(taken) :]
        self._line += taken.count(b"\n")

    def finish(self) -> list[TextFrame | RefusedInput]:
        """Return the last line of an input that does not end with a line end."""
        return self._split(self._rest, final=True)

    def _split(self, data: bytes, *, final: bool) -> list[TextFrame | RefusedInput]:
        if b"\r" in data:
            # A \r at the end can be the first half of \r\n.
            held = b"\r" if data.endswith(b"\r") and not final else b""
            data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        *lines, rest = data.split(b"\n")
        if final and rest:
            lines.append(rest)
            rest = b""
        found: list[TextFrame | RefusedInput] = []
        limit = self._max_bytes
        for raw in lines:
            self._line += 1
            if self._dropped is not None:
                found.append(self._overlong(self._dropped))
                self._dropped = None
            elif len(raw) > limit:
                found.append(self._overlong(raw))
            elif raw and not raw.isspace():
                found.append(TextFrame(self._line, raw))
        if self._dropped is not None:
            rest = rest[-1:] if rest.endswith(b"\r") else b""
        elif len(rest) - rest.endswith(b"\r") > limit:
            self._dropped, rest = rest[:limit], rest[-1:] if rest.endswith(b"\r") else b""
        if final and self._dropped is not None:
            self._line += 1
            found.append(self._overlong(self._dropped))
            self._dropped = None
        self._rest = rest
        return found

    def _overlong(self, raw: bytes) -> RefusedInput:
        reason = f"the line is longer than {self._max_bytes:,} bytes; check the speed of the port or the format"
        return RefusedInput(self._line, raw[: min(self._max_bytes, MAX_RAW_BYTES)], "size", reason)


class RecordJoiner:
    """Joiner of lines that one record in quotes spans.

    `is_open` returns whether a quote is open at the end of some bytes, `is_record` whether a line is a full record by
    itself. An open quote ends at the next line that is a full record: then it costs its own line only.
    """

    def __init__(self, is_open: Callable[[bytes], bool], is_record: Callable[[bytes], bool]) -> None:
        self._is_open = is_open
        self._is_record = is_record
        self._pending: list[TextFrame] = []

    @property
    def is_waiting(self) -> bool:
        """Return whether a record is incomplete."""
        return bool(self._pending)

    def feed(self, frames: Iterable[TextFrame]) -> Iterator[TextFrame]:
        """Yield the records that are complete. A frame with an open quote is a broken record."""
        for frame in frames:
            if self._pending:
                if self._is_record(frame.raw):
                    yield from self.finish()
                else:
                    yield from self._append(frame)
                    continue
            if self._is_open(frame.raw):
                self._pending = [frame]
            else:
                yield frame

    def finish(self) -> Iterator[TextFrame]:
        """Yield the broken record, then the records in the lines behind it."""
        while self._pending:
            first, *rest = self._pending
            self._pending = []
            yield first
            yield from self.feed(rest)

    def _append(self, frame: TextFrame) -> Iterator[TextFrame]:
        self._pending.append(frame)
        joined = self._pending[0].raw
        for before, line in pairwise(self._pending):
            # Blank lines are no frames, and are a part of the text here.
            joined += b"\n" * (line.line - before.line) + line.raw
        if not self._is_open(joined):
            first = self._pending[0].line
            self._pending = []
            yield TextFrame(first, joined)
        elif len(self._pending) >= MAX_RECORD_LINES:
            first_frame, *rest = self._pending
            self._pending = []
            yield first_frame
            yield from self.feed(rest)


def decode_text(raw: bytes, fallback: str = "") -> str | None:
    """Return a frame as text without NULs, byte order mark and line ends around it; None if it is not UTF-8.

    `fallback` is an encoding for frames that are not UTF-8; None is the answer for frames that are not in it, either.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        try:
            text = raw.decode(fallback or "utf-8")
        except UnicodeDecodeError:
            return None
    return text.strip("\0\ufeff\r\n")
