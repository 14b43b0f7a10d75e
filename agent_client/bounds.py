"""Bounds of the values that a hub, or a server that claims to be one, imposes on an agent. Pure.

The agent runs unattended for years, and a proxy or a wrong address can answer in place of the hub. A value beyond its
bound is replaced by the bound, and the caller logs the sentence that is returned with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from agent_client.reconnect import MAX_DELAY_MS, Ending
from wire import device, limits

MAX_RETRY_MS = 600_000
"""Longest wait that a hub can impose: ten minutes, enough for a restart or an upgrade. `Retry-After: 31536000` from a
proxy would otherwise silence the device for a year."""

MAX_WINDOW = 65_536
"""Most batches that may be unacknowledged: the maximum of the hub's setting. The agent remembers each of them."""

MIN_BATCH_BYTES = 1024
"""Least frame size that is accepted: one row of some tens of metrics fits. A batch above the hub's bound is split, and
a reading that cannot be split is lost: with a bound of one byte that would be the whole spool."""


def bounded_welcome(welcome: device.Welcome) -> tuple[device.Welcome, Sequence[str]]:
    """Return the welcome with its values within the bounds, and a sentence for each value that was not."""
    wanted = {
        "window": min(welcome.window, MAX_WINDOW),
        "max_batch_bytes": min(max(welcome.max_batch_bytes, MIN_BATCH_BYTES), limits.MAX_BATCH_BYTES),
        # Every usual delay is bounded by MAX_DELAY_MS, the first one, too.
        "retry_ms": min(welcome.retry_ms, MAX_DELAY_MS),
    }
    changed = {name: value for name, value in wanted.items() if value != getattr(welcome, name)}
    sentences = [
        f"the hub set {name} to {getattr(welcome, name):,}; the agent uses {value:,}, its bound"
        for name, value in changed.items()
    ]
    return msgspec.structs.replace(welcome, **changed), sentences


def bounded_ending(ending: Ending) -> tuple[Ending, Sequence[str]]:
    """Return the ending with its wait within MAX_RETRY_MS, and a sentence if it was longer."""
    asked_ms = ending.retry_ms
    if asked_ms is None or asked_ms <= MAX_RETRY_MS:
        return ending, ()
    sentence = (
        f"the server asked for a wait of {asked_ms // 1000:,} s; the agent waits {MAX_RETRY_MS // 1000:,} s, its bound"
    )
    return ending._replace(retry_ms=MAX_RETRY_MS), (sentence,)


def parse_retry_after(text: str, now_ns: int) -> int | None:
    """Return the milliseconds that a `Retry-After` header asks for, 0 for a past date; None for any other text.

    The header is a number of seconds or a date (RFC 9110, 10.2.3). `now_ns` is the agent's clock.
    """
    text = text.strip()
    if text.isascii() and text.isdecimal():
        # Python rejects thousands of digits; beyond the bound the exact number does not matter.
        return int(text.lstrip("0")[:12] or 0) * 1000
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    due_ms = int((date - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1000
    return max(0, due_ms - now_ns // 1_000_000)
