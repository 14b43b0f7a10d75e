"""Bounds of the frames of one WebSocket connection, checked before their content. Pure: the clock is an argument.

A frame costs its sender six bytes and the hub 10 µs: frames without content are the cheapest way to keep the hub busy
(as in CVE-2019-9518 and CVE-2024-27316 of HTTP/2). No bound of bytes detects them, so frames are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from wire import limits

CONTROL, CONTINUATION = 0x08, 0x00
"""Bit of the opcodes of control frames, and the opcode of a continuation (RFC 6455, 5.2)."""

OPCODE, FIN = 0x0F, 0x80
"""Bits of a frame's first byte."""


class Flood(StrEnum):
    """Reason why the frames of a connection are too many."""

    FRAGMENTS = "fragments"
    """One message has more than MAX_FRAGMENTS frames."""
    CONTROL_FRAMES = "control_frames"
    """Pings, pongs and close frames arrive faster than MAX_CONTROL_RATE."""
    BEFORE_AUTHENTICATION = "before_authentication"
    """A client without a valid token has sent more than a hello needs."""


@dataclass(slots=True)
class ControlBudget:
    """Level of a leaky bucket (ITU-T I.371): each control frame adds one, and MAX_CONTROL_RATE leaves each second."""

    level: float = 0.0
    measured_s: float = 0.0

    def count(self, now_s: float) -> bool:
        """Count one; return whether there are more than MAX_CONTROL_BURST at once and MAX_CONTROL_RATE a second."""
        self.level = max(0.0, self.level - (now_s - self.measured_s) * limits.MAX_CONTROL_RATE) + 1
        self.measured_s = now_s
        return self.level > limits.MAX_CONTROL_BURST


@dataclass(slots=True)
class FrameBudget:
    """Counts of one connection's frames, compared with the bounds in wire.limits."""

    fragments: int = 0
    is_admitted: bool = False
    """True for a client that has authenticated: its frames and bytes have no bound in total."""
    frames: int = 0
    size: int = 0
    control_frames: ControlBudget = field(default_factory=ControlBudget)

    def count_messages(self, count: int, size: int) -> Flood | None:
        """Count frames that are a whole message each; return the bound that they exceed."""
        if self.is_admitted:
            return None
        self.frames += count
        self.size += size
        if self.frames > limits.MAX_FRAMES_BEFORE_AUTHENTICATION or self.size > limits.MAX_BYTES_BEFORE_AUTHENTICATION:
            return Flood.BEFORE_AUTHENTICATION
        return None

    def count_frame(self, first: int, size: int, now_s: float) -> Flood | None:
        """Count a frame by its first byte and its size; return the bound that it exceeds."""
        opcode = first & OPCODE
        if opcode & CONTROL:
            if self.control_frames.count(now_s):
                return Flood.CONTROL_FRAMES
        else:
            self.fragments = self.fragments + 1 if opcode == CONTINUATION else 1
            if self.fragments > limits.MAX_FRAGMENTS:
                return Flood.FRAGMENTS
            if first & FIN:
                self.fragments = 0
        return self.count_messages(1, size)
