"""Values and times as people send them, and what every door makes of them. docs/formats.md has the same tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

START_S = 1_732_806_000
"""2024-11-28T15:00:00Z. Each value has a time of its own, because an import needs one."""

NO = "no value"
REFUSED = "refused"


class Row(NamedTuple):
    """A value or a time as it is sent, and what is stored: a value, or the time as text. `outcome` says why nothing is.

    `sparkplug` is what is stored of the same value in the type that Sparkplug declares, where it differs.
    """

    sent: str
    stored: Any
    outcome: str = ""
    sparkplug: Any = None


JSON_VALUES = (
    Row("21.5", 21.5),
    Row("7", 7.0),
    Row("1e3", 1000.0),
    Row("9007199254740991", 9007199254740991.0),
    Row("9007199254740993", None, REFUSED, sparkplug=9007199254740992.0),
    Row("12345678901234567000", 12345678901234567000.0),
    Row("12345678901234567890", None, REFUSED, sparkplug=12345678901234567000.0),
    Row('"21.5"', 21.5, sparkplug="21.5"),
    Row('"21,5"', 21.5, sparkplug="21,5"),
    Row('"1.234,5"', 1234.5, sparkplug="1.234,5"),
    Row('"1 234.5"', 1234.5, sparkplug="1 234.5"),
    Row('"21.5 °C"', 21.5, sparkplug="21.5 °C"),
    Row('"007"', "007"),
    Row('"7E10"', "7E10"),
    Row('"idle"', "idle"),
    Row("true", True),
    Row('"on"', "on"),
    Row("null", None, NO),
    Row("NaN", None, NO),
    Row("Infinity", None, NO),
    Row('"nan"', None, NO, sparkplug="nan"),
    Row('"N/A"', None, NO, sparkplug="N/A"),
    Row('"unavailable"', None, NO, sparkplug="unavailable"),
    Row('""', None, NO),
    Row("1e999", None, REFUSED),
)
"""Values of a member of JSON."""

NOT_IN_SPARKPLUG = ("null", "1e999")
"""Values that its types do not have."""

TEXT_VALUES = (
    Row("21.5", 21.5),
    Row("-.5", -0.5),
    Row("007", 7.0),
    Row("21,5", 21.5),
    Row("21.5°C", 21.5),
    Row("on", True),
    Row("closed", False),
    Row("idle", "idle"),
    Row('"on hold"', "on hold"),
    Row("nan", None, NO),
    Row("-inf", None, NO),
    Row("N/A", None, NO),
    Row("--", None, NO),
    Row("1e999", None, REFUSED),
)
"""Values of a pair such as `level=21.5`, a format without types."""

TIMES = (
    Row('"2024-11-28T15:00:01Z"', "2024-11-28T15:00:01Z"),
    Row('"2024-11-28T16:00:02.25+01:00"', "2024-11-28T15:00:02.25Z"),
    Row('"2024-11-28T15:00:03.123456789Z"', "2024-11-28T15:00:03.123456789Z"),
    Row('"2024-11-28 16:04"', "2024-11-28T15:04:00Z"),
    Row('"20241128T160005"', "2024-11-28T15:00:05Z"),
    Row('"28.11.2024 16:06"', "2024-11-28T15:06:00Z"),
    Row('"28-Nov-2024 16:00:07"', "2024-11-28T15:00:07Z"),
    Row('"11/28/2024 4:08 PM"', "2024-11-28T15:08:00Z"),
    Row('"Thu, 28 Nov 2024 15:00:09 GMT"', "2024-11-28T15:00:09Z"),
    Row('"2024-11-27T24:00:00Z"', "2024-11-28T00:00:00Z"),
    Row("1732806010", "2024-11-28T15:00:10Z"),
    Row("1732806011.25", "2024-11-28T15:00:11.25Z"),
    Row("1732806012123", "2024-11-28T15:00:12.123Z"),
    Row("1732806013123456", "2024-11-28T15:00:13.123456Z"),
    Row("1732806014123456789", "2024-11-28T15:00:14.123456789Z"),
    Row('"1732806015"', "2024-11-28T15:00:15Z"),
    Row("580219289", "1988-05-21T12:01:29Z"),
    Row('"2024-03-31 02:30"', None, REFUSED),
    Row('"2024-02-30T12:00:00Z"', None, REFUSED),
    Row('"garbage"', None, REFUSED),
    Row('"16:00"', None, REFUSED),
    Row("-1", None, REFUSED),
    Row("1e300", None, REFUSED),
    Row("true", None, REFUSED),
)
"""Times of a record in JSON, in the zone Europe/Berlin, which has no 02:30 on 2024-03-31. 1988 is kept and marked."""

SPARKPLUG_TIMES = (
    Row("1732806012123", "2024-11-28T15:00:12.123Z"),
    Row("1732806013", "1970-01-21T01:20:06.013Z"),
    Row("580219289000", "1988-05-21T12:01:29Z"),
    Row("9223372036855", None, REFUSED),
    Row("18446744073709551615", None, REFUSED),
    Row("none", "2024-11-28T15:00:00Z"),
)
"""Times of a metric of Sparkplug, always milliseconds. A metric without one has the time of its payload."""


def json_line(number: int, row: Row) -> str:
    """Return the line of a value, with a neighbour that has to be stored in any case."""
    return f'{{"time":{START_S + number},"v{number}":{row.sent},"ok{number}":{number}}}'


def text_line(number: int, row: Row) -> str:
    """Return the line of a value in a pair, with a neighbour."""
    return f"time={START_S + number} v{number}={row.sent} ok{number}={number}"


def time_line(number: int, row: Row) -> str:
    """Return the line of a time."""
    return f'{{"time":{row.sent},"v{number}":{number}}}'


def nanoseconds(text: str) -> int:
    """Return the nanoseconds of a time such as 2024-11-28T15:00:00.25Z."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(fraction.ljust(9, "0") or 0)


def markdown() -> str:
    """Return the tables as they are in docs/formats.md."""
    lines = ["| member of JSON | every door | Sparkplug |", "| --- | --- | --- |"]
    for row in JSON_VALUES:
        sparkplug = _cell(row) if row.sparkplug is None else _cell(row._replace(stored=row.sparkplug, outcome=""))
        lines.append(f"| `{row.sent}` | {_cell(row)} | {'' if row.sent in NOT_IN_SPARKPLUG else sparkplug} |")
    lines += ["", "| value of a pair | every door |", "| --- | --- |"]
    lines += [f"| `{row.sent}` | {_cell(row)} |" for row in TEXT_VALUES]
    lines += ["", "| time, in the zone Europe/Berlin | every door |", "| --- | --- |"]
    lines += [f"| `{row.sent}` | {row.stored or row.outcome} |" for row in TIMES]
    lines += ["", "| time of a metric of Sparkplug | stored |", "| --- | --- |"]
    lines += [f"| `{row.sent}` | {row.stored or row.outcome} |" for row in SPARKPLUG_TIMES]
    return "\n".join(lines)


def _cell(row: Row) -> str:
    match row.stored:
        case None:
            return row.outcome
        case bool():
            return str(row.stored).lower()
        case str():
            return f'text "{row.stored}"'
    return f"{row.stored:.17g}"
