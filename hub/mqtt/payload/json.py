"""JSON: an object of values, flat or nested, or a list of such objects; each may have a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from hub.mqtt.payload.moment import ReadTime, looks_like_time, time_reader
from hub.mqtt.payload.record import MAX_DEPTH, Record, Scalar, check_count
from hub.mqtt.reading import Undecodable

TIME_FIELDS = ("ts", "time", "timestamp")
"""Where a time is looked for when no field is named."""

_decode = msgspec.json.Decoder().decode


class TimeField(NamedTuple):
    """Where an object has its time and how it is read; without a `name` the first of TIME_FIELDS."""

    name: str = ""
    read: ReadTime = time_reader()


ANY_TIME = TimeField()


def read_json(payload: bytes, time: TimeField = ANY_TIME) -> list[Record]:
    """A record for each object. Raises Undecodable."""
    return records(parsed(payload), time)


def parsed(payload: bytes) -> object:
    """The JSON in a payload. Raises Undecodable."""
    try:
        return _decode(payload)
    except RecursionError:
        raise Undecodable("depth", f"the JSON has more than {MAX_DEPTH} levels") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Undecodable("syntax", f"the payload is no JSON: {error}") from None


def records(content: object, time: TimeField = ANY_TIME) -> list[Record]:
    """The records of an object or of a list of objects. Raises Undecodable."""
    objects = content if isinstance(content, list) else [content]
    found = []
    count = 0
    for item in objects:
        if not isinstance(item, dict):
            raise Undecodable("shape", "the JSON is neither an object of values nor a list of such objects")
        values = flat(item)
        count += len(values)
        check_count(count)
        time_ns = take_time(values, time)
        if values:
            found.append(Record(values, time_ns))
    return found


def flat(content: dict[str, object]) -> dict[str, Scalar]:
    """All values of an object: names of nested ones joined by ".", items of lists numbered; null is no value.

    Raises Undecodable for what is nested too deeply, and for two values of one name.
    """
    values: dict[str, Scalar] = {}
    for name, value in content.items():
        if isinstance(value, str | int | float):
            if name in values:
                raise _ambiguous(name)
            values[name] = value
        elif value is not None:
            for path, inner in _nested(name, value, 2):
                if path in values:
                    raise _ambiguous(path)
                values[path] = inner
    return values


def _ambiguous(path: str) -> Undecodable:
    return Undecodable("ambiguous", f"two values are called {path[:80]!r}")


def _nested(path: str, value: object, depth: int) -> Iterator[tuple[str, Scalar]]:
    if depth > MAX_DEPTH:
        raise Undecodable("depth", f"the JSON has more than {MAX_DEPTH} levels")
    items = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    for name, inner in items:
        if isinstance(inner, str | int | float):
            yield f"{path}.{name}", inner
        elif inner is not None:
            yield from _nested(f"{path}.{name}", inner, depth + 1)


def take_time(values: dict[str, Scalar], time: TimeField) -> int | None:
    """The time among the values, which is taken out of them; None where there is none.

    Raises Undecodable where the field that was named is none.
    """
    if time.name:
        if time.name not in values:
            raise Undecodable("time", f"there is no field {time.name!r}, which has the time")
        try:
            return time.read(values.pop(time.name))
        except ValueError as error:
            raise Undecodable("time", str(error)) from None
    for name in TIME_FIELDS:
        if name in values and looks_like_time(values[name]):
            try:
                time_ns = time.read(values[name])
            except ValueError:
                continue
            del values[name]
            return time_ns
    return None
