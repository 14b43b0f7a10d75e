"""A device that is a WebSocket server: the source connects to it and reads its messages."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from agent_client.tls import ClientTls, TlsFileError, system_tls
from agent_client.websocket import UNREADABLE, BoundedConnection, ConnectWithoutRedirect, UpgradeRefused
from device_agent.sources.connection import Connection, ConnectionSource, PeerReader, SourceUnavailable
from device_agent.sources.line_report import LineReport
from device_agent.sources.lines import MAX_MESSAGE_BYTES, ForeignSettings
from device_agent.sources.network import network_reason
from device_agent.sources.settings import Seconds, SourceContext

OPEN_SECONDS = 10.0
"""Longest time for the connection and the upgrade."""

CLOSE_SECONDS = 0.5
"""Longest time for the closing handshake. Nothing is lost without it, and a device that is gone does not answer."""

PING_SECONDS = 20.0
"""Time between pings, and the time to answer one: detects a device that disappeared without closing."""

WAITING_MESSAGES = 4
"""Messages that wait to be read, up to 4 MiB. At this bound the connection is not read, and TCP slows the device."""

_SENTENCES = {
    401: "the device requires credentials: set a header, such as Authorization",
    403: "the device forbids the connection: check the headers and the path of the URL",
    404: "there is no WebSocket at this path of the device: check the URL",
    426: "the device requires another protocol: check the URL",
    503: "the device is busy",
}
"""Causes and remedies of the usual answers that are no upgrade, for people."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""Characters of a header's name and of its value (RFC 9110, 5.5 and 5.6.2)."""

MAX_HEADER_FILE_BYTES = 64 * 1024
"""Size of a file of headers: no server accepts more."""

_log = logging.getLogger(__name__)


class WebSocketSettings(ForeignSettings, frozen=True, kw_only=True):
    """Settings of a device that is a WebSocket server at `url`.

    `send` are messages that are sent first, such as a subscription. `headers` are lines like `Name: value`, and
    `header_file` has more of them, to keep a secret out of the settings. `ca` is a PEM file with the authorities that
    may sign the device's certificate, `pin` one with the certificate itself, whatever name it has. `ping_s` is the time
    between pings, 0 for a device that does not answer them. `silence_s` is the longest time without a message. With
    `stream` the messages are pieces of a stream of lines, cut anywhere.
    """

    url: str
    send: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    header_file: Path | None = None
    subprotocols: tuple[str, ...] = ()
    ca: Path | None = None
    pin: Path | None = None
    ping_s: Annotated[float, Meta(ge=0, le=3600)] = PING_SECONDS
    silence_s: Seconds | None = None
    stream: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.fragment:
            raise ValueError(f"{self.url!r} is not the URL of a WebSocket: write ws://HOST/PATH or wss://HOST/PATH")
        if parts.username is not None:
            raise ValueError("the URL contains a password: set the header Authorization instead")
        parse_headers(self.headers)
        if self.ca is not None and self.pin is not None:
            raise ValueError("ca and pin exclude each other: pin accepts one certificate only")
        if parts.scheme == "ws" and (self.ca or self.pin):
            raise ValueError("ca and pin are for a URL with wss://")

    @property
    def default_name(self) -> str:
        # A query may contain a secret.
        return urlsplit(self.url)._replace(query="").geturl()

    def source(self, context: SourceContext) -> ConnectionSource[Connection]:
        input = self.input(context)
        reader = PeerReader(input, is_message=not self.stream, silence_s=self.silence_s)
        report = LineReport(self.name or self.default_name, input, _log)
        return ConnectionSource(report, reader, partial(connect_websocket, self))

    def problems(self) -> Iterator[tuple[str, str]]:
        try:
            all_headers(self)
            device_tls(self)
        except SourceUnavailable as error:
            yield "url", str(error)


class DeviceConnection(BoundedConnection):
    """Connection to a device, which may send many small messages at once."""

    max_frames_per_read = inf
    peer = "device"


class MessageConnection:
    """Open connection whose messages are read one by one."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> bytes | None:
        """Return the next message; None when the device closed the connection in order. Raises SourceUnavailable."""
        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosedOK:
            return None
        except ConnectionClosed as error:
            raise SourceUnavailable(_closed(error)) from None


@asynccontextmanager
async def connect_websocket(settings: WebSocketSettings, report: LineReport) -> AsyncIterator[Connection]:
    """Open a connection, and send the first messages. Raises SourceUnavailable."""
    connection = await _open(settings)
    try:
        try:
            for text in settings.send:
                await connection.send(text)
        except ConnectionClosed as error:
            raise SourceUnavailable(_closed(error)) from None
        yield MessageConnection(connection)
    finally:
        await connection.close()


async def _open(settings: WebSocketSettings) -> ClientConnection:
    headers, tls = all_headers(settings), device_tls(settings)
    try:
        return await ConnectWithoutRedirect(
            settings.url,
            subprotocols=[Subprotocol(name) for name in settings.subprotocols] or None,
            additional_headers=headers,
            proxy=None,
            ssl=tls,
            create_connection=DeviceConnection,
            # A device has no memory to spare, and its messages are short.
            compression=None,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=settings.ping_s or None,
            ping_timeout=settings.ping_s or None,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=WAITING_MESSAGES,
        )
    except UpgradeRefused as refusal:
        status = refusal.answer.status
        sentence = _SENTENCES.get(status, "the device does not answer as a WebSocket: check the URL")
        raise SourceUnavailable(f"{sentence} (HTTP {status})") from None
    except (OSError, InvalidHandshake) as error:
        if tls is not None and isinstance(error, ConnectionResetError | EOFError):
            raise SourceUnavailable("the device ended the start of TLS; is it ws:// instead of wss://?") from None
        raise SourceUnavailable(_failure(error)) from None


def parse_headers(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names and the values of lines like `Name: value`. Raises ValueError, without the value."""
    found = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value.strip()):
            raise ValueError(f"the header {name[:40]!r} is not valid: write Name: value")
        found.append((name, value.strip()))
    return found


def all_headers(settings: WebSocketSettings) -> list[tuple[str, str]]:
    """Return the headers of the settings and of their file. Raises SourceUnavailable."""
    path = settings.header_file
    try:
        lines: list[str] = []
        if path is not None:
            with path.open(encoding="utf-8") as file:
                lines = file.read(MAX_HEADER_FILE_BYTES).splitlines()
        return parse_headers([*settings.headers, *(line for line in lines if line.strip())])
    except OSError as error:
        raise SourceUnavailable(f"header_file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SourceUnavailable(f"header_file {path}: {error}") from None


def device_tls(settings: WebSocketSettings) -> ssl.SSLContext | None:
    """Return what the device's certificate is checked with; None without TLS. Raises SourceUnavailable."""
    if not settings.url.startswith("wss:"):
        return None
    if settings.ca is None and settings.pin is None:
        return system_tls().context
    try:
        return ClientTls(settings.ca, pinned=settings.pin).context
    except TlsFileError as error:
        reason = str(error).replace("--ca", "ca", 1).replace("the hub's certificate", "pin", 1)
        raise SourceUnavailable(reason) from None


def _closed(error: ConnectionClosed) -> str:
    if error.rcvd is not None:
        reason = f": {error.rcvd.reason}" if error.rcvd.reason else ""
        return f"the device closed the connection ({error.rcvd.code}){reason}"
    sent = None if error.sent is None else error.sent.code
    if sent == CloseCode.MESSAGE_TOO_BIG:
        return f"the device sent a message of more than {MAX_MESSAGE_BYTES:,} bytes"
    if sent == CloseCode.INTERNAL_ERROR:
        return "the device does not answer pings; if it never does, set ping_s to 0, and silence_s"
    return f"the connection broke: {error.__cause__ or error}"


def _failure(error: OSError | InvalidHandshake) -> str:
    """Return a sentence for a connection that could not be opened."""
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = "give the file of its authority as ca, or its certificate as pin"
        return f"the device's certificate is not accepted ({error.verify_message}); {remedy}"
    if isinstance(error, ssl.SSLError):
        return f"TLS with the device failed ({error.reason}); is it ws:// instead of wss://?"
    if isinstance(error, UNREADABLE):
        return "the device does not answer as a WebSocket: check the URL, and whether it needs wss://"
    return network_reason(error) if isinstance(error, OSError) else str(error)
