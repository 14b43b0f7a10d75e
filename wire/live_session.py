"""The session of the live protocol as two pure state machines: the viewer's end and the hub's end.

A connection is OPENING until the welcome, then OPEN; the table TRANSITIONS lists the messages that it allows. Each
subscription has its own state, in the table PROGRESS. A pair that is missing in a table is a protocol error.

    one subscription, at the viewer's end                message             after it
    ASKED        subscribe is sent, or will be             subscribed          CATCHING_UP
    CATCHING_UP  history, missed readings, a snapshot    caught_up           LIVE
    CATCHING_UP  readings after the cursor are missing   reset               ASKED, discard all readings
    ASKED        the cursor cannot be served             reset               ASKED, discard all readings
    any          rejected                                error with its id   ended

A frame that names a subscription is for that one. A frame for a whole schema is for its LIVE subscriptions only, since
those that catch up receive the same readings separately.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import msgspec

from wire import limits, live
from wire.errors import Code, WireError
from wire.frames import Kind, Update


class LiveSessionState(Enum):
    """State of a live connection."""

    OPENING = "opening"
    OPEN = "open"
    CLOSED = "closed"


class Progress(Enum):
    """State of one subscription."""

    ASKED = "asked"
    CATCHING_UP = "catching_up"
    LIVE = "live"


_WHILE_OPEN: tuple[type[object], ...] = (
    live.Subscribe, live.Unsubscribe, live.WatchFleet, live.Ping,
    live.Schema, live.Subscribed, live.CaughtUp, live.Reset, live.Fleet, live.DeviceState, live.DeviceStates,
    live.FleetProgress, live.Pong,
)  # fmt: skip

TRANSITIONS: dict[tuple[LiveSessionState, type[object]], LiveSessionState] = {
    (LiveSessionState.OPENING, live.Authenticate): LiveSessionState.OPENING,
    (LiveSessionState.OPENING, live.Welcome): LiveSessionState.OPEN,
    (LiveSessionState.OPENING, live.Error): LiveSessionState.CLOSED,
    (LiveSessionState.OPEN, live.Error): LiveSessionState.CLOSED,
    **{(LiveSessionState.OPEN, message): LiveSessionState.OPEN for message in _WHILE_OPEN},
}
"""(state, message) → the state after it, at both ends. An error that carries an id leaves the connection OPEN."""

PROGRESS: dict[tuple[Progress, type[object]], Progress] = {
    (Progress.ASKED, live.Subscribed): Progress.CATCHING_UP,
    (Progress.ASKED, live.Reset): Progress.ASKED,
    (Progress.CATCHING_UP, live.Reset): Progress.ASKED,
    (Progress.CATCHING_UP, live.CaughtUp): Progress.LIVE,
}
"""(progress, message) → the progress after it. Messages for a subscription that the viewer has ended are ignored."""

PROGRESS_OF_KIND: dict[Kind, Progress] = {
    Kind.SNAPSHOT: Progress.CATCHING_UP,
    Kind.HISTORY: Progress.CATCHING_UP,
    Kind.MISSED: Progress.CATCHING_UP,
    Kind.LIVE: Progress.LIVE,
}
"""State in which a subscription receives each kind of frame."""

_NOT_FINAL = frozenset({Code.UNAVAILABLE, Code.DUPLICATE_SUBSCRIPTION})
"""Errors with an id that do not end the subscription of that id: its history is unavailable but live continues, or a
second subscription with its id was rejected."""


def _next_state(state: LiveSessionState, message: object) -> LiveSessionState:
    after = TRANSITIONS.get((state, type(message)))
    if after is None:
        name = type(message).__name__
        raise WireError(Code.UNEXPECTED_MESSAGE, f"{name} is not allowed while the connection is {state.value}")
    return after


@dataclass(slots=True, eq=False)
class HubLiveSession:
    """The hub's end: the allowed messages and the subscriptions."""

    state: LiveSessionState = LiveSessionState.OPENING
    subscriptions: dict[int, live.Subscribe] = field(default_factory=dict)
    _newest_id: int = 0
    _is_replaceable: bool = False

    def open(self, *, replaceable: bool = False) -> None:
        """Open the session: the viewer is authenticated and gets the welcome.

        The identity is `replaceable` if it comes from a cookie: a viewer that cannot keep its browser from sending the
        cookie authenticates with its first message, which may cross the welcome.
        """
        self.state = LiveSessionState.OPEN
        self._is_replaceable = replaceable

    def close(self) -> None:
        """End the session."""
        self.state = LiveSessionState.CLOSED
        self.subscriptions.clear()

    def receive(self, message: live.ViewerMessage) -> live.Error | None:
        """Validate a message. Send a returned Error, which concerns its subscription only.

        Raises WireError to end the connection.
        """
        is_replaceable, self._is_replaceable = self._is_replaceable, False
        if is_replaceable and isinstance(message, live.Authenticate):
            return None
        self.state = _next_state(self.state, message)
        match message:
            case live.Subscribe(id=id):
                return self._subscribe(id, message)
            case live.Unsubscribe(id=id) if self.subscriptions.pop(id, None) is None:
                return live.Error(Code.UNKNOWN_SUBSCRIPTION, f"there is no subscription {id}", id)
        return None

    def _subscribe(self, id: int, asked: live.Subscribe) -> live.Error | None:
        # An id must not be used again: frames in flight to the first subscription would reach the second.
        if id <= self._newest_id:
            return live.Error(
                Code.DUPLICATE_SUBSCRIPTION,
                f"ids count up within a connection: {id} comes after {self._newest_id}",
                id,
            )
        if len(self.subscriptions) >= limits.MAX_SUBSCRIPTIONS:
            return live.Error(Code.TOO_MANY, f"a connection has at most {limits.MAX_SUBSCRIPTIONS} subscriptions", id)
        self._newest_id = id
        self.subscriptions[id] = asked
        return None


@dataclass(slots=True)
class ViewerSubscription:
    """One subscription at the viewer's end: the request, its state and its cursor."""

    asked: live.Subscribe
    progress: Progress = Progress.ASKED
    schema: int = 0
    cursor: live.Cursor | None = None
    conflated: int = 0


@dataclass(slots=True)
class ViewerSession:
    """The viewer's end: keeps subscriptions and cursors over reconnects, and assigns frames to subscriptions.

    A message that raises WireError changes nothing.
    """

    state: LiveSessionState = LiveSessionState.OPENING
    journal: str = ""
    subscriptions: dict[int, ViewerSubscription] = field(default_factory=dict)
    schemas: dict[int, list[live.Series]] = field(default_factory=dict)
    _newest_id: int = 0

    def subscribe(self, asked: live.Subscribe) -> None:
        """Add a subscription; send it with `opening_messages`, or now if the connection is open.

        Raises WireError(DUPLICATE_SUBSCRIPTION): ids count up within a connection.
        """
        if asked.id <= self._newest_id:
            raise WireError(
                Code.DUPLICATE_SUBSCRIPTION,
                f"ids count up within a connection: {asked.id} comes after {self._newest_id}",
            )
        self._newest_id = asked.id
        self.subscriptions[asked.id] = ViewerSubscription(asked, cursor=asked.cursor)

    def unsubscribe(self, id: int) -> live.Unsubscribe | None:
        """End a subscription; return the message for the hub, None if the hub does not know it."""
        known = self.subscriptions.pop(id, None) is not None
        return live.Unsubscribe(id) if known and self.state is LiveSessionState.OPEN else None

    def reconnect(self) -> None:
        """Begin a new connection: discard the schemas, keep the cursors."""
        self.state = LiveSessionState.OPENING
        self.schemas.clear()
        self._newest_id = max(self.subscriptions, default=0)
        for subscription in self.subscriptions.values():
            subscription.progress = Progress.ASKED
            subscription.schema = 0

    def opening_messages(self) -> list[live.Subscribe]:
        """Return the messages to send after the welcome: all subscriptions with their cursors, in order of id."""
        return [
            msgspec.structs.replace(subscription.asked, cursor=subscription.cursor)
            for subscription in self.subscriptions.values()
        ]

    def receive(self, message: live.LiveMessage) -> None:
        """Apply a message of the hub. Raises WireError for one that a correct hub does not send."""
        after = _next_state(self.state, message)
        match message:
            case live.Error(id=int(id)):
                after = self.state
                if message.code not in _NOT_FINAL:
                    self.subscriptions.pop(id, None)
            case live.Welcome():
                self.journal = message.journal
            case live.Schema():
                known = self.schemas.get(message.schema, [])
                if message.first > len(known):
                    raise WireError(
                        Code.UNEXPECTED_MESSAGE,
                        f"schema {message.schema} continues at {message.first}, but only {len(known)} series are known",
                    )
                self.schemas[message.schema] = [*known[: message.first], *message.series]
            case live.Subscribed() | live.Reset() | live.CaughtUp():
                self._follow(message)
        self.state = after

    def _follow(self, message: live.Subscribed | live.Reset | live.CaughtUp) -> None:
        subscription = self.subscriptions.get(message.id)
        if subscription is None:
            return
        after = PROGRESS.get((subscription.progress, type(message)))
        if after is None:
            raise WireError(
                Code.UNEXPECTED_MESSAGE,
                f"{type(message).__name__} for subscription {message.id}, which is {subscription.progress.value}",
            )
        subscription.progress = after
        match message:
            case live.Subscribed():
                subscription.schema = message.schema
                if message.start != "cursor":
                    subscription.cursor = None
            case live.Reset():
                subscription.cursor = None
            case live.CaughtUp():
                self._advance(subscription, message.offset)

    def receive_update(self, update: Update) -> list[int]:
        """Return the subscriptions of a frame and move their cursors.

        Raises WireError for an unknown schema or series, or if the subscription must not receive the frame now.
        """
        series = self.schemas.get(update.schema)
        columns = [column.series for column in update.numbers] + [column.series for column in update.texts]
        if series is None or any(column >= len(series) for column in columns):
            raise WireError(Code.UNEXPECTED_MESSAGE, f"a frame of schema {update.schema} came before its description")
        targets = self._targets(update)
        for subscription in targets:
            subscription.conflated += update.conflated
            # Only the last part of a frame has the offset: a cursor is never ahead of its readings.
            if update.offset and update.kind in (Kind.LIVE, Kind.MISSED):
                self._advance(subscription, update.offset)
        return [subscription.asked.id for subscription in targets]

    def _targets(self, update: Update) -> list[ViewerSubscription]:
        due = PROGRESS_OF_KIND[update.kind]
        if not update.subscription:
            if due is not Progress.LIVE:
                raise WireError(Code.UNEXPECTED_MESSAGE, f"a {update.kind.name.lower()} frame names no subscription")
            return [s for s in self.subscriptions.values() if s.schema == update.schema and s.progress is due]
        named = self.subscriptions.get(update.subscription)
        if named is None:
            return []
        if named.schema != update.schema or named.progress is not due:
            raise WireError(
                Code.UNEXPECTED_MESSAGE,
                f"a {update.kind.name.lower()} frame of schema {update.schema} for subscription {update.subscription}, "
                f"which is {named.progress.value} with schema {named.schema}",
            )
        return [named]

    def _advance(self, subscription: ViewerSubscription, offset: int) -> None:
        """Move the cursor forward, never back. A reset has removed the cursor of another journal."""
        cursor = subscription.cursor
        if cursor is None or offset > cursor.offset:
            subscription.cursor = live.Cursor(self.journal, offset)
