"""Input that goes to quarantine: its raw content, the refused values with their reasons, and how it was read. Pure."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping, Sequence

from formats.record import MAX_RAW_BYTES, RefusedInput, setting_text
from wire.text import plural

MAX_QUARANTINED_BYTES = 1024 * 1024
"""Stored bytes of a quarantined payload: four times the size of a batch. Longer payloads are cut."""

MAX_LISTED_REFUSALS = 100
"""Refused values of a message that its quarantine entry lists; the payload has all of them."""

_SHOWN = ("line", "device", "metric", "value", "code", "reason", "setting")


def reason_of(refusals: Sequence[RefusedInput]) -> tuple[str, str]:
    """Return the code and the sentence of an input with these refusals: those of the first one, with its setting."""
    first = refusals[0]
    sentence = f"{first.metric}: {first.reason}" if first.metric else first.reason
    if first.setting:
        sentence += f"; {setting_text(first.setting)}"
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
