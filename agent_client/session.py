"""One connection of a device to a hub, from the hello to its end.

`wire.device_session` holds the rules of the protocol. This module passes it each message that arrives and sends what it
allows. One task receives, one transmits, one reports the status, and one reports commands. The next number to send is
always the session's `sent + 1`, read again each time, because an acknowledgement can move it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple, Protocol

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from agent_client.bounds import bounded_welcome
from agent_client.reconnect import Ending
from wire import device, limits
from wire.codec import (
    AGENT_MESSAGES,
    COMMAND_SUBPROTOCOLS,
    EVENT_SUBPROTOCOLS,
    HUB_MESSAGES,
    PARTIAL_SUBPROTOCOLS,
    STATUS_SUBPROTOCOLS,
    Format,
)
from wire.command import CommandDeclaration, CommandParameter
from wire.device_session import AgentDeviceSession, ClockOffset
from wire.errors import Code, WireError
from wire.frame_budget import ControlBudget
from wire.model import Metric
from wire.text import batches

WELCOME_SECONDS = 10.0
"""Longest time from the hello to the welcome."""

STATUS_SECONDS = 1.0
"""Shortest time between two reports of the status: people read it, and a source can fail a thousand times a second."""

DECLARE_BYTES = limits.MAX_BATCH_BYTES // 2
"""Definitions in one message; more are sent in several messages."""

MESSAGES_PER_TURN = 64
"""Messages that are handled before other tasks get a turn: receiving one that has arrived does not wait."""

_log = logging.getLogger(__name__)


class Frame(NamedTuple):
    """An encoded data message, its number and how many readings it holds."""

    seq: int
    data: bytes
    readings: int


class OutboxUnavailable(Exception):
    """The outbox cannot be read at the moment. The client reconnects later."""


class CommandExchange(Protocol):
    """Commands and desired values of operators to one device, and what became of them."""

    @property
    def declarations(self) -> Sequence[CommandDeclaration]:
        """The commands that the device executes; their number only grows. Together they fit into one message."""

    @property
    def declared_settings(self) -> Sequence[CommandParameter]:
        """The settings of the device, as `declarations`."""

    @property
    def changed(self) -> asyncio.Event:
        """An event to set when there is another declaration or state to send. The session clears it."""

    def connect(self, hub_ns: int) -> None:
        """Begin a new connection: `take_reports` returns again what the hub has not recorded.

        `hub_ns` is the time of the hub's clock.
        """

    def note_hub_time(self, hub_ns: int) -> None:
        """Apply a newer time of the hub's clock, that of a time probe."""

    def receive(self, command: device.Command) -> None:
        """Accept a command, possibly not for the first time."""

    def record(self, recorded: device.CommandRecorded) -> None:
        """Record that a state is on the hub's disk."""

    def receive_desired(self, desired: device.Desired) -> None:
        """Take the desired values, possibly not for the first time."""

    def take_reports(self) -> Sequence[device.CommandState | device.Reported]:
        """Return the states that were not sent on this connection and that the hub has not recorded.

        The settings follow if they differ from those that were sent on it.
        """


class DeviceOutbox(Protocol):
    """Numbered batches of one device that wait for acknowledgement: the spool of an agent, or the batches of a file."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The definitions of all metrics that the batches use, by name."""

    @property
    def revision(self) -> int:
        """A number that grows whenever a definition is added or changes."""

    @property
    def status_changed(self) -> asyncio.Event:
        """An event to set when a source changes. The session clears it, and sets it when the window is full."""

    @property
    def commands(self) -> CommandExchange | None:
        """The commands of the device; None for one that has none."""

    def hello(self) -> device.Hello:
        """Return the first message of a connection; the session adds the metrics, the commands and the time."""

    def status(self) -> device.Status | None:
        """Return what to report to the hub now, None to report nothing."""

    async def connected(self, session: AgentDeviceSession) -> None:
        """Handle a welcome; all batches up to `session.acked` are acknowledged."""

    async def read(self, session: AgentDeviceSession) -> Sequence[Frame | device.Gap]:
        """Return the entries after `session.sent`, in order; wait until there is one.

        No more than `session.room` entries, and no frame above `session.max_batch_bytes`. Raises OutboxUnavailable. Any
        other exception ends the client.
        """

    def transmitted(self, frame: Frame) -> None:
        """Record that a frame is sent, possibly not for the first time."""

    def acknowledged(self, acked: int) -> None:
        """Record that all batches up to this number are durable in the hub."""

    def rejected(self, reject: device.Reject) -> None:
        """Record that the hub put a batch in quarantine."""

    async def disconnected(self, ending: Ending) -> Ending:
        """Handle the end of a connection, or of an attempt, and return the ending that decides when to reconnect.

        An exception ends the client.
        """


class ClientSession:
    """The messages of one connection. Call `open` once, then `run` once."""

    def __init__(
        self, connection: ClientConnection, outbox: DeviceOutbox, *, format: Format, time_ns: Callable[[], int]
    ) -> None:
        self._connection = connection
        self._outbox = outbox
        self._format = format
        self._time_ns = time_ns
        self._hello = outbox.hello()
        self.state = AgentDeviceSession(
            next_seq=self._hello.next_seq,
            has_refused=connection.subprotocol in PARTIAL_SUBPROTOCOLS,
            has_events=connection.subprotocol in EVENT_SUBPROTOCOLS,
            has_commands=connection.subprotocol in COMMAND_SUBPROTOCOLS,
        )
        self._commands = outbox.commands if self.state.has_commands else None
        self._declared: dict[str, Metric] = {}
        self._declared_commands = 0
        self._declared_settings = 0
        self._revision = -1
        self._room = asyncio.Event()
        self._failure: Exception | None = None

    async def open(self) -> Ending | None:
        """Send the hello and wait for the welcome; return None when batches may be sent."""
        metrics = next(_split_definitions(self._undeclared()), [])
        self._declared.update((metric.name, metric) for metric in metrics)
        commands = [] if self._commands is None else [*self._commands.declarations]
        settings = [] if self._commands is None else [*self._commands.declared_settings]
        self._declared_commands, self._declared_settings = len(commands), len(settings)
        sent_ns = self._time_ns()
        own = {"metrics": metrics, "commands": commands, "settings": settings}
        await self._send(msgspec.structs.replace(self._hello, **own, time=sent_ns))
        try:
            async with asyncio.timeout(WELCOME_SECONDS):
                reply = await self._receive()
        except TimeoutError:
            return Ending("the hub did not answer the hello")
        if isinstance(reply, device.Error):
            return _ending(reply)
        if isinstance(reply, device.Welcome):
            # The hub read its clock within the round trip.
            error_ns = max(0, self._time_ns() - sent_ns) // 2
            self.state.clock = ClockOffset(sent_ns + error_ns - reply.time, error_ns)
        await self._outbox.connected(self.state)
        return None

    async def run(self) -> Ending:
        """Send and receive until the hub ends the connection.

        Raises ConnectionClosed, WireError and what the outbox raises.
        """
        # No TaskGroup: in Python 3.11 it loses a cancellation that arrives while it ends for another reason.
        has_status = self._connection.subprotocol in STATUS_SUBPROTOCOLS
        status = self._outbox.status() if has_status else None
        if status is not None and status.acked:
            # The hub has lost batches that it had acknowledged: it learns that before it gets them again.
            await self._send(status)
        tasks = [asyncio.create_task(self._transmit())]
        if has_status:
            tasks.append(asyncio.create_task(self._report()))
        if self._commands is not None:
            self._commands.connect(self._hub_ns())
            tasks.append(asyncio.create_task(self._report_commands(self._commands)))
        try:
            return await self._listen()
        except ConnectionClosed:
            if self._failure is not None:
                raise self._failure from None
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _listen(self) -> Ending:
        probes = ControlBudget()
        for number in count(1):
            if number % MESSAGES_PER_TURN == 0:
                await asyncio.sleep(0)
            match await self._receive():
                case device.Ack():
                    self._outbox.acknowledged(self.state.acked)
                    self._room.set()
                case device.TimeProbe(hub_time=hub_time):
                    if probes.count(asyncio.get_running_loop().time()):
                        raise WireError(Code.TOO_MANY_FRAMES, "the server sends more time probes than a hub does")
                    await self._send(device.TimeReply(hub_time, self._time_ns()))
                    if self._commands is not None:
                        self._commands.note_hub_time(hub_time)
                case device.Reject() as reject:
                    self._outbox.rejected(reject)
                case device.Command() as command if self._commands is not None:
                    self._commands.receive(command)
                case device.CommandRecorded() as recorded if self._commands is not None:
                    self._commands.record(recorded)
                case device.Desired() as desired if self._commands is not None:
                    self._commands.receive_desired(desired)
                case device.Error() as error:
                    return _ending(error)
        raise AssertionError("the loop does not end")

    async def _transmit(self) -> None:
        """Send entries as far as the window allows, until the connection ends."""
        state, outbox = self.state, self._outbox
        try:
            while True:
                if state.room < 1:
                    outbox.status_changed.set()
                    self._room.clear()
                    await self._room.wait()
                    continue
                entries = await outbox.read(state)
                if outbox.revision != self._revision:
                    await self._declare()
                await self._send_entries(entries)
        except ConnectionClosed:
            return  # _listen reports the reason
        except Exception as error:  # noqa: BLE001 - run() raises it
            self._failure = error
            self._connection.transport.abort()  # ends _listen

    async def _report(self) -> None:
        """Send the status after the welcome and when it changed, at most once in STATUS_SECONDS."""
        outbox = self._outbox
        reported: device.Status | None = None
        try:
            while True:
                outbox.status_changed.clear()
                status = outbox.status()
                if status is None:
                    return
                if must_report(reported, status, is_window_full=self.state.room < 1):
                    await self._send(status)
                    reported = status
                await asyncio.sleep(STATUS_SECONDS)
                if self.state.room >= 1:
                    await outbox.status_changed.wait()
        except ConnectionClosed:
            return  # _listen reports the reason

    async def _report_commands(self, commands: CommandExchange) -> None:
        """Send declarations and states of commands as soon as they exist, until the connection ends."""
        try:
            while True:
                commands.changed.clear()
                declarations, settings = commands.declarations, commands.declared_settings
                new = [*declarations[self._declared_commands :]]
                new_settings = [*settings[self._declared_settings :]]
                if new or new_settings:
                    self._declared_commands, self._declared_settings = len(declarations), len(settings)
                    await self._send(device.Declare([], new, new_settings))
                for state in commands.take_reports():
                    await self._send(state)
                await commands.changed.wait()
        except ConnectionClosed:
            return  # _listen reports the reason

    async def _send_entries(self, entries: Iterable[Frame | device.Gap]) -> None:
        """Send entries until one is not the next number any more, which an acknowledgement can cause."""
        state = self.state
        for entry in entries:
            first = entry.from_seq if isinstance(entry, device.Gap) else entry.seq
            if state.room < 1 or first != state.sent + 1:
                return
            if isinstance(entry, device.Gap):
                state.send(first, entry.to)
                _log.warning("declared lost: %s: %s", batches(first, entry.to), entry.reason)
                await self._send(entry)
            else:
                state.send(first, first)
                self._outbox.transmitted(entry)
                await self._connection.send(entry.data, text=self._format == "json")

    async def _declare(self) -> None:
        # The revision is read before the metrics: a definition that is added in between is declared next time.
        revision = self._outbox.revision
        for metrics in _split_definitions(self._undeclared()):
            self._declared.update((metric.name, metric) for metric in metrics)
            await self._send(device.Declare(metrics))
        self._revision = revision

    def _hub_ns(self) -> int:
        """Return the time of the hub's clock, as the welcome had it."""
        clock = self.state.clock
        return self._time_ns() - (0 if clock is None else clock.offset_ns)

    def _undeclared(self) -> list[Metric]:
        return [metric for metric in self._outbox.metrics.values() if self._declared.get(metric.name) != metric]

    async def _send(self, message: device.AgentMessage) -> None:
        await self._connection.send(AGENT_MESSAGES[self._format].encode(message), text=self._format == "json")

    async def _receive(self) -> device.HubMessage:
        message = HUB_MESSAGES[self._format].decode(await self._connection.recv(decode=False))
        if isinstance(message, device.Welcome):
            message, sentences = bounded_welcome(message)
            for sentence in sentences:
                _log.warning("%s", sentence)
        self.state.receive(message)
        return message


def must_report(reported: device.Status | None, status: device.Status, *, is_window_full: bool) -> bool:
    """Return whether the hub has to learn this status, after the one that was reported last on this connection.

    While the window has room, everything in the outbox is sent at once, so the hub knows the newest number by itself.
    The times of states are no change: they move with the clock.
    """
    if reported is None:
        return True
    if is_window_full and status.next_seq != reported.next_seq:
        return True
    return [(s.name, s.ok, s.error) for s in status.sources] != [(s.name, s.ok, s.error) for s in reported.sources]


def _ending(error: device.Error) -> Ending:
    return Ending(f"{error.message} ({error.code})", error=error.code, retry_ms=error.retry_ms)


def _split_definitions(metrics: Iterable[Metric]) -> Iterator[list[Metric]]:
    """Yield the definitions in lists that each fit into a message."""
    portion: list[Metric] = []
    size = 0
    for metric in metrics:
        weight = len(AGENT_MESSAGES["json"].encode(device.Declare([metric])))
        if portion and size + weight > DECLARE_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(metric)
        size += weight
    if portion:
        yield portion
