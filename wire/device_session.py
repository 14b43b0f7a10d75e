"""The device protocol's conversation as two pure state machines: the agent's end and the hub's end.

Neither knows a socket, a clock or a disk. What a state allows is the table TRANSITIONS; a pair that is missing there
is a protocol error. Everything about numbers (order, window, duplicates) is in the two classes below.

    agent                                hub
    ─────                                ───
    GREETING  ── hello ───────────────►  GREETING
    GREETING  ◄─────────────── welcome   OPEN
    OPEN      ── declare/data/gap ────►  OPEN
    OPEN      ◄──────────── ack/reject   OPEN
    OPEN      ◄──────────── time_probe   OPEN
    OPEN      ── time_reply ──────────►  OPEN
    any       ◄───────────────── error   CLOSED
"""

from __future__ import annotations

from enum import Enum

from wire import device
from wire.errors import Code, WireError


class State(Enum):
    """Where a conversation stands; the same names at both ends."""

    GREETING = "greeting"
    OPEN = "open"
    CLOSED = "closed"


TRANSITIONS: dict[tuple[State, type[object]], State] = {
    (State.GREETING, device.Hello): State.GREETING,
    (State.GREETING, device.Welcome): State.OPEN,
    (State.GREETING, device.Error): State.CLOSED,
    (State.OPEN, device.Declare): State.OPEN,
    (State.OPEN, device.Data): State.OPEN,
    (State.OPEN, device.Gap): State.OPEN,
    (State.OPEN, device.TimeProbe): State.OPEN,
    (State.OPEN, device.TimeReply): State.OPEN,
    (State.OPEN, device.Ack): State.OPEN,
    (State.OPEN, device.Reject): State.OPEN,
    (State.OPEN, device.Error): State.CLOSED,
}
"""(state, message) → the state after it; the same table for both ends, each end receiving half of the messages."""


_OPEN = State.OPEN
"""For the two methods that run for every batch: in Python 3.11 State.OPEN is a slow look-up."""


def _next_state(state: State, message: object) -> State:
    after = TRANSITIONS.get((state, type(message)))
    if after is None:
        name = type(message).__name__.lower()
        raise WireError(Code.UNEXPECTED_MESSAGE, f"{name} is not allowed while the conversation is {state.value}")
    return after


class HubDeviceSession:
    """The hub's end: judges the order of what an agent sends and says what is to be acknowledged.

    `acked` is the highest seq that is durable, `received` the highest that was taken in; those between are on their way
    to the disk. `received` may be ahead of `acked` from the start, when an older connection's batches are on their way.
    """

    __slots__ = ("acked", "epoch", "next_seq", "received", "state", "window")

    def __init__(self, *, window: int) -> None:
        self.state = State.GREETING
        self.window = window
        self.acked = 0
        self.received = 0
        self.epoch = ""
        self.next_seq = 1

    def receive(self, message: device.AgentMessage) -> None:
        """Judges any message but data and gap, which have methods of their own. Raises WireError."""
        self.state = _next_state(self.state, message)
        if isinstance(message, device.Hello):
            if self.epoch:
                raise WireError(Code.UNEXPECTED_MESSAGE, "hello was said already")
            self.epoch = message.epoch
            self.next_seq = message.next_seq

    def welcome(self, *, acked: int, received: int) -> None:
        """The hub answers the hello: what is durable of this epoch, and what is on its way (from an older connection).

        The commits of those on their way are this session's from now on: they are told to its `commit`, and when they
        fail it has to end. Raises WireError(ROLLED_BACK) when the agent's spool is older than what was received.
        """
        if received >= self.next_seq:
            raise WireError(
                Code.ROLLED_BACK,
                f"batches up to {received} were received from this epoch, but the spool's next is {self.next_seq}; "
                "begin a new epoch",
            )
        self.state = State.OPEN
        self.acked = acked
        self.received = received

    def take(self, first: int, last: int) -> bool:
        """A batch (first = last) or a gap arrived. True: take it in; False: a duplicate, acknowledge it again.

        Of a gap that begins before what is received only the rest is new: after `received` as it was before the call.
        Raises WireError when the conversation is not open, a seq was left out (the error's `seq` is the one that was
        expected), or the window is exceeded.
        """
        if self.state is not _OPEN:
            raise WireError(Code.UNEXPECTED_MESSAGE, f"no batches while the conversation is {self.state.value}")
        received = self.received
        if last <= received:
            return False
        if first > received + 1:
            raise WireError(Code.UNEXPECTED_SEQ, f"expected {received + 1}, got {first}", seq=received + 1)
        # Judged by where it begins, as the agent sees it: it may not know of batches from an older connection.
        if first - self.acked > self.window:
            raise WireError(
                Code.WINDOW_EXCEEDED,
                f"{first} came while {self.acked} is the last acknowledged; the window is {self.window}",
            )
        self.received = last
        return True

    def commit(self, seq: int) -> device.Ack | None:
        """All up to `seq` is durable: the acknowledgement to send, or None when it is sent already."""
        if seq <= self.acked or self.state is not _OPEN:
            return None
        self.acked = seq
        return device.Ack(seq)

    def close(self) -> None:
        """The connection is gone; nothing is allowed any more."""
        self.state = State.CLOSED


class AgentDeviceSession:
    """The agent's end: knows what may be sent next and what may be trimmed from the spool.

    `acked` is the highest seq acknowledged, `sent` the highest that was sent on this connection or needs no sending. An
    acknowledgement can move `sent`, so what goes out next is always `sent + 1`, asked for anew each time.
    """

    __slots__ = ("acked", "max_batch_bytes", "next_seq", "retry_ms", "sent", "state", "window")

    def __init__(self, *, next_seq: int) -> None:
        self.state = State.GREETING
        self.next_seq = next_seq
        self.acked = 0
        self.sent = 0
        self.window = 0
        self.max_batch_bytes = 0
        self.retry_ms = 0

    def receive(self, message: device.HubMessage) -> None:
        """Judges and follows any message of the hub. Raises WireError for one that a correct hub does not send."""
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
                # What an older connection sent may become durable only now: it need not be sent again.
                self.sent = max(self.sent, seq)
            case device.Reject(seq=seq):
                self._check_known(seq, "rejected")
        self.state = after

    def _check_known(self, seq: int, done: str) -> None:
        if seq >= self.next_seq:
            raise WireError(Code.UNEXPECTED_SEQ, f"{seq} was {done}, but the newest batch is {self.next_seq - 1}")

    @property
    def room(self) -> int:
        """How many more batches may be sent now."""
        return self.window - (self.sent - self.acked) if self.state is State.OPEN else 0

    def send(self, first: int, last: int) -> None:
        """Notes that a batch (first = last) or a gap goes out. Raises WireError when it is not its turn.

        What is next is always `sent + 1`. Of a gap that began before that, the rest is sent. When the spool holds
        nothing as old as that (the hub was restored from a copy and forgot what it had acknowledged), a gap up to the
        oldest batch that is left is sent first.
        """
        if self.room < 1:
            raise WireError(
                Code.WINDOW_EXCEEDED,
                f"{self.acked + 1} to {self.sent} are not acknowledged; the window is {self.window}"
                if self.state is State.OPEN
                else f"nothing can be sent while the conversation is {self.state.value}",
            )
        if first != self.sent + 1 or last < first:
            raise WireError(Code.UNEXPECTED_SEQ, f"expected {self.sent + 1}, got {first} to {last}")
        self.sent = last
        self.next_seq = max(self.next_seq, last + 1)

    def close(self) -> None:
        """The connection is gone."""
        self.state = State.CLOSED
