"""Reading of what clients without the device protocol send: bytes become rows that their credential may write."""

from __future__ import annotations

import asyncio
import re
import types
from collections.abc import Collection, Container, Generator, Iterable, Mapping, Sequence
from datetime import tzinfo
from typing import NamedTuple, TypeVar

import msgspec
import structlog

from formats.interpretation import Interpreter, KnownType, KnownUnit
from formats.line_block import LineBlock
from formats.message import DecodedRow, MessageReader, MessageSource
from formats.record import MAX_RAW_BYTES, Origin, RefusedInput, Row
from formats.rules import Rules
from formats.values import is_same_unit
from hub.ingest.remedy import remedy
from hub.ingest.row_writer import NO_DESCRIPTION, DeviceDescription, PendingRow
from hub.model.identity import Identity, Role
from wire.limits import MAX_BATCH_BYTES, MAX_DESCRIPTION, MAX_TAG_VALUE
from wire.model import Metric

MAX_LINES = 5_000
"""Lines of one frame. They take up to 50 ms together, in turns of a few."""

SHORT_BYTES = 2 * 1024
"""Frames up to this size are read in one turn of the event loop: 5 ms at most, whatever they contain."""

COMPRESSED = (b"\x1f\x8b", b"x")
"""First bytes of compressed content, which is longer than it looks."""

LABEL = "name"
"""Tag with the name of a device whose id is a repaired one."""

_TOKEN = re.compile(rb"hub_[a-z]{1,16}_[0-9a-z]{4,64}_[0-9a-z]{16,128}")
"""Token of the hub. Each part is bounded: other content costs one attempt for each `hub_`."""

M = TypeVar("M")
T = TypeVar("T")

log = structlog.get_logger(__name__)


class InputFrame(NamedTuple):
    """Content of one frame or request, as far as its credential may write it.

    `blocks` are more readings of known metrics. `details` describe its devices. `owner` is the device that is charged
    with refusals that name none; "" if there is none. `denied`: the reason why rows of other devices were refused.
    """

    reader: InputReader
    payload: bytes
    rows: Sequence[DecodedRow]
    refusals: Sequence[RefusedInput]
    details: Mapping[str, DeviceDescription]
    owner: str
    received_ns: int
    denied: str = ""
    blocks: Sequence[LineBlock] = ()

    @property
    def readings(self) -> int:
        """The number of values in the rows and blocks."""
        return sum(len(row.values) for row in self.rows) + sum(block.readings for block in self.blocks)

    @property
    def devices(self) -> set[str]:
        """The devices of its rows and blocks."""
        return {*(row.device for row in self.rows), *(block.device for block in self.blocks)}

    @property
    def known_devices(self) -> set[str]:
        """These devices, and those that it describes or that are charged with its refusals."""
        return self.devices.union(self.details, (self.owner,) if self.owner else ())

    def pending_rows(self, message: M) -> dict[str, list[PendingRow[M]]]:
        """Return its rows by device. Those without a time have that of the arrival."""
        rows: dict[str, list[PendingRow[M]]] = {}
        for row in self.rows:
            has_time = row.time_ns is not None
            time_ns = row.time_ns if row.time_ns is not None else self.received_ns
            pending = PendingRow(message, time_ns, row.values, has_time, row.historical, False)
            rows.setdefault(row.device, []).append(pending)
        return rows

    def rows_of_block(self, block: LineBlock, message: M) -> list[PendingRow[M]]:
        """Return the rows of one of its blocks, or of a part of it."""
        has_times = block.times is not None
        times = block.times if block.times is not None else [self.received_ns] * block.rows
        return [
            PendingRow(message, time_ns, dict(zip(block.columns, values, strict=True)), has_times, False, False)
            for time_ns, values in zip(times, zip(*block.columns.values(), strict=True), strict=True)
        ]


class DeclaredUnit(NamedTuple):
    """The unit that a metric of a device has."""

    device: str
    metric: str
    unit: str


class InputReader:
    """Reader of everything that one credential sends by one set of rules. It remembers what it has learned.

    `name` is the input's: plain, http, influxdb. `interpreter` reads records that a caller has parsed itself. `origin`
    is how payloads are read, for the quarantine.
    """

    def __init__(
        self,
        identity: Identity,
        rules: Rules,
        name: str,
        *,
        zone: tzinfo,
        device: str = "",
        known_type: KnownType | None = None,
        known_unit: KnownUnit | None = None,
        bucket: str = "",
    ) -> None:
        """`device` is that of records which name none. `bucket` is the name of the place that the client writes to: it
        names the device of records that name none, after `device`, and is a name in templates."""
        self.identity = identity
        self._known_type = known_type
        self.name = name
        self.rules = rules
        # A device token names its device; a field of the payload may repeat it.
        self._device = device or (identity.pattern if identity.role is Role.DEVICE else "")
        self._messages = MessageReader(
            rules,
            zone,
            known_type=known_type,
            known_unit=known_unit,
            device=self._device or bucket,
            names={"bucket": bucket} if bucket else None,
            max_content_bytes=MAX_BATCH_BYTES,
            max_lines=MAX_LINES,
        )
        self.interpreter: Interpreter = self._messages.interpreter
        origin = {"input": name, "device": self._device, "bucket": bucket, "devices": identity.pattern}
        self.origin: dict[str, object] = {"rules": msgspec.to_builtins(rules)}
        self.origin |= {key: text for key, text in origin.items() if text}
        self._source = FrameSource(self, self.messages())
        # Descriptions that came with frames which were not stored: the next frame declares them.
        self._undeclared: dict[str, DeviceDescription] = {}

    def source(self) -> FrameSource:
        """Return the source of one connection or request: with the format "auto" it detects its format anew."""
        return FrameSource(self, self.messages()) if self.rules.format == "auto" else self._source

    def messages(self) -> MessageSource:
        """Return a reader of messages with what was learned."""
        return self._messages.source(Origin())

    def frame(
        self,
        payload: bytes,
        rows: Iterable[Row],
        refusals: Iterable[RefusedInput],
        received_ns: int,
        blocks: Sequence[LineBlock] = (),
    ) -> InputFrame:
        """Return the frame of rows and refusals that the `interpreter` has read in a payload.

        The credential may write as the devices of `blocks`.
        """
        kept: list[DecodedRow] = []
        refused = [*refusals]
        denied = ""
        may: dict[str, str] = {}
        found = list(rows)
        for row in found:
            problem = may.get(row.device)
            if problem is None:
                problem = may[row.device] = self._device_problem(row.device)
            if problem:
                denied = denied or (problem if row.device else "")
                refused.append(_denied(row, problem))
            else:
                kept.append(DecodedRow(row.device, row.values, row.time_ns))
        details = self._details(found, may)
        if refused:
            stored = {(row.device, name) for row in kept for name in row.values}
            stored |= {(block.device, name) for block in blocks for name in block.columns}
            refused = [self._advised(refusal, stored) for refusal in refused]
        return InputFrame(self, payload, kept, refused, details, self._owner(refused), received_ns, denied, blocks)

    def plain_frame(self, payload: bytes, row: DecodedRow, received_ns: int) -> InputFrame:
        """Return the frame of one row of known metrics."""
        problem = self._device_problem(row.device)
        if problem:
            return self.frame(payload, [Row(1, payload, row.device, row.time_ns, row.values)], [], received_ns)
        details: Mapping[str, DeviceDescription] = {}
        if self._undeclared:
            details, self._undeclared = self._undeclared, {}
        return InputFrame(self, payload, (row,), (), details, row.device, received_ns)

    def put_back(self, details: Mapping[str, DeviceDescription]) -> None:
        """Keep the descriptions of a frame that was not stored for the next one."""
        self._undeclared = {**details, **self._undeclared}

    def forget(self, device: str, names: Iterable[str]) -> None:
        """Discard what was learned about a metric: a person has changed its type or name."""
        names = [*names]
        self.interpreter.forget(device, *names)
        if (known := self._undeclared.get(device)) is not None:
            metrics = {name: metric for name, metric in known.metrics.items() if name not in names}
            self._undeclared[device] = known._replace(metrics=metrics)

    def forget_unknown(self, device: str, known: Collection[str]) -> None:
        """Discard what was learned about the metrics of a device that are not among the `known` ones."""
        self.forget(device, [name for name in self.interpreter.metrics.get(device, ()) if name not in known])

    def _device_problem(self, device: str) -> str:
        """Return why the credential may not write as this device; "" if it may."""
        if not device:
            if self.rules.format == "line":
                return "nothing names the device: send a tag `device`, or a bucket as writers of InfluxDB do"
            return "nothing names the device: send a field `device`"
        identity = self.identity
        if identity.may_write(device):
            return ""
        scope = f" is for {identity.pattern!r}" if identity.pattern else ""
        return f"the token (role {identity.role}){scope} and may not write as {device!r}"

    def _advised(self, refusal: RefusedInput, stored: Container[tuple[str, str]]) -> RefusedInput:
        """Return a refusal with what the client can do about it. `stored` are the metrics of stored values."""
        if self.rules.format == "json" and refusal.code == "syntax" and not refusal.setting:
            first = refusal.raw.lstrip()[:1]
            if b"!" <= first <= b"~" and first not in b"{[":
                # The text was read as JSON and is none.
                refusal = refusal._replace(setting='format = "auto"')
        if not refusal.setting:
            return refusal
        device, metric = refusal.device, refusal.metric
        known = None if self._known_type is None else self._known_type(device, metric)
        series = self.interpreter.metrics.get(device, {}).get(metric)
        # A type that no rule declares is that of an earlier value, which may wait for its commit.
        if known is None and series is not None and ((device, metric) in stored or not series.is_declared):
            known = series.type
        return refusal._replace(setting=remedy(refusal, self.name, known))

    def _details(self, rows: Iterable[Row], may: Mapping[str, str]) -> Mapping[str, DeviceDescription]:
        details, self._undeclared = self._undeclared, {}
        metrics = new_metrics(self.interpreter, rows)
        labels = self.interpreter.labels
        for device in may if metrics or labels else ():
            if may[device]:
                continue
            label = labels.get(device)
            if device in metrics or label:
                known = details.get(device, NO_DESCRIPTION)
                tags = {LABEL: label[:MAX_TAG_VALUE]} if label else known.tags
                details[device] = DeviceDescription({**known.metrics, **metrics.get(device, {})}, tags)
        return details

    def _owner(self, refusals: Iterable[RefusedInput]) -> str:
        devices = {refusal.device for refusal in refusals if refusal.device}
        device = devices.pop() if len(devices) == 1 else self._device
        if device and self.identity.may_write(device):
            return device
        return self.identity.pattern if self.identity.role is Role.DEVICE else ""


class FrameSource:
    """Reader of the frames of one connection or request."""

    def __init__(self, reader: InputReader, source: MessageSource) -> None:
        self.reader = reader
        self._source = source

    def read(self, payload: bytes, now_ns: int) -> InputFrame:
        """Return the content of a frame that arrives now."""
        reader = self.reader
        payload = without_tokens(payload)
        if is_table_without_lines(payload, reader.rules):
            return reader.frame(payload, [], [table_without_lines(payload)], now_ns)
        row = self._source.read_plain(payload, now_ns)
        if row is not None:
            return reader.plain_frame(payload, row, now_ns)
        try:
            rows, refusals = self._source.read(payload, now_ns)
        except Exception:
            # A defect of the hub costs this frame, and not the connection.
            log.exception("frame could not be read", input=reader.name)
            rows, refusals = [], [unreadable(payload)]
        return reader.frame(payload, rows, refusals, now_ns)

    async def read_in_turns(self, payload: bytes, now_ns: int) -> InputFrame:
        """Return the content of a frame that arrives now, in turns with the other work of the event loop."""
        reader = self.reader
        if is_short(payload) or is_table_without_lines(payload, reader.rules):
            return self.read(payload, now_ns)
        payload = without_tokens(payload)
        row = self._source.read_plain(payload, now_ns)
        if row is not None:
            return reader.plain_frame(payload, row, now_ns)
        # Other frames may be read between two turns, and each needs a reader of its own.
        source = reader.messages()
        source.detection = self._source.detection
        steps = source.read_in_steps(payload, now_ns)
        try:
            rows, refusals = await in_turns(steps)
        except Exception:
            # A defect of the hub costs this frame, and not the connection.
            log.exception("frame could not be read", input=reader.name)
            rows, refusals = [], [unreadable(payload)]
        self._source.detection = source.detection
        await asyncio.sleep(0)
        return reader.frame(payload, rows, refusals, now_ns)


@types.coroutine
def in_turns(steps: Generator[None, None, T]) -> Generator[None, None, T]:
    """Return the result of work in steps, each in a turn of the event loop of its own, as after asyncio.sleep(0)."""
    return (yield from steps)


def other_units(frames: Iterable[InputFrame], known_unit: KnownUnit) -> dict[InputReader, list[DeclaredUnit]]:
    """Return the readers whose frames declare another unit of a metric than the hub or an earlier one of the frames,
    with the units that these metrics have."""
    units: dict[tuple[str, str], str] = {}
    others: dict[InputReader, list[DeclaredUnit]] = {}
    for frame in frames:
        for device, details in frame.details.items():
            for name, metric in details.metrics.items():
                unit = units.setdefault((device, name), known_unit(device, name) or metric.unit)
                if unit and metric.unit and not is_same_unit(unit, metric.unit):
                    others.setdefault(frame.reader, []).append(DeclaredUnit(device, name, unit))
    return others


def without_tokens(payload: bytes) -> bytes:
    """Return content without the tokens of the hub in it: all who read would see them in the history.

    What is left is an empty text, which is no value.
    """
    return _TOKEN.sub(b"", payload) if b"hub_" in payload else payload


def is_short(payload: bytes) -> bool:
    """Return whether a frame can be read in one turn of the event loop."""
    return len(payload) <= SHORT_BYTES and not payload.startswith(COMPRESSED)


def unreadable(payload: bytes) -> RefusedInput:
    """Return the refusal of a frame because of a defect of the hub."""
    reason = "the hub could not read the frame; its log contains the reason"
    return RefusedInput(1, payload[:MAX_RAW_BYTES], "syntax", reason)


def is_table_without_lines(payload: bytes, rules: Rules) -> bool:
    """Return whether a frame is CSV with names, but has no line end: its cells would be values of numbered metrics."""
    is_table = rules.format == "csv" and rules.header is None
    return is_table and bool(payload) and not payload.startswith(COMPRESSED) and not _LINE_END.search(payload)


_LINE_END = re.compile(rb"[\r\n]")


def table_without_lines(payload: bytes) -> RefusedInput:
    """Return the refusal of a CSV frame without a line end, such as a file that `curl -d` sends."""
    reason = (
        "the CSV has no line end: send a header line and lines of values (with curl by --data-binary, because -d "
        "removes line ends); if it is one line of values without names"
    )
    return RefusedInput(1, payload[:MAX_RAW_BYTES], "syntax", reason, setting="header = false")


def new_metrics(interpreter: Interpreter, rows: Iterable[Row]) -> dict[str, dict[str, Metric]]:
    """Return the metrics in these rows that are new or have changed, by device, if their values do not say it all.

    A metric without a value is declared with its first one.
    """
    news = interpreter.series.news
    metrics: dict[str, dict[str, Metric]] = {}
    for row in rows if news else ():
        # A name may be forgotten while a long frame is read.
        known = interpreter.metrics[row.device]
        for series in [known[name] for name in row.values if name in known]:
            if series in news:
                del news[series]
                if row.device and series.type is not None and (series.unit or series.label or series.type == "integer"):
                    metric = Metric(series.metric, series.type, series.unit, series.label[:MAX_DESCRIPTION])
                    metrics.setdefault(row.device, {})[metric.name] = metric
    return metrics


def _denied(row: Row, problem: str) -> RefusedInput:
    """Return the refusal of a row whose device is unknown, or may not be written by the credential."""
    setting = f"run hub token create --role gateway --devices {row.device}" if row.device else 'device = "ID"'
    return RefusedInput(row.line, row.raw[:MAX_RAW_BYTES], "device", problem, setting=setting)
