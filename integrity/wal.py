"""Damage in the middle of a write-ahead log of SQLite, which SQLite itself takes for the log's end.

SQLite reads a log up to the first frame whose checksum is wrong, and silently discards all frames after it. That is
right for the end of a log that a power failure has torn. It is wrong for a damaged frame in the middle: the commits
after it were on disk. The checksums are cumulative, so a reader cannot continue behind the damage, but the salt in each
frame's header still proves that the frame belongs to this log (https://sqlite.org/fileformat2.html#walformat).

`find_damage` compares the frames that SQLite accepts with the frames that are there. `repaired` returns a log with new
checksums, from which SQLite recovers every commit; then only the damaged page itself is wrong, and the checksums of the
rows must find it. Pure: functions over bytes.
"""

from __future__ import annotations

import struct
from collections import Counter
from mmap import mmap
from typing import NamedTuple

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_MAGIC_LITTLE, _MAGIC_BIG = 0x377F0682, 0x377F0683
_VERSION = 3_007_000
_U32 = 0xFFFFFFFF

Log = bytes | mmap
"""Bytes of a log, in memory or mapped from its file."""


class WalHeader(NamedTuple):
    """Header of a log. `words` is the byte order of the words that the checksums add ("<" or ">")."""

    page_bytes: int
    salts: bytes
    words: str

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame: its header and one page."""
        return FRAME_HEADER_BYTES + self.page_bytes


class WalDamage(NamedTuple):
    """Damage in a log: the first wrong frame (0 is the header of the log), and how many commits end behind it."""

    frame: int
    commits: int


def read_header(log: Log) -> WalHeader | None:
    """Return the header of a log; None if its bytes are no valid header, or its checksum is wrong."""
    if len(log) < HEADER_BYTES:
        return None
    magic, _, page_bytes, _, _, _, first, second = struct.unpack(">8I", log[:HEADER_BYTES])
    if magic not in (_MAGIC_LITTLE, _MAGIC_BIG) or page_bytes < 512 or page_bytes & (page_bytes - 1):
        return None
    words = ">" if magic == _MAGIC_BIG else "<"
    if checksum(log[: HEADER_BYTES - 8], words) != (first, second):
        return None
    return WalHeader(page_bytes, log[16:24], words)


def with_header(log: Log, page_bytes: int) -> Log:
    """Return the log, with a new header for pages of this size if its own is damaged.

    The salts are those of most frames. A power failure can tear the header only while SQLite begins the log again; the
    frames in the file are then in the database already, and reading them once more changes nothing.
    """
    if read_header(log) is not None:
        return log
    step = FRAME_HEADER_BYTES + page_bytes
    found = Counter(log[at + 8 : at + 16] for at in range(HEADER_BYTES, len(log) - step + 1, step))
    found.pop(bytes(8), None)
    if not found:
        return log
    salts = found.most_common(1)[0][0]
    head = struct.pack(">4I", _MAGIC_LITTLE, _VERSION, page_bytes, 0) + salts
    return head + struct.pack(">2I", *checksum(head, "<")) + log[HEADER_BYTES:]


def checksum(data: bytes, words: str, seed: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Return SQLite's checksum of these bytes, a multiple of 8, continued from `seed`."""
    first, second = seed
    numbers = struct.unpack(f"{words}{len(data) // 4}I", data)
    for even, odd in zip(numbers[::2], numbers[1::2], strict=True):
        first = (first + even + second) & _U32
        second = (second + odd + first) & _U32
    return first, second


def commits_of(log: Log, header: WalHeader) -> list[int]:
    """Return the numbers of the frames that end a commit of this log, valid or not, in order.

    Frames of an earlier use of the file have other salts.
    """
    commits = []
    size = header.frame_bytes
    for number in range(1, (len(log) - HEADER_BYTES) // size + 1):
        at = HEADER_BYTES + (number - 1) * size
        if log[at + 8 : at + 16] == header.salts and log[at + 4 : at + 8] != b"\0\0\0\0":
            commits.append(number)
    return commits


def find_damage(log: Log, accepted: int) -> WalDamage | None:
    """Return the damage of a log of which SQLite accepts this number of frames; None if it ends there.

    One incomplete commit at the end is what a power failure leaves. A frame behind a wrong one is not: SQLite writes a
    commit from its first frame to its last, and the next commit only after this one is on disk. A frame of an earlier
    use is a place that was never written; the disk may have written the rest of one commit before it.
    """
    header = read_header(log)
    if header is None:
        return None
    wrong = _first_wrong(log, header, accepted)
    behind = [number for number in commits_of(log, header) if number > wrong]
    at = HEADER_BYTES + (wrong - 1) * header.frame_bytes
    was_written = log[at + 8 : at + 16] == header.salts
    if not behind or (len(behind) == 1 and not was_written):
        return None
    return WalDamage(wrong, len(behind))


def is_rewritten(log: Log, frame: int) -> bool:
    """Return whether a frame behind this one, in a commit of this log, contains the same page again.

    Then the bytes of the frame do not matter, unless its number of the page is damaged as well: the caller verifies the
    database in any case.
    """
    header = read_header(log)
    commits = [] if header is None else commits_of(log, header)
    if header is None or not frame or not commits:
        return False
    size = header.frame_bytes
    begin = HEADER_BYTES + (frame - 1) * size
    page = log[begin : begin + 4]
    later = range(begin + size, HEADER_BYTES + commits[-1] * size, size)
    return any(log[at : at + 4] == page and log[at + 8 : at + 16] == header.salts for at in later)


def _first_wrong(log: Log, header: WalHeader, accepted: int) -> int:
    """Return the number of the first frame after the accepted ones whose checksum is wrong."""
    size = header.frame_bytes
    at = HEADER_BYTES + accepted * size
    # The checksum of an accepted frame, or of the header, continues in the next frame.
    running: tuple[int, int] = struct.unpack(">2I", log[at - size + 16 : at - size + 24] if accepted else log[24:32])
    number = accepted + 1
    while len(frame := log[at : at + size]) == size and frame[8:16] == header.salts:
        running = checksum(frame[FRAME_HEADER_BYTES:], header.words, checksum(frame[:8], header.words, running))
        if frame[16:24] != struct.pack(">2I", *running):
            break
        number, at = number + 1, at + size
    return number


def newest_pages(log: Log) -> dict[int, bytes]:
    """Return the newest committed content of each page in a log, by its number; nothing if the header is damaged."""
    header = read_header(log)
    if header is None:
        return {}
    pages = {}
    for number in range(1, max(commits_of(log, header), default=0) + 1):
        at = HEADER_BYTES + (number - 1) * header.frame_bytes
        if log[at + 8 : at + 16] == header.salts:
            pages[int.from_bytes(log[at : at + 4], "big")] = log[at + FRAME_HEADER_BYTES : at + header.frame_bytes]
    return pages


def repaired(log: Log) -> bytes:
    """Return the frames of this log up to its last commit with correct checksums, without foreign frames.

    Raises ValueError if the header is damaged.
    """
    header = read_header(log)
    if header is None:
        raise ValueError("the header of the write-ahead log is damaged")
    commits = commits_of(log, header)
    parts = [log[:HEADER_BYTES]]
    running = checksum(log[: HEADER_BYTES - 8], header.words)
    size = header.frame_bytes
    for number in range(1, (commits[-1] if commits else 0) + 1):
        at = HEADER_BYTES + (number - 1) * size
        head, page = log[at : at + FRAME_HEADER_BYTES], log[at + FRAME_HEADER_BYTES : at + size]
        if head[8:16] != header.salts:
            continue
        running = checksum(page, header.words, checksum(head[:8], header.words, running))
        parts += [head[:16], struct.pack(">2I", *running), page]
    return b"".join(parts)
