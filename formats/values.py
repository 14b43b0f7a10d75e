"""Values in texts: words for no value, numbers as people and programs write them, units behind them, booleans.

One `Column` collects the evidence about one field over many records and converts its values by it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple

from formats.record import RefusalCode
from wire.limits import MAX_INTEGER, MAX_UNIT, MIN_INTEGER
from wire.model import Value

NO_VALUE = frozenset((
    "", "nan", "-nan", "+nan", "null", "nil", "none", "n/a", "na", "#n/a", "#num!", "#value!", "#div/0!",
    "#ref!", "unknown", "unavailable", "undefined", "-", "--", "---", "?",
))  # fmt: skip
"""Words without a value, in lower case. Such a value is not a reading, and it never determines a type."""

INFINITE = frozenset(
    ("inf", "-inf", "+inf", "infinity", "-infinity", "+infinity", "1.#inf", "-1.#inf", "1.#qnan", "-1.#ind")
)
"""Words without a value, unless the metric is text."""

TRUTHS = {
    "true": True, "on": True, "yes": True, "open": True,
    "false": False, "off": False, "no": False, "closed": False,
}  # fmt: skip
_DECLARED_TRUTHS = {**TRUTHS, "1": True, "0": False, "t": True, "f": False, "y": True, "n": False}
"""Words of a metric that is declared boolean."""

UNITS = frozenset((
    "°C", "°F", "°K", "C", "F", "K", "Cel", "degC", "degF", "%", "%RH", "%rF", "‰", "V", "mV", "µV", "uV", "kV",
    "A", "mA", "µA", "uA", "kA", "W", "mW", "kW", "MW", "Wh", "kWh", "MWh", "VA", "kVA", "var", "kvar", "VAr",
    "Hz", "kHz", "MHz", "GHz", "Pa", "hPa", "kPa", "MPa", "mbar", "bar", "psi", "inHg", "mmHg", "mmH2O", "m",
    "cm", "mm", "km", "µm", "um", "in", "ft", "mi", "kg", "g", "mg", "µg", "t", "lb", "l", "L", "ml", "mL",
    "m³", "m3", "l/min", "l/h", "L/min", "L/h", "m³/h", "m3/h", "m/s", "km/h", "mph", "kn", "kt", "kts", "rpm",
    "1/min", "s", "ms", "min", "h", "d", "lx", "lux", "lm", "cd", "dB", "dBm", "dBA", "dB(A)", "ppm", "ppb",
    "µg/m³", "ug/m3", "µg/m3", "mg/m³", "mg/m3", "mg/l", "mg/L", "V/m", "W/m²", "W/m2", "Ω", "ohm", "Ohm", "kΩ",
    "kOhm", "°", "deg", "µS/cm", "uS/cm", "mS/cm", "pH", "J", "kJ", "MJ", "N", "Nm", "kN", "B", "kB", "MB",
    "GB", "kbit/s", "Mbit/s", "mAh", "Ah", "mA/h", "F", "µF", "nF", "H", "mT", "µT", "uT", "T", "Bq", "Bq/m³",
    "µSv/h", "uSv/h", "mm/h", "g/m³", "kg/m³", "€/kWh",
))  # fmt: skip
"""Units that are recognised behind a single number. Other units need a column whose numbers all have the same."""

UNIT_SYMBOLS = {
    "*C": "°C", "ºC": "°C", "℃": "°C", "Cel": "°C", "degC": "°C", "deg C": "°C", "Deg C": "°C", "Celsius": "°C",
    "*F": "°F", "ºF": "°F", "℉": "°F", "degF": "°F", "deg F": "°F", "Deg F": "°F", "%RH": "%", "%rF": "%",
    "Volts": "V", "volts": "V", "Watts": "W", "Ohm": "Ω", "ohm": "Ω", "deg": "°", "degrees": "°", "Degrees": "°",
    "m3": "m³", "m3/h": "m³/h", "meters/second": "m/s", "uA": "µA", "uV": "µV", "uS/cm": "µS/cm", "ug/m3": "µg/m³",
    "µg/m3": "µg/m³", "ug/m³": "µg/m³", "mg/m3": "mg/m³", "W/m2": "W/m²", "W/m^2": "W/m²", "MJ/m^2": "MJ/m²",
    "m^2": "m²", "m^3": "m³", "m^3/h": "m³/h", "kg/m^3": "kg/m³", "mg/m^3": "mg/m³", "ug/m^3": "µg/m³",
    "Celcius": "°C", "celsius": "°C", "Fahrenheit": "°F", "fahrenheit": "°F", "hectopascal": "hPa", "percent": "%",
}  # fmt: skip
"""Other writings of units, and the symbols that are stored and shown."""

_STRIPPED = " \t\r\n\f\v\0\ufeff\u00a0\u2007\u2009\u202f"
_SPACES = dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u202f"), " ") | {ord("’"): "'", ord("−"): "-"}
PLAIN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?").fullmatch
"""Match of a number in the notation of programs. float() also accepts 1_000, infinity and digits of any script."""

_PARTS = re.compile(r"([+-]?)([0-9][0-9.,' ]*|[.,][0-9]+)([eE][+-]?[0-9]{1,3})?[ ]*(\D.*)?")
_NAME = re.compile(r"[0-9]+(?:[eE][0-9]+|(?:\.[0-9]+){2,})")
_AMBIGUOUS = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
_GROUPS = {mark: re.compile(rf"[0-9]{{1,3}}(?:{re.escape(mark)}[0-9]{{3}})+") for mark in ".,' "}
_PRECISE_DIGITS = 15
"""A float64 keeps this many digits. A longer number without a fraction is an identifier."""

EXACT = 2.0**53
"""A float keeps every whole number below this, and not all above it."""

MAX_NUMBER = 64
"""Characters of a number with its unit; longer texts are texts."""

Kind = Literal["number", "boolean", "text"]


class ValueRefused(Exception):
    """One value that cannot be converted; the message is a sentence."""

    def __init__(self, code: RefusalCode, reason: str, setting: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.setting = setting


class LargeNumber(str):
    """The text of a number that is too large for a float, in a format where texts are no numbers."""

    __slots__ = ()


class Written(NamedTuple):
    """A number as it is written. `decimal` and `thousands` are marks whose meaning is certain.

    `unclear` is a single mark that can be either, as in 1,234.
    """

    sign: str
    body: str
    exponent: str
    unit: str
    decimal: str = ""
    thousands: str = ""
    unclear: str = ""


def cleaned(text: str) -> str:
    """Return a text without surrounding white space, NULs, quotes, and the apostrophe of spreadsheets."""
    text = text.strip(_STRIPPED)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip(_STRIPPED)
    if text[:1] == "'" and text[1:2] in "+-.,0123456789":
        text = text[1:]
    return text


def written_number(text: str) -> Written | None:
    """Return the parts of a number with an optional unit; None if the text is not one."""
    if len(text) > MAX_NUMBER:
        return None
    found = _PARTS.fullmatch(text.translate(_SPACES))
    if found is None:
        return None
    sign, body, exponent, unit = found[1], found[2].rstrip(" "), found[3] or "", (found[4] or "").rstrip(" ")
    unit = UNIT_SYMBOLS.get(unit, unit)
    if unit and (len(unit) > MAX_UNIT or not _is_unit(unit)):
        return None
    group = " " if " " in body else "'" if "'" in body else ""
    if group:
        whole, mark, fraction = _partition_decimal(body)
        if not _GROUPS[group].fullmatch(whole) or not (fraction + "0").isdecimal():
            return None
        return Written(sign, body, exponent, unit, decimal=mark, thousands=group)
    dots, commas = body.count("."), body.count(",")
    if not dots and not commas:
        return Written(sign, body, exponent, unit)
    if dots and commas:
        decimal, thousands = (".", ",") if body.rfind(".") > body.rfind(",") else (",", ".")
        whole, _, fraction = body.rpartition(decimal)
        is_number = decimal not in whole and bool(_GROUPS[thousands].fullmatch(whole)) and thousands not in fraction
        return Written(sign, body, exponent, unit, decimal, thousands) if is_number else None
    mark = "." if dots else ","
    if dots + commas > 1:
        return Written(sign, body, exponent, unit, thousands=mark) if _GROUPS[mark].fullmatch(body) else None
    if _AMBIGUOUS.fullmatch(body) and not exponent:
        return Written(sign, body, exponent, unit, unclear=mark)
    return Written(sign, body, exponent, unit, decimal=mark)


def _partition_decimal(body: str) -> tuple[str, str, str]:
    mark = "." if "." in body else ","
    return body.partition(mark) if mark in body else (body, "", "")


def stored_unit(unit: str) -> str:
    """Return the symbol that is stored and shown for a unit."""
    return UNIT_SYMBOLS.get(unit, unit)


def is_same_unit(one: str, other: str) -> bool:
    """Return whether two writings mean one unit."""
    return stored_unit(one) == stored_unit(other)


def _is_unit(text: str) -> bool:
    return text in UNITS or not any(letter.isdigit() and letter not in "²³" for letter in text)


def is_identifier(text: str) -> bool:
    """Return whether digits are an identifier: too many for a number, or with a leading zero."""
    digits = text.lstrip("+-")
    return digits.isdecimal() and (len(digits) > _PRECISE_DIGITS or (len(digits) > 1 and digits[0] == "0"))


@dataclass(slots=True, eq=False)
class Column:
    """The decisions about one field: its kind, its number marks and its unit. Evidence sets what no rule sets.

    With `words`, a word such as "on" is a boolean, and a number can have leading zeros: the format has no types.
    """

    decimal: str = ""
    thousands: str = ""
    words: bool = False
    kind: Kind | None = None
    unit: str = ""
    no_value: Collection[str] = NO_VALUE
    is_fixed: bool = False
    is_unclear: bool = False

    def learn(self, texts: Iterable[str]) -> None:
        """Decide from these values what is not decided yet."""
        written: list[Written] = []
        decimals: Counter[str] = Counter()
        words = plain = others = 0
        for raw in texts:
            text = cleaned(raw)
            lowered = text.lower()
            if lowered in self.no_value or lowered in INFINITE:
                continue
            if self.words and lowered in TRUTHS:
                words += 1
            elif self._is_text(text):
                others += 1
            elif PLAIN(text) and not _AMBIGUOUS.fullmatch(text.lstrip("+-")):
                plain += 1
                decimals["."] += "." in text
            elif (number := written_number(text)) is not None:
                written.append(number)
                decimals[number.decimal] += 1
            else:
                others += 1
        self._learn_marks(written, decimals)
        units = Counter(number.unit for number in written if number.unit)
        if units and not self.unit:
            self._learn_unit(units, len(written) + plain)
        fitting = sum(not number.unit or number.unit == self.unit for number in written)
        self._learn_kind(plain + fitting, words, others + len(written) - fitting)

    def _learn_kind(self, numbers: int, words: int, others: int) -> None:
        if self.kind is not None or not numbers + words + others:
            return
        if words and not others:
            self.kind = "boolean" if words >= numbers else "number"
        elif numbers >= others and numbers:
            self.kind = "number"
        else:
            self.kind = "text"

    def _learn_marks(self, written: list[Written], decimals: Counter[str]) -> None:
        self.is_unclear = any(number.unclear for number in written)
        if self.is_fixed:
            return
        del decimals[""]
        decimals += Counter()
        groups = Counter(number.thousands for number in written if number.thousands)
        if not self.decimal and decimals:
            self.decimal = decimals.most_common(1)[0][0]
        if not self.thousands and groups:
            self.thousands = groups.most_common(1)[0][0]
        if not self.decimal and self.thousands in (".", ","):
            self.decimal = "," if self.thousands == "." else "."

    def adopt(self, decimal: str) -> None:
        """Use the decimal mark of the whole input if no value here has a certain one."""
        if not self.is_fixed and not self.decimal and (decimal == "." or self.is_unclear):
            self.decimal = decimal

    def _learn_unit(self, units: Counter[str], numbers: int) -> None:
        unit, often = units.most_common(1)[0]
        if unit in UNITS or (often > 1 and often == numbers):
            self.unit = unit

    def _is_text(self, text: str) -> bool:
        if is_identifier(text):
            return not self.words or len(text.lstrip("+-")) > _PRECISE_DIGITS
        # An identifier such as 7E10 in a text of JSON is no power of ten, and an address no number with thousands.
        return not self.words and bool(_NAME.fullmatch(text))

    def number(self, text: str) -> float | None:
        """Return the number in a cleaned text, None if it is not a number. Raises ValueRefused."""
        if self.decimal != "," and PLAIN(text):
            value = float(text)
            if not math.isfinite(value):
                raise ValueRefused("number", f"{text!r} is too large for a number")
            if not self.decimal and "." in text and not _AMBIGUOUS.fullmatch(text.lstrip("+-")):
                self._keep(".", "")
            return value
        written = written_number(text)
        if written is None:
            return None
        if written.unit and not self._admits(written.unit):
            if written.unit in UNITS and self.unit:
                raise ValueRefused("unit", f"the unit of {text!r} is not {self.unit}, which earlier values have")
            return None
        value = float(written.sign + self._plain(text, written) + written.exponent)
        if not math.isfinite(value):
            raise ValueRefused("number", f"{text!r} is too large for a number")
        return value

    def _admits(self, unit: str) -> bool:
        if not self.unit and unit in UNITS:
            self.unit = unit
        return unit == self.unit

    def _plain(self, text: str, written: Written) -> str:
        """Return the digits in the notation of Python. Raises ValueRefused for marks against the evidence."""
        body, decimal = written.body, written.decimal
        if written.unclear:
            decimal = self._meaning_of(text, written.unclear)
            thousands = "" if decimal else written.unclear
        else:
            thousands = written.thousands
            if decimal and (decimal == self.thousands or (self.decimal and decimal != self.decimal)):
                raise ValueRefused(
                    "number",
                    f"{text!r} has the decimal mark {decimal!r}, against the other values",
                    f'decimal = "{decimal}"',
                )
            if thousands and thousands == self.decimal:
                raise ValueRefused(
                    "number",
                    f"{text!r} has {thousands!r} between thousands, other values have it as the decimal mark",
                    f'thousands = "{thousands}"',
                )
            self._keep(decimal, thousands)
        if thousands:
            body = body.replace(thousands, "")
        return body.replace(decimal, ".") if decimal else body

    def _keep(self, decimal: str, thousands: str) -> None:
        """Remember marks whose meaning is certain, as evidence for the next values."""
        if not self.is_fixed:
            self.decimal = self.decimal or decimal
            self.thousands = self.thousands or thousands

    def _meaning_of(self, text: str, mark: str) -> str:
        """Return the mark if it is the decimal mark, "" if it separates thousands. Raises ValueRefused."""
        if self.decimal:
            return mark if mark == self.decimal else ""
        if self.thousands == mark:
            return ""
        if mark == ".":
            return mark
        raise ValueRefused(
            "ambiguous",
            f"{text!r} can be a decimal comma or thousands, and no other value decides: say `decimal` or `thousands`",
            'decimal = "," or thousands = ","',
        )


def whole_of(text: str) -> int | None:
    """Return the whole number in a cleaned text, None if it is written with a fraction or an exponent."""
    written = written_number(text)
    if written is None or written.decimal or written.exponent:
        return None
    return int("".join(filter(str.isdigit, written.body)))


def is_changed(whole: int, number: float) -> bool:
    """Return whether a float has another value than the whole number that it was made from.

    Programs write a float as its shortest digits, filled up with zeros; these are no other value.
    """
    return int(abs(number)) != abs(whole) != int(Decimal(repr(abs(number))))


def integer_of(value: float, text: str) -> int:
    """Return a number of a declared integer metric. Raises ValueRefused."""
    digits = cleaned(text)
    whole = int(digits) if digits.lstrip("+-").isdecimal() and len(digits) <= 20 else None
    if whole is None:
        if not value.is_integer():
            raise ValueRefused("type", f"{text!r} is not an integer")
        whole = int(value)
    if not MIN_INTEGER <= whole <= MAX_INTEGER:
        raise ValueRefused("number", f"{text!r} is outside signed 64 bits")
    return whole


def truth_of(text: str, *, declared: bool) -> bool | None:
    """Return the boolean that a word means, None for another word. 1 and 0 count only where they are declared."""
    return (_DECLARED_TRUTHS if declared else TRUTHS).get(cleaned(text).lower())


def value_kind(value: Value) -> str:
    """Return the words for the type of a value, for sentences."""
    return "a boolean" if isinstance(value, bool) else "a text" if isinstance(value, str) else "a number"
