"""Cells of a table as values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from importer.mapping import TableMapping
from wire.limits import MAX_INTEGER, MIN_INTEGER
from wire.model import MetricType, Value

TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

Read = Callable[[str], Value]
"""A cell's value, None for none. Raises ValueError with a sentence."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Cells:
    """Reads cells as one mapping says numbers are written."""

    def __init__(self, mapping: TableMapping) -> None:
        self._decimal = mapping.decimal
        self._thousands = mapping.thousands
        self._no_value = frozenset(("", *mapping.no_value))
        separator = re.escape(mapping.thousands)
        self._grouped = re.compile(rf"[+-]?\d{{1,3}}({separator}\d{{3}})+(\D.*)?") if mapping.thousands else None
        self._readers: dict[MetricType, Read] = {
            "float": self._float,
            "integer": self._integer,
            "boolean": _truth,
            "string": str,
        }

    def reader(self, type: MetricType | None) -> Read:
        """What reads the cells of a metric of this type; None: a number, true or false, or else a text."""
        read = self._readers[type] if type else self._any
        no_value = self._no_value

        def read_cell(cell: str) -> Value:
            text = cell.strip()
            return None if text in no_value else read(text if type != "string" else cell)

        return read_cell

    def _plain(self, text: str) -> str:
        """A number as Python writes it."""
        if self._grouped is not None and self._grouped.fullmatch(text):
            text = text.replace(self._thousands, "")
        elif self._decimal == "," and "." in text:
            raise ValueError(f"{text!r} is no number whose decimal point is a comma")
        return text.replace(",", ".") if self._decimal == "," else text

    def _float(self, text: str) -> float | None:
        plain = self._plain(text)
        # float() itself takes more than is meant by a number: 1_000, infinity, digits of any script.
        if not _NUMBER.fullmatch(plain) or not plain.isascii():
            raise ValueError(f"{text!r} is no number")
        value = float(plain)
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is too large for a number")
        return value

    def _integer(self, text: str) -> int:
        plain = self._plain(text)
        try:
            value = int(plain) if "_" not in plain and "." not in plain else int(_whole(plain))
        except ValueError:
            raise ValueError(f"{text!r} is no integer") from None
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise ValueError(f"{text!r} is outside signed 64 bits")
        return value

    def _any(self, text: str) -> Value:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            return self._float(text)
        except ValueError:
            return text


def _truth(text: str) -> bool:
    value = TRUTHS.get(text.lower())
    if value is None:
        raise ValueError(f"{text!r} is neither true nor false")
    return value


def _whole(plain: str) -> str:
    """The digits before a fraction of zeros, as spreadsheets write integers. Raises ValueError."""
    whole, _, fraction = plain.partition(".")
    if fraction.strip("0") or not whole:
        raise ValueError
    return whole
