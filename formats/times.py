"""Times in every form that devices and programs write, to nanoseconds since 1970 UTC.

A time without an offset is a local time of `zone`. One `TimeReader` reads the times of one input in their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import NamedTuple

from formats.rules import Ambiguous
from wire.limits import MAX_TIME_NS
from wire.timestamp import MAX_SHOWN, NS_PER_S, NS_PER_UNIT

EARLIEST_NS = 631_152_000 * NS_PER_S
"""1990-01-01: no digital logger has older readings; an earlier time is that of a clock that was not set."""

AHEAD_NS = 86_400 * NS_PER_S
"""A time further in the future is marked. Zones differ by up to 26 hours, but only a wrong clock is a day ahead."""

SINCE_2000_NS = 946_684_800 * NS_PER_S
_EXCEL_EPOCH = datetime(1899, 12, 30)
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_EXCEL_DAYS = 150_000
"""Excel's day of the year 2310."""

UPTIME_NS = {"uptime_s": NS_PER_S, "uptime_ms": 1_000_000, "uptime_us": 1_000}
_ROLL_OVER = 2**32
"""Counters of milliseconds and microseconds on microcontrollers have 32 bits: 49.7 days, and 71.6 minutes."""

SENML_RELATIVE_BELOW = 2**28
"""Smaller times of SenML are relative to now (RFC 8428, section 4.5.3)."""

MAX_SERIES = 10_000
"""Series whose latest local time or clock is remembered. When it is full, all are dropped and learned again."""

_ONE_NIGHT = timedelta(hours=12)
"""Two ambiguous times further apart than this belong to different nights."""

_UNIT_BY_SIZE: tuple[tuple[int, str], ...] = ((10**11, "s"), (10**14, "ms"), (10**17, "us"))
"""A count below the bound has this unit. Between the years 1973 and 5138 the ranges do not overlap."""

DATE_ORDERS = ("day_first", "month_first", "year_first")
"""Orders of the numbers in dates such as 03/04/26, as values of `time_format`."""

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_COUNT = re.compile(r"[0-9]{1,19}(?:\.[0-9]{1,18})?")
_COMPACT = re.compile(r"(?:19|20)[0-9]{6}(?:[0-9]{6})?")
_MOMENT = re.compile(
    r"""(?:[a-z]{3,9}\.?,?\ +)?
    (?:(?P<a>[0-9]{1,4})(?P<sep>[./-])(?P<b>[0-9]{1,2}|[a-z]{3,9})(?P=sep)(?P<c>[0-9]{1,4})
      |(?P<day>[0-9]{1,2})\.?\ +(?P<month>[a-z]{3,9})\.?,?\ +(?P<year>[0-9]{4})
      |(?P<month2>[a-z]{3,9})\.?\ +(?P<day2>[0-9]{1,2}),?\ +(?P<year2>[0-9]{4})
      |(?P<year3>[0-9]{4})-(?P<ordinal>[0-9]{3}))
    (?:(?:[t,]|\ )\ *(?P<h>[0-9]{1,2}):(?P<m>[0-9]{2})(?::(?P<s>[0-9]{2})(?:[.,](?P<f>[0-9]{1,18}))?)?
      \ *(?P<half>[ap]\.?m\.?)?)?
    \ *(?P<zone>z|(?:utc|gmt)?[+-][0-9]{1,2}(?::?[0-9]{2})?|utc|gmt)?""",
    re.VERBOSE,
)
_ZONE = re.compile(r"(?:utc|gmt)?([+-])([0-9]{1,2})(?::?([0-9]{2}))?")
_COMPACT_DIGITS = len("20260131235959")
_FINE_FROM = len("20260131T235959,999999")
_FINE = re.compile(r"[.,][0-9]{6}([0-9]{1,3})")


InputSeries = tuple[str, Iterable[str]]
"""A device and the fields of its record."""


class Moment(NamedTuple):
    """A time that was read; `is_odd` marks one outside of 1990 to a day from now."""

    time_ns: int
    is_odd: bool = False


class TimeRefused(ValueError):
    """A text or a number that is not a time; `setting` decides it if it can be one."""

    def __init__(self, reason: str, setting: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.setting = setting


class TimeReader:
    """Reader of the times of one input.

    `local` counts the times without an offset, `ambiguous` those of them that occur twice, `odd` those outside of the
    bounds, and `restarts` and `roll_overs` the events of an uptime. `date_order` is the order of the numbers in dates
    such as 03/04/26, "" before evidence decides it.
    """

    def __init__(self, time_format: str, zone: tzinfo, ambiguous: Ambiguous) -> None:
        self.local = self.ambiguous = self.odd = self.restarts = self.roll_overs = 0
        self.date_order = time_format if time_format in DATE_ORDERS else ""
        self.time_format = "auto" if self.date_order else time_format
        self._local_times = ZonedTimes(zone, ambiguous)
        self._clocks: dict[str, UptimeClock] = {}

    def learn(self, texts: Iterable[str]) -> None:
        """Decide the order of day, month and year if only one fits all dates."""
        if self.date_order:
            return
        orders = set(DATE_ORDERS)
        for text in texts:
            found = _MOMENT.fullmatch(text.strip().lower())
            if found is not None and found["sep"] in ("/", "-") and len(found["a"]) < 3 and found["b"].isdecimal():
                orders &= _dates_of(found).keys() or orders
        if len(orders) == 1:
            self.date_order = orders.pop()

    def read(
        self,
        value: object,
        now_ns: int,
        device: str,
        fields: Iterable[str] = (),
        form: str = "",
        zone: tzinfo | None = None,
    ) -> Moment:
        """Return a time. The times of one device with the same `fields` are in order. Raises TimeRefused.

        `form` and `zone` are declared by the format; the rules' own time_format wins.
        """
        series = device, fields
        form = self.time_format if self.time_format != "auto" else form or "auto"
        if form in UPTIME_NS:
            return Moment(self._from_uptime(_count(value), form, now_ns, device))
        if form == "senml":
            time_ns = _from_senml(_count(value), now_ns)
        elif form == "since_2000":
            time_ns = SINCE_2000_NS + int(_count(value) * NS_PER_S)
        elif form == "excel":
            time_ns = self._from_excel(_count(value), series, zone)
        elif form in NS_PER_UNIT:
            time_ns = int(_count(value) * NS_PER_UNIT[form])
        elif "%" in form:
            time_ns = self._from_pattern(str(value), form, series, zone)
        elif type(value) is str and value[4:5] == "-" and form == "auto":
            # Nearly all texts are such dates, so the tests of the others wait.
            time_ns = self._from_text(value, series, zone)
        elif isinstance(value, str) and not (
            form == "auto" and _COUNT.fullmatch(value.strip()) and not _is_date(value)
        ):
            time_ns = self._from_text(value, series, zone)
        else:
            time_ns = _by_magnitude(value)
        if not 0 <= time_ns <= MAX_TIME_NS:
            raise TimeRefused(f"{_shown(value)} is not between 1970 and 2262")
        is_odd = not EARLIEST_NS <= time_ns <= now_ns + AHEAD_NS
        self.odd += is_odd
        return Moment(time_ns, is_odd)

    def is_plain_ns(self, count: int, now_ns: int) -> bool:
        """Return whether `read` would return a declared count of nanoseconds as it is."""
        return self.time_format in ("auto", "ns") and EARLIEST_NS <= count <= now_ns + AHEAD_NS <= MAX_TIME_NS

    def plain_range(self, now_ns: int) -> tuple[int, int]:
        """Return the first and the last time that is not odd, for counts of a declared unit.

        The range is empty if the rules read such counts in another way.
        """
        if self.time_format not in ("auto", *NS_PER_UNIT):
            return 1, 0
        return EARLIEST_NS, min(now_ns + AHEAD_NS, MAX_TIME_NS)

    def read_plain(self, value: object, now_ns: int) -> int | None:
        """Return what `read` returns for a count, or a date with an offset, that is not odd; None for others.

        Nothing is learned from such times and nothing is counted, so a caller may ask `read` after None.
        """
        if self.time_format != "auto":
            return None
        if type(value) is int:
            if value >= 10**17:
                time_ns = value
            else:
                time_ns = value * (10**9 if value < 10**11 else 10**6 if value < 10**14 else 1000)
        elif type(value) is str and value[4:5] == "-" and not (len(value) > _FINE_FROM and _FINE.search(value)):
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                return None
            if moment.tzinfo is None:
                return None
            since = moment - _UNIX_EPOCH
            time_ns = (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * 1_000
        else:
            return None
        return time_ns if EARLIEST_NS <= time_ns <= now_ns + AHEAD_NS and time_ns <= MAX_TIME_NS else None

    def _from_text(self, text: str, series: InputSeries, zone: tzinfo | None) -> int:
        moment, extra_ns = parse_moment(text, self.date_order)
        return self._since_1970(moment, series, zone) + extra_ns

    def _from_pattern(self, text: str, pattern: str, series: InputSeries, zone: tzinfo | None) -> int:
        try:
            moment = datetime.strptime(text.strip(), pattern)
        except (ValueError, OverflowError):
            raise TimeRefused(f"{_shown(text)} is not a time in the format {pattern!r}", "time_format") from None
        return self._since_1970(moment, series, zone)

    def _from_excel(self, days: int | Decimal, series: InputSeries, zone: tzinfo | None) -> int:
        if not 0 <= days <= _MAX_EXCEL_DAYS:
            raise TimeRefused(f"{days} is not a day of a spreadsheet")
        # A day has 86,400 seconds; milliseconds are finer than the digits that a spreadsheet keeps.
        moment = _EXCEL_EPOCH + timedelta(milliseconds=round(days * 86_400_000))
        return self._since_1970(moment, series, zone)

    def _since_1970(self, moment: datetime, series: InputSeries, zone: tzinfo | None) -> int:
        if moment.tzinfo is None:
            if zone is not None:
                moment = moment.replace(tzinfo=zone)
            else:
                self.local += 1
                before = self._local_times.ambiguous
                moment = self._local_times.localize(moment, series)
                self.ambiguous += self._local_times.ambiguous - before
        try:
            since = moment - _UNIX_EPOCH
        except OverflowError:
            raise TimeRefused(f"{moment} is not between 1970 and 2262") from None
        return (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * 1_000

    def _from_uptime(self, count: int | Decimal, form: str, now_ns: int, device: str) -> int:
        clock = self._clocks.get(device)
        if clock is None:
            if len(self._clocks) >= MAX_SERIES:
                self._clocks.clear()
            clock = self._clocks[device] = UptimeClock(UPTIME_NS[form], rolls_over=form != "uptime_s")
        time_ns = clock.time_ns(count, now_ns)
        self.restarts += clock.restarted
        self.roll_overs += clock.rolled_over
        if not 0 <= time_ns <= MAX_TIME_NS:
            raise TimeRefused(f"the uptime {count} is not between 1970 and 2262")
        return time_ns


class UptimeClock:
    """Clock of a device that counts since its start. The arrival of the first count defines the start.

    A smaller count than before is a roll-over of the 32-bit counter if the time between the arrivals agrees with it,
    otherwise a restart of the device. `restarted` and `rolled_over` describe the last count.
    """

    def __init__(self, ns_per_count: int, *, rolls_over: bool) -> None:
        self.restarted = self.rolled_over = False
        self._ns_per_count = ns_per_count
        self._rolls_over = rolls_over
        self._start_ns: int | None = None
        self._last = 0
        self._last_arrival_ns = 0

    def time_ns(self, count: int | Decimal, now_ns: int) -> int:
        """Return the time of a count that arrives now."""
        up_ns = int(count * self._ns_per_count)
        self.restarted = self.rolled_over = False
        if self._start_ns is None:
            self._start_ns = now_ns - up_ns
        elif up_ns < self._last:
            turn_ns = _ROLL_OVER * self._ns_per_count
            elapsed_ns = now_ns - self._last_arrival_ns
            error_ns = abs(up_ns + turn_ns - self._last - elapsed_ns)
            if self._rolls_over and error_ns <= 60 * NS_PER_S + elapsed_ns // 100:
                self.rolled_over = True
                self._start_ns += turn_ns
            else:
                self.restarted = True
                self._start_ns = now_ns - up_ns
        self._last, self._last_arrival_ns = up_ns, now_ns
        return self._start_ns + up_ns


class ZonedTimes:
    """Zone of local times, with the order of records as evidence for the hour that occurs twice."""

    def __init__(self, zone: tzinfo, ambiguous: Ambiguous) -> None:
        self.ambiguous = 0
        self._zone = zone
        self._decide = ambiguous
        self._latest: dict[tuple[str, ...], tuple[datetime, int, int]] = {}
        """Latest local time of a series, the direction of its times (1, -1, 0), and the fold of the last one."""

    def localize(self, local: datetime, series: InputSeries) -> datetime:
        """Return the time with its zone. Raises TimeRefused if it does not exist or cannot be decided."""
        zone = self._zone
        first, second = local.replace(tzinfo=zone), local.replace(tzinfo=zone, fold=1)
        before, after = first.utcoffset(), second.utcoffset()
        if before is not None and after is not None and before < after:
            raise TimeRefused(f"{local} does not exist in {zone}: clocks were put forward over it", "zone")
        is_ambiguous = before != after
        if not is_ambiguous and zone in (UTC, None):
            return first
        fold = self._fold(local, series, is_ambiguous)
        return second if fold and is_ambiguous else first

    def _fold(self, local: datetime, series: InputSeries, is_ambiguous: bool) -> int:
        self.ambiguous += is_ambiguous
        if is_ambiguous and self._decide != "order":
            if self._decide == "refuse":
                raise TimeRefused(f"{local} occurs twice in {self._zone}: clocks were put back", "ambiguous")
            return int(self._decide == "later")
        key = series[0], *series[1]
        latest, direction, fold = self._latest.get(key, (local, 0, -1))
        distance = local - latest
        if not is_ambiguous or abs(distance) > _ONE_NIGHT:
            fold = -1
        if is_ambiguous:
            falls = direction < 0
            if fold < 0:
                fold = int(falls)
            elif (distance < timedelta()) != falls and distance:
                if fold != int(falls):
                    raise TimeRefused(
                        f"{local} occurs twice in {self._zone}, and the order of the records does not decide it",
                        'ambiguous = "earlier"',
                    )
                fold = 1 - fold
        elif distance:
            direction = 1 if distance > timedelta() else -1
        if len(self._latest) >= MAX_SERIES:
            self._latest.clear()
        self._latest[key] = local, direction, fold
        return max(fold, 0)


def parse_moment(text: str, date_order: str = "") -> tuple[datetime, int]:
    """Return a time without the nanoseconds that datetime does not have, and these. Raises TimeRefused."""
    stripped = text.strip()
    try:
        if len(stripped) == _COMPACT_DIGITS and stripped.isdecimal():
            return datetime.strptime(stripped, "%Y%m%d%H%M%S"), 0
        moment = datetime.fromisoformat(stripped)
    except ValueError:
        return _parse_form(stripped, date_order)
    fine = _FINE.search(stripped) if len(stripped) > _FINE_FROM else None
    return moment, int(fine[1].ljust(3, "0")) if fine else 0


def _parse_form(text: str, date_order: str) -> tuple[datetime, int]:
    found = _MOMENT.fullmatch(text.lower()) if len(text) <= MAX_SHOWN * 2 else None
    if found is None:
        if text.startswith(tuple("0123456789")) and _COMPACT.fullmatch(text[:15].replace("T", "")) and "24" in text:
            return _parse_compact(text)
        raise TimeRefused(f"{_shown(text)} is not a time", "time_format")
    year, month, day = _date_of(found, text, date_order)
    hour, minute, second = (int(found[name] or 0) for name in ("h", "m", "s"))
    days = 0
    if found["half"]:
        if not 1 <= hour <= 12:
            raise TimeRefused(f"{_shown(text)} has an hour that does not exist")
        hour = hour % 12 + (12 if found["half"].startswith("p") else 0)
    fraction = (found["f"] or "").ljust(9, "0")[:9]
    if hour == 24 and not minute and not second and not int(fraction):
        hour, days = 0, 1
    try:
        moment = datetime(year, month, day, hour, minute, second, int(fraction[:6]), _zone_of(found["zone"]))
        return moment + timedelta(days=days), int(fraction[6:])
    except (ValueError, OverflowError):
        raise TimeRefused(f"{_shown(text)} is not a time that exists") from None


def _parse_compact(text: str) -> tuple[datetime, int]:
    """Return a time such as 20240131T240000Z."""
    found = re.fullmatch(r"([0-9]{8})T?24(?::?00){1,2}(Z|[+-][0-9]{2}:?[0-9]{2})?", text)
    if found is None:
        raise TimeRefused(f"{_shown(text)} is not a time", "time_format")
    try:
        return datetime.fromisoformat(f"{found[1]}T000000{found[2] or ''}") + timedelta(days=1), 0
    except (ValueError, OverflowError):
        raise TimeRefused(f"{_shown(text)} is not a time that exists") from None


def _date_of(found: re.Match[str], text: str, date_order: str) -> tuple[int, int, int]:
    """Return year, month and day. Raises TimeRefused."""
    if found["ordinal"]:
        start = datetime(int(found["year3"]) or 1, 1, 1)
        try:
            date = start + timedelta(days=int(found["ordinal"]) - 1)
        except OverflowError:
            date = start
        if date.year != start.year:
            raise TimeRefused(f"{_shown(text)} has a day that does not exist")
        return date.year, date.month, date.day
    if found["month"] or found["month2"]:
        year, month, day = (
            found["year"] or found["year2"],
            found["month"] or found["month2"],
            found["day"] or found["day2"],
        )
        return int(year), _month(month, text), int(day)
    a, b, c = found["a"], found["b"], found["c"]
    if not b.isdecimal():
        return (int(a), _month(b, text), int(c)) if len(a) == 4 else (_year(c), _month(b, text), int(a))
    if len(a) >= 3:
        return int(a), int(b), int(c)
    dates = _dates_of(found)
    if not dates:
        raise TimeRefused(f"{_shown(text)} is not a time that exists")
    if date_order not in dates and len(set(dates.values())) > 1:
        firsts = " or ".join(f"the {order.partition('_')[0]}" for order in dates)
        raise TimeRefused(
            f"{_shown(text)} can have {firsts} first, and no other date decides it",
            " or ".join(f'time_format = "{order}"' for order in dates),
        )
    return dates.get(date_order) or next(iter(dates.values()))


def _dates_of(found: re.Match[str]) -> dict[str, tuple[int, int, int]]:
    """Return year, month and day of a date such as 03/04/26 in each order that its numbers can have.

    Between points, the day is always first. A year of four digits is last here.
    """
    a, b, c = (int(found[name]) for name in "abc")
    if found["sep"] == ".":
        return {"day_first": (_year(found["c"]), b, a)}
    dates = {"day_first": (_year(found["c"]), b, a), "month_first": (_year(found["c"]), a, b)}
    if len(found["c"]) < 3:
        dates["year_first"] = _year(found["a"]), b, c
    return {order: date for order, date in dates.items() if 1 <= date[1] <= 12 and 1 <= date[2] <= 31}


def _month(name: str, text: str) -> int:
    if (month := _MONTHS.get(name[:3])) is None:
        raise TimeRefused(f"{_shown(text)} has no month that is known")
    return month


def _year(digits: str) -> int:
    """Return the year; two digits are 1970 to 2069, as in POSIX."""
    year = int(digits)
    return year if len(digits) > 2 else year + (2000 if year < 70 else 1900)


def _zone_of(text: str | None) -> tzinfo | None:
    if not text:
        return None
    found = _ZONE.fullmatch(text)
    return UTC if found is None else offset_of(found[1], found[2], found[3])


def offset_of(sign: str, hours: str, minutes: str | None) -> tzinfo:
    """Return the zone with an offset. Raises ValueError for an offset of a day or more."""
    offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
    return timezone(-offset if sign == "-" else offset)


def _is_date(text: str) -> bool:
    """Return whether digits are a calendar date: 20260131, or 20260131235959, which would be no count either."""
    digits = text.strip()
    if not _COMPACT.fullmatch(digits):
        return False
    try:
        datetime.strptime(digits, "%Y%m%d" if len(digits) == 8 else "%Y%m%d%H%M%S")
    except ValueError:
        return False
    return True


def _count(value: object) -> int | Decimal:
    if isinstance(value, bool):
        raise TimeRefused(f"{value} is not a time")
    try:
        if type(value) is int:
            return value
        count = Decimal(str(value).strip())
        # Check before any conversion to an integer: a number such as 1e999999999 would fill the memory.
        if count.is_finite() and -MAX_TIME_NS <= count <= MAX_TIME_NS:
            return count
    except ArithmeticError:
        pass
    raise TimeRefused(f"{_shown(value)} is not a count", "time_format")


def _by_magnitude(value: object) -> int:
    count = _count(value)
    for bound, unit in _UNIT_BY_SIZE:
        if -bound < count < bound:
            return int(count * NS_PER_UNIT[unit])
    return int(count)


def _from_senml(seconds: int | Decimal, now_ns: int) -> int:
    if seconds >= SENML_RELATIVE_BELOW:
        return int(seconds * NS_PER_S)
    return now_ns + int(seconds * NS_PER_S)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")
