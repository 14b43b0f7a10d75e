"""`hub try`: read a file or standard input as every input of the hub would, and store nothing."""

from __future__ import annotations

import json
import sys
import time
import tomllib
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.text import Text
from typer import Argument, Option

from formats.container import MAX_CONTENT_BYTES, unpacked
from formats.custom import FUNCTION, UserFunction
from formats.reading import Reading, Result
from formats.record import FrameRefused, RefusedInput, Row
from formats.rules import Rules, RulesError, rules_of, rules_text
from formats.series import InputSeries
from hub.cli.command import FAILED, MISUSE, AsJson, fail, plain_table, printable, stdout_console
from hub.cli.option_group import with_option_groups
from wire.text import plural
from wire.timestamp import NS_PER_S

COMMAND = "hub try"

MAX_ROWS = 20
"""Readings on the terminal; --json contains up to MAX_JSON_ROWS rows."""

MAX_REFUSALS = 20
MAX_JSON_ROWS = 1000
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class RuleOptions:
    """Options for the rules; None for one that was not given."""

    rules: Annotated[Path | None, Option(metavar="FILE", help="TOML file with rules, as this command prints them.")] = (
        None
    )
    format: Annotated[
        str | None,
        Option(metavar="FORMAT", help="auto, json, senml, line, csv, pairs, plotter, nmea, regex, value or function."),
    ] = None
    device: Annotated[str | None, Option(metavar="TEMPLATE", help="Device: an id, or like {model}-{id}.")] = None
    metric: Annotated[str | None, Option(metavar="TEMPLATE", help="Metric, like {measurement}.{field}.")] = None
    time: Annotated[list[str] | None, Option(metavar="FIELD", help="Field with the time; twice for date and time.")] = (
        None
    )
    time_format: Annotated[
        str | None,
        Option(metavar="FORMAT", help="s, ms, us, ns, since_2000, uptime_ms, day_first, … or like %d.%m.%Y %H:%M."),
    ] = None
    zone: Annotated[str | None, Option(metavar="ZONE", help="Zone of times without an offset: Europe/Berlin.")] = None
    decimal: Annotated[str | None, Option(metavar="MARK", help="Decimal mark: . or ,")] = None
    thousands: Annotated[str | None, Option(metavar="MARK", help="Mark between thousands.")] = None
    delimiter: Annotated[str | None, Option(metavar="CHARACTER", help="csv: character between cells.")] = None
    encoding: Annotated[str | None, Option(metavar="NAME", help="Encoding, for example cp1252 or utf-16.")] = None
    pattern: Annotated[str | None, Option(metavar="REGEX", help="regex: with named groups, (?P<temp>[0-9.]+).")] = None
    function: Annotated[
        Path | None, Option(metavar="FILE", help="function: Python file that defines decode(frame).")
    ] = None
    type: Annotated[list[str] | None, Option(metavar="METRIC=TYPE", help="Type of a metric (repeatable).")] = None
    unit: Annotated[list[str] | None, Option(metavar="METRIC=UNIT", help="Unit of a metric (repeatable).")] = None
    no_value: Annotated[list[str] | None, Option(metavar="WORD", help="Word without a value (repeatable).")] = None

    def to_rules(self) -> Rules:
        """Return the rules of the file and these options, which win. An invalid one ends the command with 2."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        fields: dict[str, Any] = {}
        if (path := given.pop("rules", None)) is not None:
            try:
                fields = tomllib.loads(path.read_text(encoding="utf-8"))
            except OSError as error:
                fail(COMMAND, f"{path} cannot be read: {error.strerror}", MISUSE)
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                fail(COMMAND, f"{path} is not TOML: {error}", MISUSE)
        given.pop("function", None)
        for option, name in (("type", "types"), ("unit", "units")):
            pairs = dict(_pair(f"--{option}", text) for text in given.pop(option, ()))
            if pairs:
                fields[name] = {**fields.get(name, {}), **pairs}
        if given.get("delimiter") in ("\\t", "tab"):
            given["delimiter"] = "\t"
        if "pattern" in given:
            given.setdefault("format", "regex")
        if self.function is not None:
            given.setdefault("format", "function")
        try:
            return rules_of({**fields, **given})
        except RulesError as error:
            fail(COMMAND, str(error), MISUSE)


@with_option_groups
def try_input(
    file: Annotated[str, Argument(metavar="FILE|-", help="File, also compressed, or - for standard input.")],
    as_json: AsJson = False,
    *,
    options: RuleOptions,
) -> None:
    """Read a file or standard input as every input of the hub would, and store nothing.

    The output has the format and why it was chosen, the readings, each refused value with the setting that changes the
    decision, the rules that decided, and the settings to copy. No hub is needed. The exit code is 1 if something was
    refused.

    Examples:  hub try log.csv  ·  hub try - < capture.txt  ·  hub try log.csv --zone Europe/Berlin --device boiler-1
    """
    rules = options.to_rules()
    function = None if options.function is None else _function_in(options.function)
    if rules.format == "function" and function is None:
        fail(COMMAND, 'format = "function" needs --function FILE', MISUSE)
    data = _content(file)
    try:
        data, container = unpacked(data)
    except FrameRefused as error:
        fail(COMMAND, f"{file}: {error.reason}")
    reading = Reading(rules, _zone(rules.zone), function=function)
    trial = _Trial(reading)
    now_ns = time.time_ns()
    for start in range(0, len(data), BLOCK_BYTES):
        trial.add(reading.feed(data[start : start + BLOCK_BYTES], now_ns))
    trial.add(reading.finish(now_ns))
    if as_json:
        print(json.dumps({"file": file, "container": container, **trial.facts()}, ensure_ascii=False))
    else:
        trial.print(container)
    raise typer.Exit(FAILED if trial.refused else 0)


class _Trial:
    """Counters and the first results of one input."""

    def __init__(self, reading: Reading) -> None:
        self.refused: Counter[str] = Counter()
        self._reading = reading
        self._rows: list[Row] = []
        self._refusals: list[RefusedInput] = []
        self._row_count = 0

    def add(self, result: Result) -> None:
        """Count results and keep the first of them."""
        rows, refusals = result.all_rows, result.refusals
        self._row_count += len(rows)
        self._rows += rows[: MAX_JSON_ROWS - len(self._rows)]
        self.refused.update(refusal.code for refusal in refusals)
        self._refusals += refusals[: MAX_JSON_ROWS - len(self._refusals)]

    def facts(self) -> dict[str, Any]:
        """Return everything, for programs."""
        reading, interpreter = self._reading, self._reading.interpreter
        return {
            "format": None if reading.detection is None else reading.detection.format,
            "reason": None if reading.detection is None else reading.detection.reason,
            "lines": reading.lines,
            "rows": self._row_count,
            "readings": interpreter.readings,
            "no_values": interpreter.no_values,
            "odd_times": interpreter.times.odd,
            "refused": dict(self.refused),
            "first_rows": [
                {
                    "line": row.line, "device": row.device, "time_ns": row.time_ns, "odd_time": row.is_time_odd,
                    "values": row.values,
                }
                for row in self._rows
            ],
            "refusals": [
                {
                    "line": refusal.line, "code": refusal.code, "reason": refusal.reason, "metric": refusal.metric,
                    "value": refusal.value, "setting": refusal.setting, "raw": refusal.raw.decode(errors="replace"),
                }
                for refusal in self._refusals
            ],
            "metrics": [
                {"device": device, "metric": s.metric, "type": s.type, "unit": s.unit, "label": s.label}
                for device, series in interpreter.metrics.items() for s in series.values() if s.type is not None
            ],
            "labels": interpreter.labels,
            "notes": [note._asdict() for note in reading.notes],
            "settings": rules_text(reading.settings()),
        }  # fmt: skip

    def print(self, container: str) -> None:
        """Print everything, for people."""
        reading = self._reading
        detection = reading.detection
        packed = f" in {container}" if container else ""
        reason = detection.reason if detection else "no line has a format that is known"
        _echo(f"format    {detection.format if detection else 'unknown'}{packed}: {reason}")
        if self._rows:
            _echo()
            self._print_rows()
        if self._refusals:
            _echo()
            self._print_refusals()
        interpreter = reading.interpreter
        _echo()
        counts = [
            f"{plural(interpreter.readings, 'reading')} in {plural(self._row_count, 'row')}",
            plural(reading.lines, "line"),
            f"{interpreter.no_values:,} without a value" if interpreter.no_values else "",
            f"{self.refused.total():,} refused" if self.refused else "nothing refused",
        ]
        _echo("; ".join(filter(None, counts)))
        if reading.notes:
            _echo()
            _echo("decided by")
            for note in reading.notes:
                _echo(f"  {note.code:<9} {note.sentence}")
        _echo()
        _echo("settings to copy")
        _echo(rules_text(reading.settings()).rstrip("\n") or "# the defaults")

    def _print_rows(self) -> None:
        table = plain_table("line", "time (UTC)", "device", "metric", "value", "unit", "type", numbers=("line",))
        shown = 0
        metrics = self._reading.interpreter.metrics
        for row in self._rows:
            for metric, value in row.values.items():
                if shown == MAX_ROWS:
                    break
                series: InputSeries = metrics[row.device][metric]
                cells = (
                    str(row.line),
                    _time(row),
                    row.device or "(none)",
                    metric,
                    _value(value),
                    series.unit,
                    series.type or "",
                )
                table.add_row(*(Text(printable(cell)) for cell in cells))
                shown += 1
        stdout_console().print(table)
        if (more := self._reading.interpreter.readings - shown) > 0:
            _echo(f"… and {plural(more, 'more reading')}")

    def _print_refusals(self) -> None:
        _echo("refused")
        for refusal in self._refusals[:MAX_REFUSALS]:
            what = f", {refusal.metric}" if refusal.metric else ""
            setting = f"; set {refusal.setting}" if refusal.setting else ""
            _echo(f"  line {refusal.line}{what}: {refusal.reason} [{refusal.code}]{setting}")
        if (more := self.refused.total() - MAX_REFUSALS) > 0:
            _echo(f"  … and {more:,} more")


def _time(row: Row) -> str:
    if row.time_ns is None:
        return "arrival"
    seconds, fraction = divmod(row.time_ns, NS_PER_S)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f".{fraction:09}".rstrip("0") if fraction else ""
    return f"{stamp}{digits}Z{' (odd)' if row.is_time_odd else ''}"


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _content(file: str) -> bytes:
    """Return the bytes of a file or of standard input, up to the bound; a failure ends the command."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_CONTENT_BYTES + 1)
        else:
            with Path(file).open("rb") as source:
                data = source.read(MAX_CONTENT_BYTES + 1)
    except OSError as error:
        fail(COMMAND, f"{file} cannot be read: {error.strerror}")
    if len(data) > MAX_CONTENT_BYTES:
        fail(COMMAND, f"{file} has more than {MAX_CONTENT_BYTES:,} bytes: try its beginning, for example with head")
    return data


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        fail(COMMAND, f"the time zone {name!r} is unknown; use a name like Europe/Berlin, or UTC", MISUSE)


def _function_in(path: Path) -> UserFunction:
    """Return the function of a Python file, which runs with all rights of this command."""
    names: dict[str, Any] = {"__name__": "telemetry_hub_decode", "__file__": str(path)}
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
    except OSError as error:
        fail(COMMAND, f"{path} cannot be read: {error.strerror}", MISUSE)
    except Exception as error:  # noqa: BLE001
        fail(COMMAND, f"{path} cannot be loaded: {type(error).__name__}: {error}", MISUSE)
    if not callable(names.get(FUNCTION)):
        fail(COMMAND, f"{path} does not define {FUNCTION}(frame)", MISUSE)
    function: UserFunction = names[FUNCTION]
    return function


def _pair(option: str, text: str) -> tuple[str, str]:
    """Return a pair of NAME=VALUE. The last = separates, because names may contain one."""
    name, separator, value = text.rpartition("=")
    if not separator or not name or not value:
        fail(COMMAND, f"{option} {text!r}: write NAME=VALUE", MISUSE)
    return name, value


def _echo(text: str = "") -> None:
    typer.echo(printable(text))
