"""The live protocol's conversation as two pure state machines: the viewer's end and the hub's end.

A connection is OPENING until the hub has welcomed it, then OPEN. Within it every subscription goes its own way:

    viewer end of one subscription            message               after it
    ASKED       (subscribe sent)              subscribed            CATCHING_UP
    CATCHING_UP (history or missed readings)  reset                 CATCHING_UP, all held so far is void
    CATCHING_UP                               caught_up             LIVE
    any                                       error with its id     ended

A frame that names a subscription is for that one; a frame for a whole schema is for its LIVE subscriptions only, since
those that catch up receive the same readings on their own way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from wire import limits, live
from wire.errors import Code, WireError
from wire.frames import Kind, Update


class State(Enum):
    """Where a live connection stands."""

    OPENING = "opening"
    OPEN = "open"
    CLOSED = "closed"


class Progress(Enum):
    """Where one subscription stands."""

    ASKED = "asked"
    CATCHING_UP = "catching_up"
    LIVE = "live"


class HubLiveSession:
    """The hub's end: which messages are allowed when, and which subscriptions there are."""

    def __init__(self) -> None:
        self.state = State.OPENING
        self.subscriptions: dict[int, live.Subscribe] = {}

    def open(self) -> None:
        """The viewer is authenticated and the welcome goes out."""
        self.state = State.OPEN

    def close(self) -> None:
        """The connection is gone."""
        self.state = State.CLOSED
        self.subscriptions.clear()

    def receive(self, message: live.ViewerMessage) -> live.Error | None:
        """Judges a message; an Error concerns its subscription only and is sent. Raises WireError to end the connection."""
        opening = isinstance(message, live.Authenticate)
        if self.state is not (State.OPENING if opening else State.OPEN):
            name = type(message).__name__.lower()
            raise WireError(Code.UNEXPECTED_MESSAGE, f"{name} is not allowed while the connection is {self.state.value}")
        match message:
            case live.Subscribe(id=id) if id in self.subscriptions:
                return live.Error(Code.DUPLICATE_SUBSCRIPTION, f"subscription {id} exists already", id)
            case live.Subscribe(id=id) if len(self.subscriptions) >= limits.MAX_SUBSCRIPTIONS:
                return live.Error(Code.TOO_MANY, f"a connection has at most {limits.MAX_SUBSCRIPTIONS} subscriptions", id)
            case live.Subscribe(id=id):
                self.subscriptions[id] = message
            case live.Unsubscribe(id=id):
                if self.subscriptions.pop(id, None) is None:
                    return live.Error(Code.UNKNOWN_SUBSCRIPTION, f"there is no subscription {id}", id)
        return None


@dataclass(slots=True)
class Subscription:
    """The viewer's view of one subscription: what was asked, where it stands, and its cursor."""

    asked: live.Subscribe
    progress: Progress = Progress.ASKED
    schema: int = 0
    cursor: live.Cursor | None = None
    conflated: int = 0


@dataclass(slots=True)
class ViewerSession:
    """The viewer's end: remembers subscriptions and cursors over reconnects, and says for whom each frame is."""

    state: State = State.OPENING
    journal: str = ""
    subscriptions: dict[int, Subscription] = field(default_factory=dict)
    schemas: dict[int, list[live.Series]] = field(default_factory=dict)

    def subscribe(self, asked: live.Subscribe) -> None:
        """A new subscription; its message goes out with `opening_messages`, or now when the connection is open."""
        if asked.id in self.subscriptions:
            raise WireError(Code.DUPLICATE_SUBSCRIPTION, f"subscription {asked.id} exists already")
        self.subscriptions[asked.id] = Subscription(asked, cursor=asked.cursor)

    def unsubscribe(self, id: int) -> live.Unsubscribe:
        """Ends a subscription; returns the message that says so to the hub."""
        del self.subscriptions[id]
        return live.Unsubscribe(id)

    def reconnect(self) -> None:
        """A new connection begins: schemas are forgotten, cursors are kept."""
        self.state = State.OPENING
        self.schemas.clear()
        for subscription in self.subscriptions.values():
            subscription.progress = Progress.ASKED
            subscription.schema = 0

    def opening_messages(self) -> list[live.Subscribe]:
        """What to send after the welcome: every subscription with its cursor."""
        return [
            live.Subscribe(
                id=s.asked.id,
                devices=s.asked.devices,
                metrics=s.asked.metrics,
                policy=s.asked.policy,
                period_ms=s.asked.period_ms,
                history=s.asked.history,
                cursor=s.cursor,
            )
            for s in self.subscriptions.values()
        ]

    def receive(self, message: live.LiveMessage) -> None:
        """Follows any message of the hub. Raises WireError for one that a correct hub does not send."""
        if isinstance(message, live.Error):
            if message.id is not None:
                self.subscriptions.pop(message.id, None)
            return
        if isinstance(message, live.Welcome) is not (self.state is State.OPENING):
            raise WireError(Code.UNEXPECTED_MESSAGE, f"{type(message).__name__} while {self.state.value}")
        match message:
            case live.Welcome():
                self.state = State.OPEN
                self.journal = message.journal
            case live.Schema():
                known = self.schemas.setdefault(message.schema, [])
                if message.first > len(known):
                    raise WireError(Code.UNEXPECTED_MESSAGE, f"schema {message.schema} leaves out {len(known)}")
                known[message.first :] = message.series
            case live.Subscribed() if (s := self.subscriptions.get(message.id)) is not None:
                s.schema = message.schema
                s.progress = Progress.CATCHING_UP
                if message.start != "cursor":
                    s.cursor = None
            case live.Reset() if (s := self.subscriptions.get(message.id)) is not None:
                s.cursor = None
            case live.CaughtUp() if (s := self.subscriptions.get(message.id)) is not None:
                s.progress = Progress.LIVE
                self._advance(s, message.offset)

    def receive_update(self, update: Update) -> list[int]:
        """For which subscriptions a frame is; their cursors move. Raises WireError for an unknown schema or series."""
        series = self.schemas.get(update.schema)
        columns = [column.series for column in update.numbers] + [column.series for column in update.texts]
        if series is None or any(column >= len(series) for column in columns):
            raise WireError(Code.UNEXPECTED_MESSAGE, f"an update of schema {update.schema} came before its description")
        if update.subscription:
            named = self.subscriptions.get(update.subscription)
            targets = [named] if named is not None else []
        else:
            targets = [
                s for s in self.subscriptions.values() if s.schema == update.schema and s.progress is Progress.LIVE
            ]
        for subscription in targets:
            subscription.conflated += update.conflated
            if update.kind in (Kind.LIVE, Kind.MISSED):
                self._advance(subscription, update.offset)
        return [subscription.asked.id for subscription in targets]

    def _advance(self, subscription: Subscription, offset: int) -> None:
        if subscription.cursor is None or offset > subscription.cursor.offset:
            subscription.cursor = live.Cursor(self.journal, offset)
