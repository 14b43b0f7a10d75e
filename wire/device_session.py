"""The session of the device protocol as two pure state machines: the agent's end and the hub's end.

Neither uses a socket, a clock or a disk. The table TRANSITIONS lists the messages that each state allows; every other
pair is a protocol error. The two classes below check the numbers (order, window, duplicates).

    agent                                hub
    ─────                                ───
    GREETING  ── hello ───────────────►  GREETING
    GREETING  ◄─────────────── welcome   OPEN
    OPEN      ── declare/data/gap ────►  OPEN
    OPEN      ── refused/event ───────►  OPEN
    OPEN      ◄──────────── ack/reject   OPEN
    OPEN      ◄──────────── time_probe   OPEN
    OPEN      ── time_reply/status ───►  OPEN
    OPEN      ◄───────────────── command OPEN
    OPEN      ── command_state ───────►  OPEN
    OPEN      ◄──────── command_recorded OPEN
    OPEN      ◄───────────────── desired OPEN
    OPEN      ── reported ────────────►  OPEN
    any       ◄───────────────── error   CLOSED
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from wire import device
from wire.errors import Code, WireError


class DeviceSessionState(Enum):
    """State of a session; the same names at both ends."""

    GREETING = "greeting"
    OPEN = "open"
    CLOSED = "closed"


_WHILE_OPEN: tuple[type[object], ...] = (
    device.Declare, device.Data, device.Gap, device.TimeProbe, device.TimeReply, device.Status, device.Ack,
    device.Reject, device.Refused, device.DeviceEvent, device.Command, device.CommandState, device.CommandRecorded,
    device.Desired, device.Reported,
)  # fmt: skip

TRANSITIONS: dict[tuple[DeviceSessionState, type[object]], DeviceSessionState] = {
    (DeviceSessionState.GREETING, device.Hello): DeviceSessionState.GREETING,
    (DeviceSessionState.GREETING, device.Welcome): DeviceSessionState.OPEN,
    (DeviceSessionState.GREETING, device.Error): DeviceSessionState.CLOSED,
    (DeviceSessionState.OPEN, device.Error): DeviceSessionState.CLOSED,
    **{(DeviceSessionState.OPEN, message): DeviceSessionState.OPEN for message in _WHILE_OPEN},
}
"""(state, message) → the state after it; the same table for both ends, each end receives half of the messages."""

_OPEN = DeviceSessionState.OPEN
"""For the two methods that run for every batch: in Python 3.11 the attribute DeviceSessionState.OPEN is slow."""


def _next_state(state: DeviceSessionState, message: object) -> DeviceSessionState:
    after = TRANSITIONS.get((state, type(message)))
    if after is None:
        name = type(message).__name__.lower()
        raise WireError(Code.UNEXPECTED_MESSAGE, f"{name} is not allowed while the session is {state.value}")
    return after


@dataclass(slots=True, eq=False)
class HubDeviceSession:
    """The hub's end: checks the order of an agent's batches and returns acknowledgements.

    `acked` is the highest durable seq, `received` the highest accepted one; those between are being written. `received`
    may be ahead of `acked` from the start, when batches of an older connection are being written.
    """

    window: int
    state: DeviceSessionState = DeviceSessionState.GREETING
    acked: int = 0
    received: int = 0
    epoch: str = ""
    next_seq: int = 1

    def receive(self, message: device.AgentMessage) -> None:
        """Validate any message but those with a number, for which there is `receive_batches`. Raises WireError."""
        self.state = _next_state(self.state, message)
        if isinstance(message, device.Hello):
            if self.epoch:
                raise WireError(Code.UNEXPECTED_MESSAGE, "hello was said already")
            self.epoch = message.epoch
            self.next_seq = message.next_seq

    def welcome(self, *, acked: int, received: int) -> None:
        """Answer the hello with the durable and the received seq of this epoch (some from an older connection).

        Batches that are being written belong to this session from now on: call `commit` for them, and end the session
        if they fail. Raises WireError(ROLLED_BACK) if the agent's spool is older than the received batches.
        """
        if received >= self.next_seq:
            raise WireError(
                Code.ROLLED_BACK,
                f"batches up to {received} were received from this epoch, but the spool's next is {self.next_seq}; "
                "begin a new epoch",
            )
        self.state = DeviceSessionState.OPEN
        self.acked = acked
        self.received = received

    def receive_batches(self, first: int, last: int) -> bool:
        """Check a batch, a report of refusals or an event (first = last), or a gap.

        Return True for a new one, False for a duplicate to acknowledge again. Of a gap that begins before `received`,
        only the part after it is new. Raises WireError if the session is not open, a seq is missing (the error's `seq`
        is the expected one), or the window is exceeded.
        """
        if self.state is not _OPEN:
            raise WireError(Code.UNEXPECTED_MESSAGE, f"no batches while the session is {self.state.value}")
        received = self.received
        if last <= received:
            return False
        if first > received + 1:
            raise WireError(Code.UNEXPECTED_SEQ, f"expected {received + 1}, got {first}", seq=received + 1)
        # By the first number, as the agent sees it: it may not know batches of an older connection.
        if first - self.acked > self.window:
            raise WireError(
                Code.WINDOW_EXCEEDED,
                f"{first} came while {self.acked} is the last acknowledged; the window is {self.window}",
            )
        self.received = last
        return True

    def commit(self, seq: int) -> device.Ack | None:
        """Record that all up to `seq` is durable; return the acknowledgement to send, None if it was sent."""
        if seq <= self.acked or self.state is not _OPEN:
            return None
        self.acked = seq
        return device.Ack(seq)

    def close(self) -> None:
        """End the session; no message is allowed any more."""
        self.state = DeviceSessionState.CLOSED


class ClockOffset(NamedTuple):
    """The device's clock minus the hub's, and the largest error of this measurement, half the round trip."""

    offset_ns: int
    error_ns: int


@dataclass(slots=True, eq=False)
class AgentDeviceSession:
    """The agent's end: which batch is next, and which are acknowledged.

    `acked` is the highest acknowledged seq, `sent` the highest that was sent on this connection or need not be sent. An
    acknowledgement can move `sent`: the next seq is always `sent + 1`, read again each time. `has_refused`,
    `has_events` and `has_commands` say whether the protocol of the connection has the messages refused and event, and
    commands. `clock` is measured with the welcome.
    """

    next_seq: int
    state: DeviceSessionState = DeviceSessionState.GREETING
    acked: int = 0
    sent: int = 0
    window: int = 0
    max_batch_bytes: int = 0
    retry_ms: int = 0
    has_refused: bool = False
    has_events: bool = False
    has_commands: bool = False
    clock: ClockOffset | None = None

    def receive(self, message: device.HubMessage) -> None:
        """Apply a message of the hub. Raises WireError for one that a correct hub does not send."""
        after = _next_state(self.state, message)
        match message:
            case device.Welcome():
                if message.acked >= self.next_seq:
                    raise WireError(
                        Code.ROLLED_BACK,
                        f"the hub holds batches up to {message.acked} of this epoch, but the spool's next is "
                        f"{self.next_seq}",
                    )
                self.acked = self.sent = message.acked
                self.window = message.window
                self.max_batch_bytes = message.max_batch_bytes
                self.retry_ms = message.retry_ms
            case device.Ack(seq=seq):
                self._check_known(seq, "acknowledged")
                self.acked = max(self.acked, seq)
                # Batches of an older connection may become durable only now: they need not be sent again.
                self.sent = max(self.sent, seq)
            case device.Reject(seq=seq):
                self._check_known(seq, "rejected")
        self.state = after

    def _check_known(self, seq: int, done: str) -> None:
        if seq >= self.next_seq:
            raise WireError(Code.UNEXPECTED_SEQ, f"{seq} was {done}, but the newest batch is {self.next_seq - 1}")

    @property
    def room(self) -> int:
        """The number of batches that may be sent now."""
        return self.window - (self.sent - self.acked) if self.state is DeviceSessionState.OPEN else 0

    def send(self, first: int, last: int) -> None:
        """Record that a batch (first = last) or a gap is sent. Raises WireError if it is not the next one.

        The next is always `sent + 1`. Of a gap that begins before it, the rest is sent. If the spool has no batch that
        old (the hub was restored from a copy and lost acknowledged batches), a gap up to the oldest batch is sent
        first.
        """
        if self.room < 1:
            raise WireError(
                Code.WINDOW_EXCEEDED,
                f"{self.acked + 1} to {self.sent} are not acknowledged; the window is {self.window}"
                if self.state is DeviceSessionState.OPEN
                else f"nothing can be sent while the session is {self.state.value}",
            )
        if first != self.sent + 1 or last < first:
            raise WireError(Code.UNEXPECTED_SEQ, f"expected {self.sent + 1}, got {first} to {last}")
        self.sent = last
        self.next_seq = max(self.next_seq, last + 1)

    def close(self) -> None:
        """End the session."""
        self.state = DeviceSessionState.CLOSED
