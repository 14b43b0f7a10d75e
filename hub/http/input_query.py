"""Query parameters of inputs: the rules of `formats` under the names of their settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta, Struct

from formats.rules import Ambiguous, Format, Rules, RulesError, rules_of
from wire.limits import MAX_METRICS

MAX_PARAMETERS = 2 * MAX_METRICS + 64
"""Values in one query: a type and a unit for each metric. The length of a request line bounds them earlier."""

Texts = Annotated[list[str], Meta(max_length=MAX_METRICS)]

_NAME_VALUE = "As NAME=VALUE, repeatable."


class InputQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules of an input as query parameters. docs/formats.md describes each of them."""

    format: Annotated[Format | None, Meta(description="`json` without it.")] = None
    device: Annotated[str, Meta(description="A device id, or a template such as `{model}-{id}` over the fields.")] = ""
    metric: Annotated[str, Meta(description="A template such as `{measurement}.{field}`.")] = ""
    time: Annotated[Texts, Meta(description="The fields with the time.")] = []
    time_format: Annotated[str, Meta(description="`s`, `ms`, `us`, `ns`, or a pattern such as `%d.%m.%Y %H:%M`.")] = (
        "auto"
    )
    zone: Annotated[str, Meta(description="Zone of times without an offset, such as `Europe/Berlin`.")] = ""
    ambiguous: Ambiguous = "order"
    decimal: Literal["", ".", ","] = ""
    thousands: Literal["", ".", ",", " ", "'"] = ""
    numbers: Literal["auto", "text"] = "auto"
    no_value: Annotated[Texts, Meta(description="Further words without a value.")] = []
    encoding: str = "auto"
    delimiter: Annotated[str, Meta(max_length=3, description="One character, or `tab`.")] = ""
    header: Annotated[bool | None, Meta(description="Whether the first line of CSV has the names.")] = None
    measurements: Texts = []
    metric_column: str = ""
    value_column: str = ""
    columns: Annotated[Texts, Meta(description="Fields to store, each as FIELD or FIELD=METRIC; all without it.")] = []
    types: Annotated[Texts, Meta(description=_NAME_VALUE)] = []
    units: Annotated[Texts, Meta(description=_NAME_VALUE)] = []

    def rules(self, default: Format = "json") -> Rules:
        """Return the rules. Raises RulesError with a sentence."""
        fields = {name: getattr(self, name) for name in _PLAIN}
        if fields["delimiter"] in ("tab", "\\t"):
            fields["delimiter"] = "\t"
        format = self.format or default
        if format in ("function", "modbus", "regex"):
            # A pattern of a client could take the hub's time for each of its lines.
            raise RulesError(f'format = "{format}" needs the settings of a bridge or an agent; use another one here')
        pairs = {name: dict(_pair(name, text) for text in getattr(self, name)) for name in _PAIRS}
        rules = rules_of({**fields, **pairs, "format": format})
        try:
            ZoneInfo(rules.zone or "UTC")
        except (ValueError, OSError, KeyError):
            raise RulesError(f"the time zone {rules.zone!r} is unknown; use a name like Europe/Berlin") from None
        return rules


_PAIRS = ("columns", "types", "units")
_PLAIN = tuple(field for field in InputQuery.__struct_fields__ if field not in (*_PAIRS, "format"))

Query = TypeVar("Query", bound=Struct)

CONTENT_FORMATS: dict[str, Format] = {
    "text/csv": "csv",
    "application/senml+json": "senml",
    "application/json": "json",
}
"""Formats of media types. Any other, such as that of a form which curl sends by default, says nothing."""


def read_query(query_string: bytes, kind: type[Query]) -> Query:
    """Return the parameters of a query. Raises RulesError for an unknown one, and for a value that is not valid."""
    try:
        given = parse_qs(
            query_string.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query_string),
            max_num_fields=MAX_PARAMETERS,
        )
    except (UnicodeDecodeError, ValueError):
        raise RulesError("the query is not valid: write ?name=value&name=value") from None
    return convert_query(given, kind)


def convert_query(given: Mapping[str, Sequence[str]], kind: type[Query]) -> Query:
    """Return the parameters of a parsed query. Raises RulesError."""
    known = kind.__struct_fields__
    fields: dict[str, Any] = {}
    for name, values in given.items():
        if name == "token":
            raise RulesError("a token never belongs into a URL: send it in the Authorization header")
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"was {close[0]} meant?" if close else f"there is {', '.join(known)}"
            raise RulesError(f"{name[:40]}: there is no such parameter here; {hint}")
        fields[name] = list(values) if name in _LISTS else values[-1]
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError as error:
        raise RulesError(f"the query is not valid: {error}{accepted_words(kind, error)}") from None


def accepted_words(kind: Any, error: msgspec.ValidationError) -> str:
    """Return the words that a field with an unknown one accepts, as a part of a sentence; "" for any other error."""
    match = _UNKNOWN_WORD.search(str(error))
    fields = msgspec.structs.fields(kind) if match and hasattr(kind, "__struct_fields__") else ()
    words = [word for field in fields if match and field.encode_name == match[1] for word in _words(field.type)]
    return f"; use {', '.join(words)}" if words else ""


_UNKNOWN_WORD = re.compile(r"^Invalid enum value .* - at `\$\.(\w+)`$", re.DOTALL)


def _words(annotation: Any) -> list[str]:
    """Return the words of every Literal within an annotation."""
    if isinstance(annotation, str):
        is_word = any(map(str.isalnum, annotation))
        return [annotation if is_word else repr(annotation)] if annotation else []
    return [word for part in get_args(annotation) for word in _words(part)]


_LISTS = frozenset({"time", "no_value", "measurements", *_PAIRS})


def _pair(name: str, text: str) -> tuple[str, str]:
    """Return a pair of NAME=VALUE. The last = separates, because names may contain one."""
    key, separator, value = text.rpartition("=")
    if not separator and name == "columns" and text:
        return text, text
    if not (separator and key and value):
        raise RulesError(f"{name}={text!r}: write {name}=NAME%3DVALUE")
    return key, value
