"""The rules that an import adds for line protocol, where only a file as a whole shows what is right.

One measurement and tags that never differ say nothing about a series, so the names of metrics leave them out; and all
times of a file have the same unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from formats.detection import detect
from formats.framing import LineFraming, Transcoder
from formats.line_protocol import HOST_IDENTITY, MEASUREMENT, LineProtocolReader
from formats.names import Template
from formats.record import InputRecord, TextFrame
from formats.rules import Rules
from importer.records import MappingError

MAX_LINES = 2000
"""First lines that decide: 10 ms of work, and one line of each series of most files."""

OWN_MEASUREMENT = "telemetry"
"""The measurement of all lines that a hub exports. It says nothing about a series."""

_DIGITS = ((17, "ns"), (14, "us"), (11, "ms"), (9, "s"))
"""A time since 1970 with at least this many digits has this unit, for times between 1973 and 2286."""


def guessed(rules: Rules, head: bytes) -> Rules:
    """Return the rules for a file that begins with these lines; settings that are given stay. Raises MappingError."""
    framing = LineFraming()
    lines = [*framing.feed(Transcoder(rules.encoding).feed(head, final=True)), *framing.finish()]
    frames = [line for line in lines if isinstance(line, TextFrame)][:MAX_LINES]
    if rules.format == "auto":
        detection = detect(frames)
        is_line = detection is not None and detection.format == "line"
    else:
        is_line = rules.format == "line"
    if not is_line:
        return rules
    if rules.metric and "{field}" not in rules.metric:
        raise MappingError(f"the template {rules.metric!r} does not contain {{field}}: all fields would be one metric")
    points = [record for record in LineProtocolReader().feed(frames) if isinstance(record, InputRecord)]
    changes: dict[str, object] = {"format": "line"}
    if rules.time_format == "auto":
        digits = max((len(str(abs(point.time))) for point in points if isinstance(point.time, int)), default=19)
        changes["time_format"] = next((unit for least, unit in _DIGITS if digits >= least), "s")
    if not rules.metric:
        changes |= _naming(rules, points)
    return msgspec.structs.replace(rules, **changes)


def _naming(rules: Rules, points: Sequence[InputRecord]) -> dict[str, object]:
    """Return the template of the metrics, and the measurements if it leaves them out."""
    measurements = sorted({point.names[MEASUREMENT] for point in points})
    shared = set.intersection(*(set(point.names) for point in points)) - {MEASUREMENT} if points else set()
    usual = {next((name for name in HOST_IDENTITY if name in shared), "")}
    identity = set(Template(rules.device).fields) if rules.device else usual
    others = {name for point in points for name in point.names} - shared - identity - {MEASUREMENT}
    if _distinguishing_tags(points, others, identity):
        # A template contains tags that all lines have. The usual names have those of each line.
        return {}
    parts = [*_distinguishing_tags(points, shared - identity, identity), "field"]
    if any(set(part) & set("{}|") for part in parts):
        return {}
    changes: dict[str, object] = {}
    is_telling = measurements != [OWN_MEASUREMENT] and all(field == "value" for p in points for field in p.values)
    if len(measurements) == 1 and not is_telling:
        changes["measurements"] = rules.measurements or tuple(measurements)
    else:
        parts.insert(0, MEASUREMENT)
    return {**changes, "metric": ".".join(f"{{{part}}}" for part in parts)}


def _distinguishing_tags(points: Iterable[InputRecord], tags: set[str], identity: set[str]) -> list[str]:
    """Return the tags that have several values for one device and measurement."""
    values: dict[tuple[str, str, str], set[str]] = {}
    for point in points:
        device = "\0".join(point.names.get(name, "") for name in sorted(identity))
        for name in tags:
            values.setdefault((device, point.names[MEASUREMENT], name), set()).add(point.names.get(name, ""))
    return sorted({name for (_, _, name), found in values.items() if len(found) > 1})
