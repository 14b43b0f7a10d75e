"""The WebSocket endpoint of any client, /v1/plain: frames in any format of `formats`, one answer for each.

A plain ASGI callable that receives each message by a direct call, as that of agents. docs/plain.md has the rules.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import structlog
from msgspec import Meta
from starlette.types import Receive, Scope, Send

from formats.json_text import parse_lenient
from formats.names import legal_device
from formats.record import FrameRefused
from formats.rules import RulesError
from hub.http.access import offered_subprotocols
from hub.http.authenticator import Authenticator
from hub.http.connections import Connections
from hub.http.device_endpoint import why_closed
from hub.http.input_query import InputQuery, read_query
from hub.http.plain_commands import PlainCommandLink, PlainCommands, command_content
from hub.http.refusals import RefusalCause, RequestRefused
from hub.http.server import upgrade_response
from hub.http.websocket import EXTENSION, DirectWebSocket
from hub.ingest.foreign_readings import ForeignReadings, Presence, is_temporary
from hub.ingest.input_reader import FrameSource, InputFrame, is_short, without_tokens
from hub.ingest.line_writer import LineSource
from hub.ingest.stored_frame import FrameDenied, StoredFrame
from hub.model.identity import Action, Identity, Role
from wire import limits
from wire.errors import CLOSE_FOR_CODE, Close, Code, WireError
from wire.plain import SUBPROTOCOL, CommandFrame, NotStored, Recorded, Stored, encode

PLAIN_INPUT = "plain"
"""Name of the input: in the fleet, in events and in quarantine entries."""

CLOSING_S = 5.0
"""A client that does not read its last answers is disconnected after this time."""

MAX_UNANSWERED = limits.DEFAULT_WINDOW
"""Frames of one connection that wait for their answer, or whose answers wait for the client to read. At this bound the
connection is not read, except for the rest of one read."""

SETTINGS = frozenset({"token", "device"})
"""Fields that the first frame can have beside readings."""

REPORTED = frozenset({RefusalCause.NOT_AUTHENTICATED, RefusalCause.TOO_MANY_FAILURES})
"""Refusals that the Authenticator has counted and logged."""

_NO_TOKEN = (
    "no valid token: send it as Authorization: Bearer, as the subprotocol token.TOKEN beside telemetry.plain, or in "
    'the first frame as {"token": "…"}; `hub token create --role device --device ID` makes one'
)

log = structlog.get_logger(__name__)


class PlainQuery(InputQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of /v1/plain: the rules of its frames, and whether they are answered."""

    ack: Annotated[Literal["each", "none"], Meta(description="`none`: the client never reads.")] = "each"


class PlainInput(NamedTuple):
    """An input as the query of a handshake describes it.

    `name` is shown in the fleet. `device` is the template of the rules, "" for none. `source` returns the reader of the
    frames of a credential, with a device for records that name none.
    """

    name: str
    device: str
    has_answers: bool
    source: Callable[[Identity, str], FrameSource | LineSource]


def plain_input(readings: ForeignReadings, query_string: bytes) -> PlainInput:
    """Return the input of /v1/plain. Raises RulesError."""
    query = read_query(query_string, PlainQuery)
    rules = query.rules()
    return PlainInput(
        PLAIN_INPUT,
        rules.device,
        query.ack == "each",
        lambda identity, device: readings.reader(identity, rules, PLAIN_INPUT, device=device).source(),
    )


@dataclass(frozen=True)
class PlainEndpoint:
    """Serves plain clients at /v1/plain, and others whose frames `open_input` reads by the query of their handshake."""

    readings: ForeignReadings
    connections: Connections
    authenticator: Authenticator
    clock: Callable[[], int]
    open_input: Callable[[bytes], PlainInput]
    commands: PlainCommands | None = None
    """The commands of devices; None if clients of this endpoint get none."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client, from the upgrade to the close."""
        await receive()
        try:
            opening = await self._open(scope)
        except RequestRefused as refused:
            if refused.reason not in REPORTED:
                self.authenticator.refusals.report_scope(scope, refused)
            status = HTTPStatus.TOO_MANY_REQUESTS if refused.code is Code.BUSY else refused.status
            await upgrade_response(status, refused.message, refused.headers)(scope, receive, send)
            return
        direct: DirectWebSocket = scope["extensions"][EXTENSION]
        connection = PlainConnection(self, scope, direct, send, opening.input)
        self.connections.add(connection, scope, direct, opening.identity)
        why = "the hub stopped"
        try:
            connection.begin(opening.identity)
            direct.attach(connection.receive)
            await send({"type": "websocket.accept", "subprotocol": opening.subprotocol})
            connection.opened()
            while (event := await receive())["type"] == "websocket.receive":
                # Only messages that a client sends before its upgrade is answered arrive here.
                text = event.get("text")
                connection.receive(event["bytes"] if text is None else text.encode(), text is not None)
            why = why_closed(event, "client")
        finally:
            self.connections.remove(connection)
            await connection.close(why)

    async def _open(self, scope: Scope) -> _Opening:
        """Return what the head of the handshake says. Raises RequestRefused."""
        offered = offered_subprotocols(scope)
        if scope["subprotocols"] and SUBPROTOCOL not in offered:
            raise RequestRefused(
                RefusalCause.WRONG_SUBPROTOCOL,
                f"subprotocol spoken here: {SUBPROTOCOL}",
                f"offer {SUBPROTOCOL}, beside token.TOKEN if there is one",
                status=HTTPStatus.BAD_REQUEST,
            )
        try:
            opened = self.open_input(scope["query_string"])
        except RulesError as error:
            raise RequestRefused(
                RefusalCause.BAD_REQUEST, str(error), "correct the query", status=HTTPStatus.BAD_REQUEST
            ) from None
        credential = self.authenticator.access.credential(scope)
        identity = None
        # A browser sends the cookie with every handshake. It is no credential of a device.
        if credential is not None and credential.kind == "token":
            identity = await self.authenticator.identify(scope)
            if identity is None:
                raise RequestRefused(
                    RefusalCause.NOT_AUTHENTICATED,
                    "the token is not valid",
                    "create one: `hub token create --role device --device ID`",
                    status=HTTPStatus.UNAUTHORIZED,
                    headers={"WWW-Authenticate": "Bearer"},
                )
            if not identity.may(Action.WRITE):
                raise RequestRefused(
                    RefusalCause.NOT_ALLOWED,
                    f"a token of role {identity.role} may not write",
                    "use a token of role device or gateway",
                    status=HTTPStatus.FORBIDDEN,
                )
        return _Opening(identity, opened, SUBPROTOCOL if offered else None)


class _Opening(NamedTuple):
    """The head of a handshake: the owner of its token, None without one; its input; the subprotocol to answer."""

    identity: Identity | None
    input: PlainInput
    subprotocol: str | None


@dataclass(slots=True, eq=False)
class PlainConnection:
    """One connection: its frames are read and stored one after the other, and answered in their order.

    Frames that arrive while the first one waits for its token, or for room, are kept: at most what one read returns.
    """

    endpoint: PlainEndpoint
    scope: Scope
    direct: DirectWebSocket
    transmit: Send
    input: PlainInput
    presence: Presence = field(init=False)
    identity: Identity | None = None
    source: FrameSource | LineSource | None = None
    link: PlainCommandLink | None = None
    is_first: bool = True
    ending: WireError | None = None
    # Frames without an answer yet, in their order.
    unanswered: deque[asyncio.Future[StoredFrame] | bytes] = field(default_factory=deque)
    behind: deque[tuple[bytes, bool]] = field(default_factory=deque)
    step: asyncio.Task[None] | None = None
    sending: asyncio.Task[None] | None = None
    token_timer: asyncio.TimerHandle | None = None
    cut: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.presence = Presence(self.input.name)
        if self.endpoint.commands is not None:
            self.link = PlainCommandLink(self.endpoint.commands, self._answer, self.input.has_answers)

    def begin(self, identity: Identity | None) -> None:
        """Begin with the owner of the token in the head of the handshake, or wait for the token."""
        if identity is not None:
            self._admit(identity)
            return
        error = WireError(Code.NOT_AUTHENTICATED, f"no token within {limits.AUTHENTICATION_SECONDS:g} s")
        self.token_timer = asyncio.get_running_loop().call_later(limits.AUTHENTICATION_SECONDS, self.end, error)

    def opened(self) -> None:
        """Continue after the upgrade was answered: the connection may have been ended before."""
        if self.ending is not None:
            self._answered(None)

    # Receiving.

    def receive(self, payload: bytes, is_text: bool) -> None:
        """Process one frame, or keep it until the ones before are processed."""
        if self.step is not None:
            self.behind.append((payload, is_text))
            return
        if self._process(payload, is_text):
            return
        self.behind.append((payload, is_text))
        self.direct.hold()
        self.step = asyncio.get_running_loop().create_task(self._continue())

    def _process(self, payload: bytes, is_text: bool) -> bool:
        """Process a frame; return False if it has to wait."""
        if self.ending is not None:
            return True
        if is_text and not payload.isascii() and not _is_utf8(payload):
            self.direct.refuse_text()
            return True
        if self.is_first or self.source is None or self.endpoint.readings.congested:
            return False
        if len(self.unanswered) >= MAX_UNANSWERED or not is_short(payload):
            return False
        if self._command_in(payload) is not None:
            return False
        self._store(self.source.read(payload, self.endpoint.clock()))
        return True

    async def _continue(self) -> None:
        """Process the frames that wait."""
        try:
            while self.behind:
                payload, is_text = self.behind[0]
                if self.is_first and self.ending is None:
                    self.is_first = False
                    readings = await self._begin_with(payload)
                    if readings is None:
                        self.behind.popleft()
                        continue
                    payload = readings
                await self.endpoint.readings.room()
                while len(self.unanswered) >= MAX_UNANSWERED and self.ending is None:
                    await self._progress()
                command = self._command_in(payload)
                if command is not None and self.ending is None:
                    await self._receive_command(command)
                elif not self._process(payload, is_text) and self.source is not None:
                    self._store(await self.source.read_in_turns(payload, self.endpoint.clock()))
                self.behind.popleft()
        except WireError as error:
            self.end(error)
        except Exception:
            # A defect of the hub ends the connection that met it, and no other.
            log.exception("plain connection failed")
            self.direct.transport.abort()
        finally:
            self.step = None
            self.behind.clear()
            self.direct.release()

    def _command_in(self, payload: bytes) -> dict[str, Any] | WireError | None:
        """Return the content of a frame about commands; None for every other frame."""
        return None if self.link is None else command_content(payload, is_declared=self.link.is_declared)

    async def _receive_command(self, content: dict[str, Any] | WireError) -> None:
        """Process a frame about commands, and answer it when it is durable."""
        link, source = self.link, self.source
        assert link is not None
        assert source is not None
        try:
            if isinstance(content, WireError):
                raise content
            if "commands" not in content:
                self._answer(await link.report(content))
                return
            self._answer(
                await link.declare(
                    content, lambda: self.endpoint.readings.attach(source.reader, link.device, self.presence)
                )
            )
        except WireError as error:
            self._answer(NotStored(error.code.value, error.message))
            return
        if self.ending is None:
            link.open()

    async def _progress(self) -> None:
        """Wait until the oldest unanswered frame has its result, and the client has read what is sent."""
        oldest = self.unanswered[0]
        if isinstance(oldest, asyncio.Future):
            await asyncio.wait([oldest])
        if self.sending is not None:
            await asyncio.wait([self.sending])
        await asyncio.sleep(0)

    async def _begin_with(self, payload: bytes) -> bytes | None:
        """Read the token in the first frame; return its readings, None if it has none.

        A frame with nothing else names the device of records that name none. Raises WireError without a valid token.
        """
        content = _settings_in(payload, is_lenient=self.identity is None)
        token = content.pop("token", None)
        if self.identity is None:
            await self._authenticate(token)
        assert self.identity is not None
        if self.link is not None and isinstance(content.get("commands"), list):
            device = content.pop("device", "")
            if isinstance(device, str) and device:
                self._open_source(device)
            is_wrong = isinstance(command_content(payload, is_declared=False), WireError)
            return payload if is_wrong else msgspec.json.encode(content)
        if content.keys() <= {"device"}:
            device = content.get("device", "")
            if isinstance(device, str) and (device or token is not None):
                self._open_source(device)
                self._answer(Stored(0))
                return None
        # The reader takes a token of the hub out, and reads the rest as it reads every frame.
        is_kept = token is None or without_tokens(payload) != payload
        return payload if is_kept else msgspec.json.encode(content)

    async def _authenticate(self, token: object) -> None:
        identity = None
        if isinstance(token, str) and len(token) <= limits.MAX_TOKEN:
            try:
                identity = await self.endpoint.authenticator.identify_token(self.scope, token)
            except RequestRefused as refused:
                raise WireError(refused.code, refused.message) from None
        if identity is None:
            raise WireError(Code.NOT_AUTHENTICATED, _NO_TOKEN)
        if not identity.may(Action.WRITE):
            raise WireError(
                Code.NOT_ALLOWED,
                f"a token of role {identity.role} may not write: use a token of role device or gateway",
            )
        self.endpoint.connections.authenticate(self, identity)
        self._admit(identity)

    def _admit(self, identity: Identity) -> None:
        if self.token_timer is not None:
            self.token_timer.cancel()
            self.token_timer = None
        self.identity = identity
        # The headers are not needed any more, and would be kept as long as the connection: about 1 kB.
        self.scope["headers"] = self.scope["subprotocols"] = []
        self._open_source()

    def _open_source(self, device: str = "") -> None:
        """Read frames from now on, with a device for records that name none. A device that is known is present."""
        identity = self.identity
        assert identity is not None
        self.source = self.input.source(identity, device)
        device = self.input.device or device or (identity.pattern if identity.role is Role.DEVICE else "")
        if device and "{" not in device and identity.may_write(legal_device(device)):
            self.endpoint.readings.attach(self.source.reader, legal_device(device), self.presence)
            if self.link is not None:
                self.link.device = legal_device(device)

    def _store(self, frame: InputFrame) -> None:
        done = self.endpoint.readings.submit(frame, self.presence, keeps_denied=True)
        self.unanswered.append(done)
        done.add_done_callback(self._answered)

    # Sending.

    def _answer(self, answer: Stored | NotStored | Recorded | CommandFrame) -> None:
        self.unanswered.append(encode(answer))
        self._answered(None)

    def _answered(self, done: asyncio.Future[StoredFrame] | None) -> None:
        """Send the answers of the oldest frames, as far as they are known and the client reads; then the end."""
        if done is not None and not done.cancelled():
            done.exception()  # marks it as seen, also after the connection has ended
        if self.sending is not None:
            return
        try:
            answers = self._ready()
            is_sent = not (answers and self.input.has_answers) or self.direct.write_all(answers)
        except Exception:
            # A defect of the hub. The client would wait for an answer without end.
            log.exception("answer of a plain connection failed")
            self.direct.transport.abort()
            return
        if not is_sent or (self.ending is not None and not self.unanswered):
            self.sending = asyncio.get_running_loop().create_task(self._send([] if is_sent else answers))

    def _ready(self) -> list[bytes]:
        """Remove and return the answers that can be sent."""
        answers = []
        while self.unanswered:
            oldest = self.unanswered[0]
            if isinstance(oldest, bytes):
                answers.append(oldest)
            elif oldest.done():
                answers.append(self._answer_of(oldest))
            else:
                break
            self.unanswered.popleft()
        return answers

    def _answer_of(self, done: asyncio.Future[StoredFrame]) -> bytes:
        error = done.exception()
        if error is None:
            return encode(answer_to(done.result()))
        assert isinstance(error, WireError)
        if not self.input.has_answers and is_temporary(error):
            # The client does not read. The end of the connection is the only sign that it can get.
            self.end(error)
        refused = error.refused if isinstance(error, FrameDenied) else ()
        return encode(NotStored(error.code.value, error.message, refused))

    async def _send(self, answers: list[bytes]) -> None:
        """Send answers as fast as the client reads, and then the end, if it was requested."""
        try:
            while answers and self.direct.is_open:
                for answer in answers:
                    await self.transmit({"type": "websocket.send", "text": answer.decode()})
                answers = self._ready() if self.input.has_answers else []
            if self.ending is not None and not self.unanswered and self.direct.is_open:
                await self._send_end(self.ending)
        except OSError:
            # The peer has disconnected (uvicorn raises ClientDisconnected, an OSError); the reader sees it too.
            pass
        finally:
            self.sending = None

    async def _send_end(self, error: WireError) -> None:
        if self.input.has_answers:
            text = encode(NotStored(error.code.value, error.message)).decode()
            await self.transmit({"type": "websocket.send", "text": text})
        if self.direct.is_open:
            code = CLOSE_FOR_CODE.get(error.code, Close.INTERNAL_ERROR)
            await self.transmit({"type": "websocket.close", "code": int(code), "reason": error.code.value})

    # The end.

    def end(self, error: WireError) -> None:
        """Answer the frames that are being stored, send the error, and close with its close code."""
        if self.ending is None:
            self.ending = error
            if self.link is not None:
                self.link.close()
            self.cut = asyncio.get_running_loop().call_later(CLOSING_S, self.direct.transport.abort)
            asyncio.get_running_loop().call_soon(self._answered, None)

    async def close(self, why: str) -> None:
        """Wait until everything is sent, at most CLOSING_S; the devices of the connection are no longer present."""
        for timer in (self.token_timer, self.cut):
            if timer is not None:
                timer.cancel()
        tasks = [task for task in (self.step, self.sending) if task is not None]
        if self.step is not None:
            self.step.cancel()
        if self.link is not None:
            self.link.close()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSING_S)
        if self.sending is not None:
            self.sending.cancel()
        self.endpoint.readings.detach(self.presence, why)
        # The frames that are being stored refer to the connection.
        self.unanswered.clear()


def answer_to(stored: StoredFrame) -> Stored | NotStored:
    """Return the answer to a frame that is durable: its readings, and what is in quarantine."""
    if stored.readings or not stored.refused_count:
        return Stored(stored.readings, stored.refused)
    return NotStored(*stored.reason, stored.refused)


def _settings_in(payload: bytes, *, is_lenient: bool) -> dict[str, Any]:
    """Return the first frame if it is a JSON object with one of SETTINGS, else an empty object.

    Lenient reading finds the token of a short frame with a number that is too large, which costs itself.
    """
    if b'"token"' not in payload and b'"device"' not in payload:
        return {}
    try:
        content = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        if not (is_lenient and is_short(payload)):
            return {}
        try:
            content = parse_lenient(payload)
        except FrameRefused:
            return {}
    return content if isinstance(content, dict) and not SETTINGS.isdisjoint(content) else {}


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
