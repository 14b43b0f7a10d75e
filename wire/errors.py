"""Error codes and close codes, shared by both ends, the documentation and the dashboard."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Code(StrEnum):
    """Reason why a message, a batch or a connection was rejected. Stable: programs may match on them."""

    BAD_MESSAGE = "bad_message"
    """Not a message of this protocol: bad JSON or msgpack, an unknown type, an unknown field, a wrong type."""
    WRONG_FRAME = "wrong_frame"
    """A binary frame on a JSON connection or a text frame on a msgpack connection."""
    TOO_LARGE = "too_large"
    """A frame over the size that the welcome named."""
    UNEXPECTED_MESSAGE = "unexpected_message"
    """A message that the state of the session does not allow, for example data before hello."""
    UNEXPECTED_SEQ = "unexpected_seq"
    """A sequence number that is neither the next one nor one received before."""
    WINDOW_EXCEEDED = "window_exceeded"
    """More unacknowledged batches than the welcome allowed."""
    ROLLED_BACK = "rolled_back"
    """The hub acknowledged batches that this spool does not have: it was restored from a copy. Begin a new epoch."""
    NOT_AUTHENTICATED = "not_authenticated"
    NOT_ALLOWED = "not_allowed"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    """Another connection of the same device took over."""
    SHUTTING_DOWN = "shutting_down"
    TOO_MANY_FRAMES = "too_many_frames"
    """More fragments of a message, control frames, or frames before the authentication than the limit."""
    BUSY = "busy"
    """The hub accepts no more connections or data at the moment; try again later."""
    STORAGE_FULL = "storage_full"
    STORAGE_FAILED = "storage_failed"

    UNKNOWN_METRIC = "unknown_metric"
    """A value for a metric that was not declared."""
    TYPE_CONFLICT = "type_conflict"
    """A metric declared with another type than before."""
    WRONG_TYPE = "wrong_type"
    """A value that is not of its metric's type."""
    OUT_OF_RANGE = "out_of_range"
    """An integer outside signed 64 bits, a time outside 1970 to 2262, a string that is too long."""
    NOT_FINITE = "not_finite"
    """NaN or infinity where a number was expected."""
    LENGTH_MISMATCH = "length_mismatch"
    """A value column that is not as long as the time column, or a packed column of a broken length."""
    EMPTY = "empty"
    """A batch without a reading."""

    UNKNOWN_SUBSCRIPTION = "unknown_subscription"
    DUPLICATE_SUBSCRIPTION = "duplicate_subscription"
    TOO_MANY = "too_many"
    """More subscriptions, metrics or tags than the limit."""
    UNAVAILABLE = "unavailable"
    """The store cannot answer at the moment; live updates continue."""


class Close(IntEnum):
    """WebSocket close codes; those below 4000 are defined by the IANA registry (RFC 6455, 7.4)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    POLICY_VIOLATION = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_MESSAGE = 4400
    NOT_AUTHENTICATED = 4401
    NOT_ALLOWED = 4403
    SUPERSEDED = 4409


CLOSE_FOR_CODE: dict[Code, Close] = {
    Code.BAD_MESSAGE: Close.BAD_MESSAGE,
    Code.WRONG_FRAME: Close.BAD_MESSAGE,
    Code.TOO_LARGE: Close.TOO_BIG,
    Code.UNEXPECTED_MESSAGE: Close.BAD_MESSAGE,
    Code.UNEXPECTED_SEQ: Close.BAD_MESSAGE,
    Code.WINDOW_EXCEEDED: Close.BAD_MESSAGE,
    Code.ROLLED_BACK: Close.BAD_MESSAGE,
    Code.TOO_MANY: Close.BAD_MESSAGE,
    Code.NOT_AUTHENTICATED: Close.NOT_AUTHENTICATED,
    Code.REVOKED: Close.NOT_AUTHENTICATED,
    Code.NOT_ALLOWED: Close.NOT_ALLOWED,
    Code.SUPERSEDED: Close.SUPERSEDED,
    Code.SHUTTING_DOWN: Close.SERVICE_RESTART,
    Code.TOO_MANY_FRAMES: Close.POLICY_VIOLATION,
    Code.BUSY: Close.TRY_AGAIN_LATER,
    Code.STORAGE_FULL: Close.TRY_AGAIN_LATER,
    Code.STORAGE_FAILED: Close.TRY_AGAIN_LATER,
}
"""Close code for each error that ends a connection."""

RETRYABLE_CLOSES = frozenset(
    {
        Close.NORMAL,
        Close.GOING_AWAY,
        1005,  # a close frame without a code
        1006,  # no close frame at all: the connection broke
        Close.INTERNAL_ERROR,
        Close.SERVICE_RESTART,
        Close.TRY_AGAIN_LATER,
        Close.BAD_MESSAGE,
    }
)
"""Closes after which an agent reconnects with the usual delay. 4400 is one of them: the next hello agrees on the order
of the batches, or on an epoch, again; if that does not help, the delay grows."""

FINAL_CLOSES = frozenset({Close.SUPERSEDED})
"""Closes after which an agent does not reconnect: two agents with one device id would disconnect each other without
end. After any other close (4401, 4403, 1008, 1009, a code of a proxy) it reconnects with the longest delay: a person
may create the token or raise the limit later, and stopping would lose data."""


class WireError(Exception):
    """A message that violates the protocol: the stable code, a sentence, and the seq if there is one.

    `seq` is the batch's own number, so that it can be put in quarantine; with UNEXPECTED_SEQ, the number expected.
    """

    def __init__(self, code: Code, message: str, *, seq: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.seq = seq
