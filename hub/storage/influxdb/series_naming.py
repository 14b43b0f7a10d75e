"""Naming of series in InfluxDB: templates for their measurement, tags and field, and a limit on their number.

A template is text with placeholders: {device}, {metric}, {type} and {unit} of the metric, and {tag.NAME} for a tag that
the device reports. The text after a colon is the default: {tag.type:telemetry}. This module is pure.

A field keeps its name and its type for ever. So a renamed metric keeps the field of its first name, and each further
type of a metric has a field of its own: `level` and, after the metric became float, `level (float)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import NamedTuple

from hub.model.batch import Series
from wire.errors import Code

MEASUREMENT = "{tag.type:telemetry}"
"""By default, devices of one kind share a measurement, as is usual for charts."""

TAGS = ("*",)
"""By default, all tags of the device are kept."""

FIELD = "{metric}"
"""By default, each metric is a field, so the metrics of one moment are one point."""

DEVICE_TAG = "device"
"""The tag of every point. History is read by this tag and by the field."""

UNNAMED = "telemetry"
"""The measurement if the template produces an empty name."""

RESERVED_TAGS = frozenset({DEVICE_TAG, "time", "_field", "_measurement", "_start", "_stop", "_time", "_value"})
"""Names of InfluxDB's columns and of the hub's own tag. A device's tag with such a name gets an underscore at its end.
"""

MAX_KEY_BYTES = 65_535
"""InfluxDB's limit for a series key: measurement, tags and their values together, and the name of a field."""

DIGEST_BYTES = 8
"""Bytes of the digest of a series name. Among the thousands of one device, no two are equal."""

_PLACEHOLDER = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_AMBIGUOUS = re.compile(r"(\\_*)(?=[,= ]|\Z)")
# A measurement must not begin a comment, and a field must differ from InfluxDB's time column: both get an underscore.
_COMMENT = re.compile(r"\A(?=_*#)")
_TIME = re.compile(r"\Atime_*\Z")
_SERIES_PLACEHOLDERS = ("device", "metric", "type", "unit")
_TAG_PLACEHOLDER = "tag."
_ANYTHING = "\0"
_IN_MEASUREMENT = re.compile(r"[, ]")
_IN_KEY = re.compile(r"[,= ]")


class SeriesLocation(NamedTuple):
    """Location of the readings of a series. `tags` are sorted by name, which InfluxDB prefers."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    field: str

    @property
    def line_prefix(self) -> str:
        """Return measurement and tags in line protocol; each point of the series begins with them."""
        tags = "".join(f",{_escape_key(name)}={_escape_key(value)}" for name, value in self.tags)
        return _IN_MEASUREMENT.sub(r"\\\g<0>", self.measurement) + tags

    @property
    def field_key(self) -> str:
        """Return the field's name in line protocol, with its equals sign."""
        return f"{_escape_key(self.field)}="


class SeriesNaming:
    """The templates, and access to the device's tags.

    `tags` contains patterns of the device's tags to keep (`*`, `site`, `room_*`) and tags made by a template
    (`plant=north`, `site={tag.site:none}`). The tag `device` is always present. `tags_of` returns the tags that a
    device reported: another object as soon as they change. Raises ValueError for invalid templates.
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
        self._template_tags = [
            (name, template) for name, has_template, template in (item.partition("=") for item in tags) if has_template
        ]
        self.tags_of = tags_of

    def locate(self, series: Series) -> SeriesLocation:
        """Return the location of a series with the current tags of its device."""
        device_tags = self.tags_of(series.device)
        tags = {
            f"{name}_" if name in RESERVED_TAGS else name: value
            for name, value in device_tags.items()
            if any(fnmatchcase(name, pattern) for pattern in self._patterns)
        }
        tags |= {name: _fill(template, series, device_tags) for name, template in self._template_tags}
        tags[DEVICE_TAG] = series.device
        field = _fill(self._field, series, device_tags)
        if series.type != series.first.type and "type" not in _placeholders(self._measurement + self._field):
            # InfluxDB fixes the type of a field with its first value.
            field = f"{field} ({series.type})"
        cleaned = {clean_name(name): clean_name(value) for name, value in tags.items()}
        return SeriesLocation(
            _COMMENT.sub("_", clean_name(_fill(self._measurement, series, device_tags))) or UNNAMED,
            tuple(sorted((name, value) for name, value in cleaned.items() if name and value)),
            _TIME.sub(r"\g<0>_", clean_name(field)),
        )

    def measurements(self, series: Series) -> str | None:
        """Return a regular expression (RE2) of the measurements that a series may have had with other tags.

        Return None if its measurement depends on no tag.
        """
        if not any(name.startswith(_TAG_PLACEHOLDER) for name in _placeholders(self._measurement)):
            return None
        filled = _PLACEHOLDER.sub(
            lambda match: _ANYTHING if match[1].startswith(_TAG_PLACEHOLDER) else _fill(match[0], series, {}),
            self._measurement,
        )
        *parts, last = filled.split(_ANYTHING)
        # The begin of a tag may change how the text before it ends, but only by characters that the wildcard covers.
        cleaned = [clean_name(f"{part}x")[:-1] for part in parts]
        return f"^(?:_?{'.*'.join(map(re.escape, [*cleaned, clean_name(last)]))}|{UNNAMED})$"


def clean_name(name: str) -> str:
    """Return a name that line protocol can express.

    A backslash before a comma, a space, an equals sign or the end would be read as part of an escape. An underscore is
    inserted after it, and a further one if there was one, so no two names become equal. Control characters, which no
    metric name contains, become spaces.
    """
    return _AMBIGUOUS.sub(r"\1_", _CONTROL.sub(" ", name))


def check_templates(*, measurement: str, tags: Sequence[str], field: str) -> None:
    """Raise ValueError if a template names something unknown, or would put two metrics into one field."""
    for setting, template in (("measurement", measurement), ("field", field)):
        _check_template(setting, template)
        if not template:
            raise ValueError(f"{setting}: a template must not be empty")
    if "metric" not in _placeholders(measurement) + _placeholders(field):
        raise ValueError("field: {metric} must be in the template of the field or of the measurement, else metrics mix")
    for item in tags:
        name, has_template, template = item.partition("=")
        if not name:
            raise ValueError(f"tags: {item!r} has no name: write NAME={{template}}, or a pattern such as *")
        if has_template:
            if name in RESERVED_TAGS:
                raise ValueError(f"tags: {name!r} is taken: give the tag another name")
            _check_template("tags", template)


def _check_template(setting: str, template: str) -> None:
    for name in _placeholders(template):
        if name not in _SERIES_PLACEHOLDERS and not (
            name.startswith(_TAG_PLACEHOLDER) and len(name) > len(_TAG_PLACEHOLDER)
        ):
            known = ", ".join(f"{{{known}}}" for known in (*_SERIES_PLACEHOLDERS, "tag.NAME"))
            raise ValueError(f"{setting}: there is no {{{name}}}; there are {known}")
    rest = _PLACEHOLDER.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{setting}: {template!r} has a brace without its other half")


def _placeholders(template: str) -> list[str]:
    return [match[1] for match in _PLACEHOLDER.finditer(template)]


def _fill(template: str, series: Series, tags: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2] or ""
        found = (
            tags.get(name.removeprefix(_TAG_PLACEHOLDER), "")
            if name.startswith(_TAG_PLACEHOLDER)
            else str(getattr(series, "first_name" if name == "metric" else name))
        )
        return found or default

    return _PLACEHOLDER.sub(value, template)


class RefusalReason(NamedTuple):
    """Why readings are refused: a code and a sentence."""

    code: str
    message: str


class SeriesName(NamedTuple):
    """The prefix of the points of a series and its field, or the problem that prevents a name.

    `tags` are the device's tags from which the name was made.
    """

    prefix: str
    field: str
    problem: RefusalReason | None
    tags: Mapping[str, str]


class SeriesNames:
    """Cache of the names of series, and the limit on their number.

    If a device reports other tags, or declares more metrics, it gets further series in InfluxDB. Beyond
    `max_series_per_device` no new ones are created, and their readings are refused. `known` contains the digests of the
    existing ones by device, joined.
    """

    def __init__(self, naming: SeriesNaming, *, max_series_per_device: int, known: Mapping[str, bytes]) -> None:
        self._naming = naming
        self._max = max_series_per_device
        self._known = {
            device: {digests[start : start + DIGEST_BYTES] for start in range(0, len(digests), DIGEST_BYTES)}
            for device, digests in known.items()
        }
        self._names: dict[Series, SeriesName] = {}

    def name_of(self, series: Series) -> SeriesName:
        """Return the name of a series with the current tags of its device."""
        name = self._names.get(series)
        tags = self._naming.tags_of(series.device)
        if name is None or (name.tags is not tags and name.tags != tags):
            location = self._naming.locate(series)
            prefix, field = location.line_prefix, location.field_key
            name = self._names[series] = SeriesName(prefix, field, self._problem(series, prefix, field), tags)
        return name

    def known(self) -> dict[str, bytes]:
        """Return the digests of all series by device, joined."""
        return {device: b"".join(digests) for device, digests in self._known.items()}

    def _problem(self, series: Series, prefix: str, field: str) -> RefusalReason | None:
        if len(prefix.encode()) + len(field.encode()) > MAX_KEY_BYTES:
            return RefusalReason(Code.OUT_OF_RANGE.value, f"the device's tags exceed {MAX_KEY_BYTES} bytes in total")
        digest = blake2b(f"{prefix} {field}".encode(), digest_size=DIGEST_BYTES).digest()
        known = self._known.setdefault(series.device, set())
        if digest not in known:
            if len(known) >= self._max:
                return RefusalReason(
                    Code.TOO_MANY.value,
                    f"{series.device} already has {len(known)} series in InfluxDB: each metric is one, and one more "
                    "for each change of the device's tags. Stop the tags from changing, exclude the ones that change "
                    "(store.tags), or raise store.max_series_per_device",
                )
            known.add(digest)
        return None


def _escape_key(text: str) -> str:
    return _IN_KEY.sub(r"\\\g<0>", text)
