"""Refused lines and values of a source, counted by reason until they are reported to the hub. Pure.

A report has a number in the spool like a batch: it is durable, and the hub counts it once. A hub that does not know
reports gets a gap with the reasons instead. The same holds for an event of the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from device_agent.batch import EncodedBatch
from device_agent.source_state import shorten
from formats.record import RefusedInput
from wire import limits
from wire.codec import Format
from wire.device import DeviceEvent, Refused, SourceRefusal

REPORT_SECONDS = 5.0
"""Time between two reports. An agent that is killed loses the counts of this time at most."""

_ENCODE: dict[Format, Callable[[object], bytes]] = {
    "json": msgspec.json.Encoder().encode,
    "msgpack": msgspec.msgpack.Encoder().encode,
}


class RefusalTally:
    """Refused lines and values since the last report: the count and the first example of each reason."""

    def __init__(self) -> None:
        self._reasons: dict[str, SourceRefusal] = {}
        self._first_ns = self._last_ns = 0

    @property
    def is_empty(self) -> bool:
        """Return whether nothing was refused since the last report."""
        return not self._reasons

    def add(self, refusals: Iterable[RefusedInput], now_ns: int) -> None:
        """Count refusals. The number of codes bounds the reasons."""
        for refusal in refusals:
            if not self._reasons:
                self._first_ns = now_ns
            self._last_ns = max(self._first_ns, now_ns)
            known = self._reasons.get(refusal.code)
            if known is None:
                self._reasons[refusal.code] = _example(refusal)
            else:
                self._reasons[refusal.code] = msgspec.structs.replace(known, count=known.count + 1)

    def put_back(self, report: Refused) -> None:
        """Count a report that could not be stored again."""
        newer, self._reasons = self._reasons, {reason.code: reason for reason in report.reasons}
        self._first_ns = report.from_time
        self._last_ns = max(report.to, self._last_ns)
        for code, reason in newer.items():
            known = self._reasons.get(code)
            count = reason.count if known is None else known.count + reason.count
            self._reasons[code] = msgspec.structs.replace(known or reason, count=count)

    def take(self, source: str) -> Refused:
        """Return the report of this source, and begin the next one. Its number is 1: the spool assigns it."""
        report = Refused(
            1, shorten(source, limits.MAX_SOURCE_NAME), self._first_ns, self._last_ns, list(self._reasons.values())
        )
        self._reasons = {}
        return report


def _example(refusal: RefusedInput) -> SourceRefusal:
    raw = refusal.raw.decode(errors="backslashreplace")
    return SourceRefusal(
        refusal.code,
        1,
        _cut(refusal.reason, limits.MAX_MESSAGE),
        _cut(raw, limits.MAX_REFUSED_RAW),
        _cut(refusal.metric, limits.MAX_METRIC_NAME),
        _cut(refusal.value, limits.MAX_REFUSED_VALUE),
        _cut(refusal.setting, limits.MAX_SETTING),
    )


def _cut(text: str, length: int) -> str:
    # A text may contain half of a surrogate pair, which cannot be sent.
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= length else f"{text[: length - 1]}…"


def encode_report(report: Refused | DeviceEvent, format: Format) -> EncodedBatch:
    """Return a report or an event as a row of the spool. It has no readings, which distinguishes it from a batch."""
    encode = _ENCODE[format]
    time_ns = report.time if isinstance(report, DeviceEvent) else report.from_time
    return EncodedBatch(format, False, 0, encode([time_ns]), encode(report))


def is_report(batch: EncodedBatch) -> bool:
    """Return whether a row of the spool is a report or an event."""
    return not batch.readings


def report_frame(seq: int, batch: EncodedBatch, format: Format) -> bytes:
    """Return the message of a report or an event under this number. Raises msgspec.DecodeError."""
    return _ENCODE[format](msgspec.structs.replace(decode_report(batch), seq=seq))


def decode_report(batch: EncodedBatch) -> Refused | DeviceEvent:
    """Return the report or the event in a row of the spool. Raises msgspec.DecodeError."""
    decode: Callable[..., Any] = msgspec.json.decode if batch.format == "json" else msgspec.msgpack.decode
    report: Refused | DeviceEvent = decode(batch.values, type=Refused | DeviceEvent)
    return report
