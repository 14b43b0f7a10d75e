"""Input in quarantine: its raw content, the refused values with their reasons, and how it was read. Pure.

It is read again on the request of a person: then the values that are not stored have to be found among the others.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from formats.message import DecodedRow
from formats.record import MAX_RAW_BYTES, RefusedInput, refusal_text
from formats.rules import DEFAULT_RULES, Rules
from hub.ingest.row_writer import PendingRow
from wire.text import plural

MAX_QUARANTINED_BYTES = 1024 * 1024
"""Stored bytes of a quarantined payload: four times the size of a batch. Longer payloads are cut."""

MAX_LISTED_REFUSALS = 100
"""Refused values of a message that its quarantine entry lists; the payload has all of them."""

MAX_STORED = 10_000
"""Times of stored values that an entry has, as many as a message of several records has values."""

M = TypeVar("M")

StoredTimes: TypeAlias = Mapping[str, Mapping[str, Sequence[int]]]
"""Times of the stored values of a message, by device and metric, for the metrics that have refused values, too."""

_SHOWN = ("line", "device", "metric", "value", "code", "reason", "setting")


def reason_of(refusals: Sequence[RefusedInput]) -> tuple[str, str]:
    """Return the code and the sentence of an input with these refusals: those of the first one, with its setting."""
    first = refusals[0]
    sentence = refusal_text(first.metric, first.reason, first.setting)
    if len(refusals) > 1:
        sentence += f"; {plural(len(refusals) - 1, 'more value')} refused"
    return first.code, sentence


def rejected_content(
    origin: Mapping[str, object], payload: bytes, refusals: Sequence[RefusedInput], *, is_partial: bool,
    stored: StoredTimes | None = None,
) -> bytes:  # fmt: skip
    """Return the content of a quarantine entry: `origin` (a topic, rules), the payload, each value with its reason.

    `is_partial`: other values of the payload are stored, and `stored` has the times of those of the same metrics.
    """
    kept = payload[:MAX_QUARANTINED_BYTES]
    content: dict[str, object] = {**origin, "payload_base64": base64.b64encode(kept).decode()}
    if len(kept) < len(payload):
        content["payload_bytes"] = len(payload)
    with contextlib.suppress(UnicodeDecodeError):
        content["text"] = payload[:MAX_RAW_BYTES].decode()
    if refusals:
        content["partial"] = is_partial
        if is_partial and stored is not None:
            content["stored"] = stored
        content["refused"] = [
            {name: getattr(refusal, name) for name in _SHOWN if getattr(refusal, name)}
            for refusal in refusals[:MAX_LISTED_REFUSALS]
        ]
    return json.dumps(content).encode()


def stored_times(refusals: Iterable[RefusedInput], rows: Iterable[DecodedRow]) -> StoredTimes | None:
    """Return the times of the values in these rows whose metrics also have refused ones.

    None if one has no time of its own, or if there are too many.
    """
    refused = {(refusal.device, refusal.metric) for refusal in refusals}
    times: dict[str, dict[str, list[int]]] = {}
    count = 0
    for row in rows:
        for name in row.values:
            if (row.device, name) in refused:
                count += 1
                if row.time_ns is None or count > MAX_STORED:
                    return None
                times.setdefault(row.device, {}).setdefault(name, []).append(row.time_ns)
    return times


class RefusedMetric(Struct, frozen=True):
    """Refused value that an entry lists; without a metric, a refused line."""

    device: str = ""
    metric: str = ""


class QuarantinedInput(Struct, frozen=True):
    """Content of an entry, as `rejected_content` writes it.

    `topic` is that of a broker's message. `input`, `rules`, `device` and `bucket` are those of an InputReader, and
    `devices` the pattern of the devices that the sender may write as. `payload_bytes` is the length of a payload that
    was cut. `partial`: other values are stored. Older entries do not say whether they are.
    `stored` are the `stored_times`.
    """

    payload_base64: str
    topic: str = ""
    input: str = ""
    rules: Rules = DEFAULT_RULES
    device: str = ""
    bucket: str = ""
    devices: str = ""
    payload_bytes: int = 0
    partial: bool = True
    refused: list[RefusedMetric] = []
    stored: StoredTimes | None = None

    @property
    def payload(self) -> bytes | None:
        """The payload, None if it is not complete."""
        try:
            payload = base64.b64decode(self.payload_base64)
        except binascii.Error:
            return None
        return None if self.payload_bytes else payload

    def was_refused(self, device: str, metric: str) -> bool:
        """Return whether a value of this metric is among those that were refused."""
        return not self._has_stored_values or RefusedMetric(device, metric) in self.refused

    def unstored_rows(
        self, rows: Mapping[str, Sequence[PendingRow[M]]], refusals: Iterable[RefusedInput] = ()
    ) -> dict[str, list[PendingRow[M]]] | None:
        """Return the rows that can be read now, by device, with the values that are not stored, as history.

        `refusals` are those of now. None if these values cannot be distinguished from stored ones.
        """
        if not self._has_stored_values:
            return {device: [row._replace(historical=True) for row in kept] for device, kept in rows.items() if kept}
        if len(self.refused) >= MAX_LISTED_REFUSALS or not all(value.metric for value in self.refused):
            return None
        stored = Counter(
            (device, name, time_ns)
            for device, metrics in (self.stored or {}).items()
            for name, times in metrics.items()
            for time_ns in times
        )
        times = {*stored}
        found: dict[str, list[PendingRow[M]]] = {}
        counts: Counter[tuple[str, str]] = Counter()
        for device, of_device in rows.items():
            for row in of_device:
                values = {}
                for name, value in row.values.items():
                    if (device, name, row.time_ns) in times:
                        stored[device, name, row.time_ns] -= 1
                    elif self.was_refused(device, name):
                        counts[device, name] += 1
                        values[name] = value
                if values:
                    found.setdefault(device, []).append(row._replace(values=values, historical=True))
        refused_now = Counter((refusal.device, refusal.metric) for refusal in refusals)
        if self.stored is None:
            # Without the times, a metric must not have other values than the refused ones.
            counts.update(refused_now)
        # Each stored value is found again or cannot be read now: else the message is read in another way than before.
        missing: Counter[tuple[str, str]] = Counter()
        for (device, name, _), count in stored.items():
            if count < 0:
                return None
            missing[device, name] += count
        if any(count > refused_now[series] for series, count in missing.items()):
            return None
        refused = Counter((value.device, value.metric) for value in self.refused)
        return None if any(counts[series] > count for series, count in refused.items()) else found

    def stored_after(self, refusals: Iterable[RefusedInput], rows: Iterable[DecodedRow]) -> StoredTimes | None:
        """Return the times of the values of the refused metrics that are stored after what can be read now is."""
        found = stored_times(refusals, rows)
        if found is None or not self._has_stored_values:
            return found
        if self.stored is None:
            return None
        merged = {device: {name: {*times} for name, times in metrics.items()} for device, metrics in found.items()}
        for device, metrics in self.stored.items():
            for name, times in metrics.items():
                merged.setdefault(device, {}).setdefault(name, set()).update(times)
        return {device: {name: sorted(times) for name, times in metrics.items()} for device, metrics in merged.items()}

    @property
    def _has_stored_values(self) -> bool:
        return self.partial and bool(self.refused)


def read_quarantined(payload: bytes) -> QuarantinedInput | None:
    """Return the content of an entry, None for an entry that is a batch of an agent."""
    try:
        return msgspec.json.decode(payload, type=QuarantinedInput)
    except msgspec.DecodeError:
        return None
