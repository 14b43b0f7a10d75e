"""Message in quarantine that is decoded again: its content, and which of its values are not stored. Pure."""

from __future__ import annotations

import base64
import binascii
from collections import Counter

import msgspec
from msgspec import Struct

from hub.ingest.rejected_input import MAX_LISTED_REFUSALS
from hub.mqtt.message import Message


class RefusedMetric(Struct, frozen=True):
    """Refused value that the entry lists; without a metric, a refused line."""

    device: str = ""
    metric: str = ""


class RefusedMessage(Struct, frozen=True):
    """Content of an entry, as `RejectedMessage.content` writes it.

    `payload_bytes` is the length of a payload that was cut. `partial`: other values of the message are stored. Older
    entries do not say whether they are.
    """

    topic: str
    payload_base64: str
    payload_bytes: int = 0
    partial: bool = True
    refused: list[RefusedMetric] = []

    def message(self, received_ns: int) -> Message | None:
        """Return the message, None if it is not complete."""
        try:
            payload = base64.b64decode(self.payload_base64)
        except binascii.Error:
            return None
        return None if self.payload_bytes else Message(self.topic, payload, received_ns=received_ns)

    def was_refused(self, device: str, metric: str) -> bool:
        """Return whether a value of this metric is among those that were refused."""
        return not self._has_stored_values or RefusedMetric(device, metric) in self.refused

    def is_ambiguous(self, counts: Counter[tuple[str, str]]) -> bool:
        """Return whether refused values cannot be distinguished from stored ones; `counts` are the values that can be
        read now, by device and metric."""
        if not self._has_stored_values:
            return False
        if len(self.refused) >= MAX_LISTED_REFUSALS or not all(value.metric for value in self.refused):
            return True
        refused = Counter((value.device, value.metric) for value in self.refused)
        return any(counts[series] > count for series, count in refused.items())

    @property
    def _has_stored_values(self) -> bool:
        return self.partial and bool(self.refused)


def read_quarantined(payload: bytes) -> RefusedMessage | None:
    """Return the content of an entry, None for an entry that is no message of a broker."""
    try:
        return msgspec.json.decode(payload, type=RefusedMessage)
    except msgspec.DecodeError:
        return None
