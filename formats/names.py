"""Names of devices and metrics: the repair of invalid names, and templates that build names from fields."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping

from wire.limits import MAX_DEVICE_ID, MAX_METRIC_NAME

HASH_DIGITS = 12
"""Hexadecimal digits appended to a changed name. 100,000 names that change to the same text collide with a chance of
one in 56,000."""

Lookup = Callable[[str], str | None]
"""Return the text of a field by its name, or None."""

_NOT_IN_DEVICE = re.compile(r"[^A-Za-z0-9_.-]")
_NOT_IN_METRIC = re.compile(r"[\x00-\x1f\x7f]")
_PLACE = re.compile(r"\{([^{}]*)\}")


def legal_device(name: str) -> str:
    """Return a device id for a name.

    A valid id is returned unchanged. In other names, invalid characters become "_", and "-" with a hash of the name is
    appended, so that different names have different ids.
    """
    if 0 < len(name) <= MAX_DEVICE_ID and not _NOT_IN_DEVICE.search(name) and name not in (".", ".."):
        return name
    return _with_hash(_NOT_IN_DEVICE.sub("_", name), name, MAX_DEVICE_ID)


def legal_metric(name: str) -> str:
    """Return a metric name for a name, by the rule of `legal_device`.

    Valid is any text without control characters and without a space at either end.
    """
    if 0 < len(name) <= MAX_METRIC_NAME and not _NOT_IN_METRIC.search(name) and " " not in (name[0], name[-1]):
        return name
    return _with_hash(_NOT_IN_METRIC.sub("_", name).strip(" "), name, MAX_METRIC_NAME)


def _with_hash(changed: str, name: str, max_length: int) -> str:
    suffix = "-" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:HASH_DIGITS]
    return changed[: max_length - len(suffix)] + suffix


class Template:
    """A name with places such as "{model}-{id}"; "{host|location}" is the first field that exists.

    `fields` are all names in places.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        # The parts are text and places in turn.
        self._parts = [part.split("|") if number % 2 else part for number, part in enumerate(_PLACE.split(text))]
        self.fields = frozenset(name for part in self._parts if isinstance(part, list) for name in part)

    def fill(self, lookup: Lookup) -> str:
        """Return the name. Raises KeyError with the place for which no field exists."""
        filled = []
        for part in self._parts:
            if isinstance(part, str):
                filled.append(part)
                continue
            found = next((text for name in part if (text := lookup(name))), None)
            if found is None:
                raise KeyError("|".join(part))
            filled.append(found)
        return "".join(filled)


def lookup_in(names: Mapping[str, str], values: Mapping[str, object]) -> Lookup:
    """Return the lookup of a text in names first, then in values, where a whole number has no fraction."""

    def lookup(name: str) -> str | None:
        if name in names:
            return names[name]
        value = values.get(name)
        if value is None:
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        return str(value).strip()

    return lookup
