"""Where a series lives in InfluxDB: its measurement, tags and field, by templates. Pure.

A template is text with placeholders: {device}, {metric}, {type} and {unit} of the metric, and {tag.NAME} for a tag that
the device tells of itself. What is behind a colon stands in where there is nothing: {tag.type:telemetry}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from hub.model.batch import Series

MEASUREMENT = "{tag.type:telemetry}"
"""Devices of one kind share a measurement, as people who make charts expect it."""

TAGS = ("*",)
"""All of the device's own tags."""

FIELD = "{metric}"
"""One field for each metric, so that the metrics of one moment are one point."""

DEVICE_TAG = "device"
"""The tag that every point has; history is read by it and by the field."""

UNNAMED = "telemetry"
"""The measurement where a template comes to nothing."""

RESERVED_TAGS = frozenset({DEVICE_TAG, "time", "_field", "_measurement", "_start", "_stop", "_time", "_value"})
"""Names that a device's own tag cannot have beside InfluxDB's columns and ours: it gets an underscore at its end."""

_PLACEHOLDER = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_AMBIGUOUS = re.compile(r"(\\_*)(?=[,= ]|\Z)")
_COMMENT = re.compile(r"_*#")
_TIME = re.compile(r"time_*")
_OF_SERIES = ("device", "metric", "type", "unit")
_OF_TAG = "tag."
_ANYTHING = "\0"


class Place(NamedTuple):
    """Where the readings of a series go. `tags` are in order of their names, as InfluxDB likes them."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    field: str


class Naming:
    """The templates, and the device's tags that they need.

    `tags` has patterns of the device's own tags to keep (`*`, `site`, `room_*`) and tags made by a template
    (`plant=north`, `site={tag.site:none}`); the tag `device` is always there. `tags_of` gives the tags that a device
    told of itself. Raises ValueError for templates that cannot work.
    """

    def __init__(
        self,
        *,
        measurement: str = MEASUREMENT,
        tags: Sequence[str] = TAGS,
        field: str = FIELD,
        tags_of: Callable[[str], Mapping[str, str]],
    ) -> None:
        check_templates(measurement=measurement, tags=tags, field=field)
        self._measurement = measurement
        self._field = field
        self._patterns = [item for item in tags if "=" not in item]
        self._made = [(name, template) for name, is_made, template in (item.partition("=") for item in tags) if is_made]
        self._tags_of = tags_of

    def tags_of(self, device: str) -> Mapping[str, str]:
        """The tags that a device told of itself; another object as soon as they are others."""
        return self._tags_of(device)

    def place(self, series: Series) -> Place:
        """Where the readings of a series go, with the tags that its device has now."""
        own = self._tags_of(series.device)
        tags = {
            f"{name}_" if name in RESERVED_TAGS else name: value
            for name, value in own.items()
            if any(fnmatchcase(name, pattern) for pattern in self._patterns)
        }
        tags |= {name: _fill(template, series, own) for name, template in self._made}
        tags[DEVICE_TAG] = series.device
        said = {sayable(name): sayable(value) for name, value in tags.items()}
        return Place(
            sayable_measurement(_fill(self._measurement, series, own)) or UNNAMED,
            tuple(sorted((name, value) for name, value in said.items() if name and value)),
            sayable_field(_fill(self._field, series, own)),
        )

    def measurements(self, series: Series) -> str | None:
        """A regular expression (RE2) of the measurements in which a series may have been before its device told other
        tags; None where its measurement depends on no tag."""
        if not any(name.startswith(_OF_TAG) for name in _placeholders(self._measurement)):
            return None
        filled = _PLACEHOLDER.sub(
            lambda match: _ANYTHING if match[1].startswith(_OF_TAG) else _fill(match[0], series, {}), self._measurement
        )
        *parts, last = filled.split(_ANYTHING)
        # What a tag begins with may change how the text before it ends, but only by what stands for anything anyway.
        said = [sayable(f"{part}x")[:-1] for part in parts]
        return f"^(?:_?{'.*'.join(map(re.escape, [*said, sayable(last)]))}|{UNNAMED})$"


def sayable(name: str) -> str:
    """A name as the line protocol can say it: a backslash before a comma, a space, an equals sign or the end would be
    taken for part of what it is before.

    An underscore comes between, and so one more where there was one: no two names become one. Control characters, which
    no metric's name has, become spaces.
    """
    return _AMBIGUOUS.sub(r"\1_", _CONTROL.sub(" ", name))


def sayable_measurement(name: str) -> str:
    """A measurement's name, which does not begin a comment."""
    name = sayable(name)
    return f"_{name}" if _COMMENT.match(name) else name


def sayable_field(name: str) -> str:
    """A field's name, which is not that of InfluxDB's own column."""
    name = sayable(name)
    return f"{name}_" if _TIME.fullmatch(name) else name


def check_templates(*, measurement: str, tags: Sequence[str], field: str) -> None:
    """Raises ValueError where the templates name something unknown, or would put two metrics into one field."""
    for what, template in (("measurement", measurement), ("field", field)):
        _check(what, template)
        if not template:
            raise ValueError(f"{what}: a template must not be empty")
    if "metric" not in _placeholders(measurement) + _placeholders(field):
        raise ValueError("field: {metric} must be in the template of the field or of the measurement, else metrics mix")
    for item in tags:
        name, is_made, template = item.partition("=")
        if not name:
            raise ValueError(f"tags: {item!r} has no name: write NAME={{template}}, or a pattern such as *")
        if is_made:
            if name in RESERVED_TAGS:
                raise ValueError(f"tags: {name!r} is taken: give the tag another name")
            _check("tags", template)


def _check(what: str, template: str) -> None:
    for name in _placeholders(template):
        if name not in _OF_SERIES and not (name.startswith(_OF_TAG) and len(name) > len(_OF_TAG)):
            known = ", ".join(f"{{{known}}}" for known in (*_OF_SERIES, "tag.NAME"))
            raise ValueError(f"{what}: there is no {{{name}}}; there are {known}")
    rest = _PLACEHOLDER.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{what}: {template!r} has a brace without its other half")


def _placeholders(template: str) -> list[str]:
    return [match[1] for match in _PLACEHOLDER.finditer(template)]


def _fill(template: str, series: Series, tags: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2] or ""
        found = tags.get(name.removeprefix(_OF_TAG), "") if name.startswith(_OF_TAG) else str(getattr(series, name))
        return found or default

    return _PLACEHOLDER.sub(value, template)
