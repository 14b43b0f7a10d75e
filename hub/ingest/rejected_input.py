"""Input in quarantine: its raw content, the refused values with their reasons, and how it was read. Pure.

It is read again on the request of a person: then the values that are not stored have to be found among the others.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from formats.record import MAX_RAW_BYTES, RefusedInput, refusal_text
from formats.rules import DEFAULT_RULES, Rules
from hub.ingest.row_writer import PendingRow
from wire.text import plural

MAX_QUARANTINED_BYTES = 1024 * 1024
"""Stored bytes of a quarantined payload: four times the size of a batch. Longer payloads are cut."""

MAX_LISTED_REFUSALS = 100
"""Refused values of a message that its quarantine entry lists; the payload has all of them."""

M = TypeVar("M")

_SHOWN = ("line", "device", "metric", "value", "code", "reason", "setting")


def reason_of(refusals: Sequence[RefusedInput]) -> tuple[str, str]:
    """Return the code and the sentence of an input with these refusals: those of the first one, with its setting."""
    first = refusals[0]
    sentence = refusal_text(first.metric, first.reason, first.setting)
    if len(refusals) > 1:
        sentence += f"; {plural(len(refusals) - 1, 'more value')} refused"
    return first.code, sentence


def rejected_content(
    origin: Mapping[str, object], payload: bytes, refusals: Sequence[RefusedInput], *, is_partial: bool
) -> bytes:
    """Return the content of a quarantine entry: `origin` (a topic, rules), the payload, each value with its reason.

    `is_partial`: other values of the payload are stored.
    """
    stored = payload[:MAX_QUARANTINED_BYTES]
    content: dict[str, object] = {**origin, "payload_base64": base64.b64encode(stored).decode()}
    if len(stored) < len(payload):
        content["payload_bytes"] = len(payload)
    with contextlib.suppress(UnicodeDecodeError):
        content["text"] = payload[:MAX_RAW_BYTES].decode()
    if refusals:
        content["partial"] = is_partial
        content["refused"] = [
            {name: getattr(refusal, name) for name in _SHOWN if getattr(refusal, name)}
            for refusal in refusals[:MAX_LISTED_REFUSALS]
        ]
    return json.dumps(content).encode()


class RefusedMetric(Struct, frozen=True):
    """Refused value that an entry lists; without a metric, a refused line."""

    device: str = ""
    metric: str = ""


class QuarantinedInput(Struct, frozen=True):
    """Content of an entry, as `rejected_content` writes it.

    `topic` is that of a broker's message. `input`, `rules`, `device` and `bucket` are those of an InputReader, and
    `devices` the pattern of the devices that the sender may write as. `payload_bytes` is the length of a payload that
    was cut. `partial`: other values are stored. Older entries do not say whether they are.
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

    def unstored_rows(self, rows: Mapping[str, Sequence[PendingRow[M]]]) -> dict[str, list[PendingRow[M]]] | None:
        """Return the rows that can be read now, by device, with the values that are not stored, as history.

        None if these cannot be distinguished from stored ones.
        """
        found = {
            device: [
                row._replace(values=values, historical=True)
                for row in of_device
                if (values := {name: value for name, value in row.values.items() if self.was_refused(device, name)})
            ]
            for device, of_device in rows.items()
        }
        counts = Counter((device, name) for device, kept in found.items() for row in kept for name in row.values)
        return None if self._is_ambiguous(counts) else {device: kept for device, kept in found.items() if kept}

    def _is_ambiguous(self, counts: Counter[tuple[str, str]]) -> bool:
        if not self._has_stored_values:
            return False
        if len(self.refused) >= MAX_LISTED_REFUSALS or not all(value.metric for value in self.refused):
            return True
        refused = Counter((value.device, value.metric) for value in self.refused)
        return any(counts[series] > count for series, count in refused.items())

    @property
    def _has_stored_values(self) -> bool:
        return self.partial and bool(self.refused)


def read_quarantined(payload: bytes) -> QuarantinedInput | None:
    """Return the content of an entry, None for an entry that is a batch of an agent."""
    try:
        return msgspec.json.decode(payload, type=QuarantinedInput)
    except msgspec.DecodeError:
        return None
