"""What a file is made of: rows of readings, and lines that cannot be taken."""

from __future__ import annotations

from typing import Literal, NamedTuple

from wire.model import Value


class Row(NamedTuple):
    """The readings of one device at one time, from one record of the file.

    `line` is the number of the record's first line, counted from 1, `raw` the record as it stands in the file with its
    line breaks. Rows of one `group` mostly have the same metrics: they travel together. `values` holds no None.
    """

    line: int
    raw: bytes
    device: str
    group: str
    time_ns: int
    values: dict[str, Value]


Why = Literal["encoding", "syntax", "time", "device", "metric", "value", "type", "limit", "cut off", "hub"]
"""What is wrong with a record, in a word, to count by. "hub": the hub put it in quarantine."""


class Refusal(NamedTuple):
    """A record that is not taken. The whole record: whoever mends the line has it imported once."""

    line: int
    raw: bytes
    why: Why
    message: str
