"""A check of a file or of standard input: read by the rules of one input, and stored nowhere."""

from __future__ import annotations

import sys
import time
from datetime import tzinfo
from pathlib import Path

from formats.container import MAX_CONTENT_BYTES, unpacked
from formats.custom import UserFunction
from formats.interpretation import KnownType
from formats.reading import Reading
from formats.record import FrameRefused
from formats.report import Trial
from formats.rules import Rules

BLOCK_BYTES = 1 << 20
"""Bytes that are read at a time."""


class InputUnreadable(Exception):
    """A file that cannot be read as an input; the message is a sentence."""


def try_file(
    file: str,
    rules: Rules,
    zone: tzinfo,
    *,
    function: UserFunction | None = None,
    known_type: KnownType | None = None,
) -> Trial:
    """Read a file, or standard input for "-", also compressed. Raises InputUnreadable."""
    try:
        data, container = unpacked(_content(file))
    except FrameRefused as error:
        raise InputUnreadable(f"{file}: {error.reason}") from None
    reading = Reading(rules, zone, function=function, known_type=known_type)
    trial = Trial(reading, container=container)
    now_ns = time.time_ns()
    for start in range(0, len(data), BLOCK_BYTES):
        trial.add(reading.feed(data[start : start + BLOCK_BYTES], now_ns))
    trial.add(reading.finish(now_ns))
    return trial


def _content(file: str) -> bytes:
    """Return the bytes of a file or of standard input, up to the bound. Raises InputUnreadable."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_CONTENT_BYTES + 1)
        else:
            with Path(file).open("rb") as source:
                data = source.read(MAX_CONTENT_BYTES + 1)
    except OSError as error:
        raise InputUnreadable(f"{file} cannot be read: {error.strerror}") from None
    if len(data) > MAX_CONTENT_BYTES:
        bound = f"{MAX_CONTENT_BYTES:,} bytes"
        raise InputUnreadable(f"{file} has more than {bound}: try its beginning, for example with head")
    return data
