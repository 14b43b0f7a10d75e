"""Which format an answer has: the one that is named, else the best of those that the Accept header takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from hub.http.problem import Refusal

JSON = "application/json"
CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"
LINE = "text/plain"

MEDIA_TYPES = {"json": JSON, "csv": CSV, "arrow": ARROW, "line": LINE}
"""Of each format. Line protocol has no name of its own; it goes by that which InfluxDB itself uses."""


def choose_format(named: str | None, accept: str | None, offered: Mapping[str, str]) -> str:
    """The format to answer in, of those offered: format → media type, the default first.

    Follows RFC 9110, section 12.5.1: of the ranges that mean a media type the most precise counts. Raises Refusal.
    """
    if named is not None:
        return named
    if accept is None:
        return next(iter(offered))
    ranges = dict(map(_range, accept.split(",")))
    weights = {format: _weight(ranges, media_type) for format, media_type in offered.items()}
    best = max(weights, key=weights.__getitem__)
    if weights[best] <= 0:
        detail = f"there is {', '.join(offered.values())}: accept one of these, or name one with format="
        raise Refusal(HTTPStatus.NOT_ACCEPTABLE, detail)
    return best


def _range(text: str) -> tuple[str, float]:
    media_range, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media_range, float(value)
            except ValueError:
                return media_range, 0.0
    return media_range, 1.0


def _weight(ranges: Mapping[str, float], media_type: str) -> float:
    for media_range in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if media_range in ranges:
            return ranges[media_range]
    return 0.0
