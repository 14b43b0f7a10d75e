"""Results for the frames of clients that do not speak the device protocol. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from formats.record import RefusedInput, refusal_text
from wire.errors import Code, WireError
from wire.plain import RefusedReading

MAX_REFUSED = 100
"""Refused values that a result lists. The quarantine has the whole payload."""


class StoredFrame(NamedTuple):
    """Result for input that is durable: `readings` are accepted, `refused_count` values or lines are in quarantine.

    `refused` are the first MAX_REFUSED of them.
    """

    readings: int
    refused_count: int = 0
    refused: Sequence[RefusedReading] = ()

    @property
    def reason(self) -> tuple[str, str]:
        """The code and the sentence of input of which nothing is stored as readings."""
        first = self.refused[0]
        sentence = refusal_text(first.metric, first.reason, first.setting)
        return first.code, f"{sentence}. Nothing is stored as a reading; the content is in quarantine"


class FrameDenied(WireError):
    """A frame for devices that the token may not write. `refused` are its records, which are in quarantine."""

    def __init__(self, message: str, refused: Sequence[RefusedReading]) -> None:
        super().__init__(Code.NOT_ALLOWED, message)
        self.refused = refused


def listed(refusal: RefusedInput) -> RefusedReading:
    """Return a refusal without its raw bytes."""
    code, reason, metric = refusal.code, refusal.reason, refusal.metric
    return RefusedReading(code, reason, refusal.line, refusal.device, metric, refusal.value, refusal.setting)
