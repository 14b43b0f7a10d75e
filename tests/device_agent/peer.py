"""A small hub for the agent's tests: real sockets, the machine that the hub itself uses, and a list for a journal.

A test can hold the commits (received, but not durable), drop the connections, crash (batches that are not durable are
lost), reject batches, refuse upgrades, send any message, stop the hub and start it again on the same port.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Literal, NamedTuple, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from device_agent import Agent, AgentOptions, Surroundings
from wire import device, limits
from wire.codec import (
    AGENT_MESSAGES,
    COMMAND_SUBPROTOCOLS,
    EVENT_SUBPROTOCOLS,
    FORMAT_OF_SUBPROTOCOL,
    HUB_MESSAGES,
    PARTIAL_SUBPROTOCOLS,
    STATUS_SUBPROTOCOLS,
    Format,
)
from wire.columns import unpack_floats, unpack_times
from wire.command import CommandDeclaration, CommandParameter
from wire.device_session import HubDeviceSession
from wire.errors import CLOSE_FOR_CODE, Close, Code, WireError
from wire.model import Metric, Value

NEWER_SUBPROTOCOLS: dict[str, frozenset[str]] = {
    "1.0": STATUS_SUBPROTOCOLS,
    "1.1": PARTIAL_SUBPROTOCOLS,
    "1.2": EVENT_SUBPROTOCOLS,
    "1.3": COMMAND_SUBPROTOCOLS,
    "1.4": frozenset(),
}
"""Subprotocols that a hub of each version does not know."""


class Accepted(NamedTuple):
    """An entry of the journal."""

    device: str
    epoch: str
    first: int
    last: int
    message: device.Data | device.Gap | device.Refused | device.DeviceEvent


class Mark:
    """State of one epoch of a device at the peer: durable up to `acked`, received up to `received`."""

    def __init__(self) -> None:
        self.acked = 0
        self.received = 0


class Link(NamedTuple):
    """Open session of one device."""

    connection: ServerConnection
    session: HubDeviceSession
    hello: device.Hello
    format: Format


class Peer:
    """Small hub, an async context manager. It listens on `url`, the same after a restart."""

    def __init__(
        self,
        *,
        window: int = 64,
        max_batch_bytes: int = limits.MAX_BATCH_BYTES,
        retry_ms: int = 1,
        port: int = 0,
        version: Literal["1.0", "1.1", "1.2", "1.3", "1.4"] = "1.4",
    ) -> None:
        self.window = window
        self.max_batch_bytes = max_batch_bytes
        self.retry_ms = retry_ms
        self.port = port
        self.version = version
        self.statuses: list[device.Status] = []
        self.journal: list[Accepted] = []
        self.hellos: list[device.Hello] = []
        self.metrics: dict[str, Metric] = {}
        self.headers: list[dict[str, str]] = []
        self.time_replies: list[device.TimeReply] = []
        self.commands: dict[str, CommandDeclaration] = {}
        self.command_states: list[device.CommandState] = []
        self.settings: dict[str, CommandParameter] = {}
        self.desired: device.Desired | None = None
        """The desired values of all devices, which are sent after each welcome."""
        self.reported: list[device.Reported] = []
        self.records_commands = True
        """False: the states of commands are received and never recorded."""
        self.problems: list[str] = []
        self.is_strict = True
        """False: frames may be larger than the welcome allows."""
        self.duplicates = 0
        self.upgrades = 0
        self.frames: list[bytes | str] = []
        self.refusal: tuple[HTTPStatus, dict[str, str]] | None = None
        self.greeting: device.Error | device.Welcome | None = None
        self.is_unreadable: Callable[[device.Data], bool] = lambda data: False
        """True: this batch ends the connection with `bad_message`."""
        self.rejects: Callable[[device.Data], Code | device.Reject | None] = lambda data: None
        self.marks: dict[tuple[str, str], Mark] = {}
        self.links: dict[str, Link] = {}
        self._held = False
        self._pending: list[Accepted] = []
        self._changed = asyncio.Condition()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()
        assert self.problems == [], "an agent broke the protocol"

    async def start(self) -> None:
        """Listen, on the port of the last time."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            subprotocols=[
                Subprotocol(name) for name in FORMAT_OF_SUBPROTOCOL if name not in NEWER_SUBPROTOCOLS[self.version]
            ],
            process_request=self._admit,
            compression=None,
            max_size=None,
            close_timeout=1,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close every connection and stop listening, as a hub that restarts does."""
        if self._server is not None:
            # If asyncio accepts a connection in the turn of the loop in which the server closes, its socket stays open
            # and is not read. So accept no more, let accepted connections begin, and close then.
            for listener in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listener.fileno())
            for _ in range(2):
                await asyncio.sleep(0)
            self._server.close(code=Close.SERVICE_RESTART)
            await self._server.wait_closed()
            self._server = None

    async def crash(self) -> None:
        """Break every connection, and discard the batches that are not durable."""
        for link in self.links.values():
            link.session.close()  # frames that arrive later are not accepted
        self._pending.clear()
        for mark in self.marks.values():
            mark.received = mark.acked
        await self.drop()

    async def drop(self) -> None:
        """Break every connection without a close frame. Received batches become durable later."""
        for link in list(self.links.values()):
            link.connection.transport.abort()
            await link.connection.wait_closed()

    def hold(self) -> None:
        """Keep batches that are received from now on from becoming durable."""
        self._held = True

    async def release(self) -> None:
        """Make the held batches durable, and every later one at once."""
        self._held = False
        await self._commit()

    async def send(self, name: str, message: device.HubMessage) -> None:
        """Send a message to a connected device."""
        link = self.links[name]
        await self._send(link.connection, link.format, message)

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Return when the predicate is true. It is called after each event of the peer."""
        async with self._changed:
            await self._changed.wait_for(predicate)

    async def command(
        self, name: str, id: str, command: str, timeout_ms: int = 10_000, *, is_queued: bool = False, **parameters: Any
    ) -> None:
        """Send a command to a connected device."""
        await self.send(name, device.Command(id, command, parameters, 1, timeout_ms, is_queued))

    async def desire(self, name: str, **values: Any) -> None:
        """Replace the desired values of a connected device."""
        self.desired = device.Desired(1 if self.desired is None else self.desired.version + 1, values)
        await self.send(name, self.desired)

    async def in_force(self, **values: Any) -> device.Reported:
        """Return the report of the newest version with these values in force, and no problem, as soon as it arrives."""

        def reported() -> bool:
            version = 0 if self.desired is None else self.desired.version
            return bool(self.reported) and self.reported[-1] == device.Reported(version, values)

        await self.until(reported)
        return self.reported[-1]

    async def problem_of(self, setting: str, code: str) -> device.SettingProblem:
        """Return a problem of a setting with this code, as soon as it is reported."""

        def found() -> list[device.SettingProblem]:
            problems = self.reported[-1].problems if self.reported else []
            return [problem for problem in problems if (problem.name, problem.code) == (setting, code)]

        await self.until(lambda: bool(found()))
        return found()[0]

    def states_of(self, id: str) -> list[tuple[str, str]]:
        """Return the states of a command in the order of their arrival, each with its code."""
        return [(state.state, state.code) for state in self.command_states if state.id == id]

    @property
    def received(self) -> int:
        """Return the number of received batches and gaps, durable or not."""
        return len(self.journal) + len(self._pending)

    def values(self, metric: str) -> list[Value]:
        """Return every value of a metric in the journal, in order."""
        found: list[Value] = []
        for entry in self.journal:
            if isinstance(entry.message, device.Data) and metric in entry.message.values:
                column = entry.message.values[metric]
                found += unpack_floats(column) if isinstance(column, bytes) else column
        return [value for value in found if value is not None]

    def reports(self) -> list[device.Refused]:
        """Return the reports of refusals in the journal."""
        return [entry.message for entry in self.journal if isinstance(entry.message, device.Refused)]

    def rows(self) -> int:
        """Return the number of rows in the journal."""
        return sum(
            len(unpack_times(time) if isinstance(time, bytes) else time)
            for time in (entry.message.time for entry in self.journal if isinstance(entry.message, device.Data))
        )

    def check_order(self) -> None:
        """Assert that each epoch's numbers are in the journal once, in order, without a hole."""
        newest: dict[tuple[str, str], int] = {}
        for entry in self.journal:
            key = entry.device, entry.epoch
            assert entry.first == newest.get(key, 0) + 1, f"{entry.first} follows {newest.get(key, 0)}"
            newest[key] = entry.last

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.upgrades += 1
        self.headers.append(dict(request.headers.raw_items()))
        response = None
        if self.refusal is not None:
            status, headers = self.refusal
            response = connection.respond(status, "refused\n")
            response.headers.update(headers)
        elif request.path != "/v1/device":
            response = connection.respond(HTTPStatus.NOT_FOUND, "not here\n")
        await self._notify()
        return response

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.subprotocol is not None
        format = FORMAT_OF_SUBPROTOCOL[connection.subprotocol]
        session = HubDeviceSession(window=self.window)
        try:
            link = await self._greet(connection, session, format)
            while link is not None:
                await self._receive(link, await connection.recv())
        except ConnectionClosed:
            return
        except AssertionError as error:
            self.problems.append(str(error))
            raise
        except WireError as error:
            await self._refuse(connection, format, device.Error(error.code, error.message, expected=error.seq))
        finally:
            session.close()
            for name, other in list(self.links.items()):
                if other.connection is connection:
                    del self.links[name]
            await self._notify()

    async def _greet(self, connection: ServerConnection, session: HubDeviceSession, format: Format) -> Link | None:
        hello = AGENT_MESSAGES[format].decode(await connection.recv())
        session.receive(hello)
        assert isinstance(hello, device.Hello)
        self.hellos.append(hello)
        await self._notify()
        if isinstance(self.greeting, device.Error):
            await self._refuse(connection, format, self.greeting)
            return None
        if self.greeting is not None:
            await self._send(connection, format, self.greeting)
            await connection.wait_closed()
            return None
        older = self.links.pop(hello.device, None)
        if older is not None:
            older.session.close()
            await self._refuse(older.connection, older.format, device.Error(Code.SUPERSEDED, "a newer connection"))
        mark = self.marks.setdefault((hello.device, hello.epoch), Mark())
        session.welcome(acked=mark.acked, received=mark.received)
        self._declare(hello.metrics)
        if connection.subprotocol in COMMAND_SUBPROTOCOLS:
            self.commands = {command.name: command for command in hello.commands}
            self.settings = {setting.name: setting for setting in hello.settings}
        link = self.links[hello.device] = Link(connection, session, hello, format)
        welcome = device.Welcome("peer", mark.acked, self.window, self.max_batch_bytes, 0, self.retry_ms)
        await self._send(connection, format, welcome)
        if self.desired is not None and hello.settings:
            await self._send(connection, format, self.desired)
        await self._notify()
        return link

    async def _receive(self, link: Link, frame: str | bytes) -> None:
        assert isinstance(frame, str) == (link.format == "json")
        self.frames.append(frame)
        assert len(frame) <= self.max_batch_bytes or not self.is_strict
        message = AGENT_MESSAGES[link.format].decode(frame)
        match message:
            case device.Data() if self.is_unreadable(message):
                raise WireError(Code.BAD_MESSAGE, "this batch cannot be read")
            case device.Data(seq=seq):
                assert set(message.values) <= set(self.metrics), "a metric was not declared"
                await self._append(link, seq, seq, message)
            case device.Gap(from_seq=first, to=last):
                await self._append(link, first, last, message)
            case device.DeviceEvent(seq=seq):
                assert link.connection.subprotocol in EVENT_SUBPROTOCOLS, "the connection has no events"
                await self._append(link, seq, seq, message)
            case device.Refused(seq=seq):
                assert link.connection.subprotocol in PARTIAL_SUBPROTOCOLS, "the connection has no reports"
                await self._append(link, seq, seq, message)
            case _:
                link.session.receive(message)
                if isinstance(message, device.Declare):
                    self._declare(message.metrics)
                    self.commands.update((command.name, command) for command in message.commands)
                    self.settings.update((setting.name, setting) for setting in message.settings)
                if isinstance(message, device.Reported):
                    assert link.connection.subprotocol in COMMAND_SUBPROTOCOLS, "the connection has no settings"
                    self.reported.append(message)
                if isinstance(message, device.CommandState):
                    assert link.connection.subprotocol in COMMAND_SUBPROTOCOLS, "the connection has no commands"
                    self.command_states.append(message)
                    if self.records_commands:
                        recorded = device.CommandRecorded(message.id, message.state)
                        await self._send(link.connection, link.format, recorded)
                if isinstance(message, device.TimeReply):
                    self.time_replies.append(message)
                if isinstance(message, device.Status):
                    assert link.connection.subprotocol in STATUS_SUBPROTOCOLS, "the connection has no status"
                    self.statuses.append(message)
        await self._notify()

    async def _append(
        self, link: Link, first: int, last: int, message: device.Data | device.Gap | device.Refused | device.DeviceEvent
    ) -> None:
        hello, session = link.hello, link.session
        received = session.received
        if not session.receive_batches(first, last):
            self.duplicates += 1
            await self._send(link.connection, link.format, device.Ack(session.acked)) if session.acked else None
            return
        self.marks[hello.device, hello.epoch].received = last
        self._pending.append(Accepted(hello.device, hello.epoch, max(first, received + 1), last, message))
        if isinstance(message, device.Data) and (reason := self.rejects(message)) is not None:
            reject = reason if isinstance(reason, device.Reject) else device.Reject(first, reason, "not wanted")
            await self._send(link.connection, link.format, reject)
        if not self._held:
            await self._commit()

    async def _commit(self) -> None:
        pending, self._pending = self._pending, []
        self.journal += pending
        for entry in pending:
            self.marks[entry.device, entry.epoch].acked = entry.last
        for name, last in {(entry.device, entry.epoch): entry.last for entry in pending}.items():
            link = self.links.get(name[0])
            if link is not None and link.hello.epoch == name[1] and (ack := link.session.commit(last)) is not None:
                await self._send(link.connection, link.format, ack)
        await self._notify()

    def _declare(self, metrics: list[Metric]) -> None:
        self.metrics.update((metric.name, metric) for metric in metrics)

    async def _refuse(self, connection: ServerConnection, format: Format, error: device.Error) -> None:
        await self._send(connection, format, error)
        await connection.close(CLOSE_FOR_CODE.get(error.code, Close.BAD_MESSAGE))

    async def _send(self, connection: ServerConnection, format: Format, message: device.HubMessage) -> None:
        with contextlib.suppress(ConnectionClosed):  # the reader of the connection reports it
            await connection.send(HUB_MESSAGES[format].encode(message), text=format == "json")

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


QUICK = Surroundings(max_delay_ms=20)
"""Surroundings in which an agent reconnects at once."""


def agent_of(peer: Peer, **options: Any) -> Agent:
    """Return an agent of the peer; fields of AgentOptions may be given by name."""
    details = {name: options.pop(name) for name in AgentOptions._fields if name in options}
    return Agent(
        peer.url, **{"device": "boiler-1", "surroundings": QUICK, "options": AgentOptions(**details), **options}
    )
