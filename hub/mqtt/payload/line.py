"""InfluxDB line protocol. Follows InfluxDB's reference of the format ("Line protocol")."""

from __future__ import annotations

from line_protocol_parser import LineFormatError, parse_line

from hub.mqtt.payload.moment import NS_PER
from hub.mqtt.payload.record import Record, check_count, text_of
from hub.mqtt.reading import Undecodable
from wire.limits import MAX_TIME_NS

MEASUREMENT = "measurement"
"""The name under which a record has its measurement; its tags have their own."""

MAX_STRING_LINES = 64
"""Lines over which one text in quotes may go: what a quote that is never closed can cost."""


def read_line(payload: bytes, precision: str = "ns") -> list[Record]:
    """A record for each line, its tags and measurement as names. `precision` is that of the times: s, ms, us or ns.

    Raises Undecodable, and then no line is taken.
    """
    factor = NS_PER[precision]
    found: list[Record] = []
    count = 0
    for text in _lines(text_of(payload)):
        try:
            # Always a str: bytes that are not UTF-8 crash the parser's process.
            point = parse_line(text)
        except (LineFormatError, ValueError, OverflowError) as error:
            raise Undecodable("syntax", f"the payload is no line protocol: {error}") from None
        if point is None:
            continue
        # A parser's dictionary has the last field first.
        values = dict(reversed(point["fields"].items()))
        count += len(values)
        check_count(count)
        time_ns = point["time"]
        if time_ns is not None:
            time_ns *= factor
            if not 0 <= time_ns <= MAX_TIME_NS:
                raise Undecodable("time", f"the time {point['time']} is not of 1970 to 2262")
        found.append(Record(values, time_ns, {**point["tags"], MEASUREMENT: point["measurement"]}, typed=True))
    return found


def _lines(text: str) -> list[str]:
    """The records of a payload: its lines, those joined that a text in quotes goes over."""
    found: list[str] = []
    lines = text.split("\n")
    place = 0
    while place < len(lines):
        line = lines[place].rstrip("\r")
        place += 1
        if not line.strip():
            continue
        if '"' in line and not _is_record(line):
            joined = line
            for end in range(place, min(place + MAX_STRING_LINES, len(lines))):
                joined += "\n" + lines[end]
                if '"' in lines[end] and _is_record(joined):
                    line, place = joined, end + 1
                    break
        found.append(line)
        check_count(len(found))
    return found


def _is_record(text: str) -> bool:
    try:
        parse_line(text)
    except (LineFormatError, ValueError, OverflowError):
        return False
    return True
