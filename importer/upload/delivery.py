"""One device's way to the hub: it connects when there is something to deliver, and again when the connection breaks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from importer.errors import UploadError
from wire import device as messages
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES
from wire.device_session import AgentDeviceSession
from wire.errors import CLOSE_FOR_CODE, RETRYABLE_CLOSES, Close, WireError
from wire.limits import MAX_BATCH_BYTES
from wire.model import Metric

OPEN_SECONDS = 10.0
"""For the connection and the upgrade, and from the hello to the welcome."""

CLOSE_SECONDS = 2.0
"""For the closing handshake; everything that counts is acknowledged by then."""

MAX_HUB_MESSAGE_BYTES = 64 * 1024
"""Largest message taken from a hub; an error with its sentence is under 4 kB."""

DECLARE_BYTES = MAX_BATCH_BYTES // 2
"""Definitions of one message; more are sent in several."""

_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP refusals that pass by themselves. Others (401, 403, 404, …) wait for a person."""

_encode = AGENT_MESSAGES["msgpack"].encode
_decode = HUB_MESSAGES["msgpack"].decode


class Target(NamedTuple):
    """Whom to send to, and as whom: `url` is the device endpoint's."""

    url: str
    token: str
    agent: str


class Consignment(NamedTuple):
    """All of one file for one device: the epoch it goes under, how many batches it is in all, and its metrics."""

    device: str
    epoch: str
    batches: int
    metrics: Sequence[Metric]


class Parcel(NamedTuple):
    """One batch as it is sent."""

    seq: int
    frame: bytes


class Interrupted(Exception):
    """The connection cannot be had, or broke; coming back may help. `retry_ms` is what the hub asked for."""

    def __init__(self, reason: str, retry_ms: int | None = None) -> None:
        super().__init__(reason)
        self.retry_ms = retry_ms


async def open_connection(target: Target) -> ClientConnection:
    """A connection that the hub let in. Raises Interrupted, and UploadError where coming back would not help."""
    try:
        connection = await connect(
            target.url,
            subprotocols=[Subprotocol(messages.PROTOCOL_MSGPACK)],
            additional_headers={"Authorization": f"Bearer {target.token}"},
            user_agent_header=target.agent,
            proxy=None,
            compression=None,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            max_size=MAX_HUB_MESSAGE_BYTES,
        )
    except InvalidStatus as refusal:
        status = refusal.response.status_code
        if status in _PASSING_STATUSES:
            raise Interrupted(f"the hub is busy (HTTP {status})") from None
        told = {401: "the hub does not know this token", 404: "there is no hub under this address"}
        raise UploadError(f"{told.get(status, 'the hub refused the connection')} (HTTP {status})") from None
    except (OSError, InvalidHandshake) as error:
        raise Interrupted(f"{target.url} does not answer: {_reason(error)}") from None
    if connection.subprotocol is None:
        await connection.close()
        raise UploadError(f"what answers at {target.url} does not speak the device protocol")
    return connection


class Delivery:
    """The conversations about one consignment, one connection at a time. Close it in the end.

    `acked` is the highest number that the hub said is on its disk, None before it said anything; `acked_before` what it
    said at first.
    """

    def __init__(
        self, target: Target, consignment: Consignment, *, on_reject: Callable[[messages.Reject], None]
    ) -> None:
        self.acked: int | None = None
        self.acked_before = 0
        self._target = target
        self._consignment = consignment
        self._on_reject = on_reject
        self._connection: ClientConnection | None = None
        self._session = AgentDeviceSession(next_seq=consignment.batches + 1)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    async def deliver(self, parcels: Sequence[Parcel]) -> None:
        """Returns when all of them are acknowledged; they follow those of the last call without a hole.

        Raises Interrupted: then call it again with the same. Raises UploadError where that would not help.
        """
        last = parcels[-1].seq
        if self.acked is not None and self.acked >= last:
            return
        try:
            connection = self._connection or await self._begin()
            session = self._session
            first = parcels[0].seq
            while session.acked < last:
                while session.room > 0 and session.sent < last:
                    seq = session.sent + 1
                    if seq < first:
                        raise UploadError(
                            f"the hub holds {self._consignment.device} up to batch {session.sent} only, and had more: "
                            "was it put back from a copy? Run the same command again, and it gets what it lacks"
                        )
                    session.send(seq, seq)
                    await connection.send(parcels[seq - first].frame)
                await self._hear(connection)
        except ConnectionClosed as closed:
            await self.close()
            said = closed.rcvd
            if said is not None and said.code not in RETRYABLE_CLOSES:
                raise UploadError(f"the hub closed the connection ({said.code} {said.reason})") from None
            raise Interrupted(f"the connection to the hub broke: {closed}") from None
        except WireError as error:
            await self.close()
            raise UploadError(f"the conversation about {self._consignment.device} failed: {error}") from None
        except BaseException:
            # Also when it is cancelled: a conversation that was left in the middle cannot be gone on with.
            await self.close()
            raise

    async def close(self) -> None:
        """Ends the connection."""
        connection, self._connection = self._connection, None
        self._session.close()
        if connection is not None:
            with suppress(OSError):
                await connection.close()

    async def _begin(self) -> ClientConnection:
        """Connection, hello and welcome."""
        connection = self._connection = await open_connection(self._target)
        device, epoch, batches, metrics = self._consignment
        self._session = AgentDeviceSession(next_seq=batches + 1)
        first, *others = _portions(metrics)
        await connection.send(
            _encode(
                messages.Hello(
                    device,
                    epoch,
                    batches + 1,
                    True,
                    time.time_ns(),
                    metrics=first,
                    agent=self._target.agent,
                    guest=True,
                )
            )
        )
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                while self._session.window == 0:
                    await self._hear(connection)
        except TimeoutError:
            raise Interrupted("the hub did not answer the hello") from None
        for portion in others:
            await connection.send(_encode(messages.Declare(portion)))
        return connection

    async def _hear(self, connection: ClientConnection) -> None:
        """Takes in one message of the hub, and answers it where it wants an answer."""
        message = _decode(await connection.recv(decode=False))
        self._session.receive(message)
        match message:
            case messages.Welcome(acked=acked):
                if self.acked is None:
                    self.acked_before = acked
                self.acked = acked
            case messages.Ack():
                self.acked = self._session.acked
            case messages.TimeProbe(hub_time=hub_time):
                await connection.send(_encode(messages.TimeReply(hub_time, time.time_ns())))
            case messages.Reject() as reject:
                self._on_reject(reject)
            case messages.Error() as error:
                close = CLOSE_FOR_CODE.get(error.code, Close.INTERNAL_ERROR)
                # Superseded: the device itself came; as a guest this waits until it is gone.
                if close is Close.SUPERSEDED or (close in RETRYABLE_CLOSES and close is not Close.BAD_MESSAGE):
                    raise Interrupted(error.message, error.retry_ms)
                raise UploadError(f"{error.message} ({error.code})")


def _portions(metrics: Sequence[Metric]) -> list[list[Metric]]:
    """The definitions in lists that each fit into a message; at least one list."""
    portions: list[list[Metric]] = [[]]
    size = 0
    for metric in metrics:
        weight = len(_encode(messages.Declare([metric])))
        if portions[-1] and size + weight > DECLARE_BYTES:
            portions.append([])
            size = 0
        portions[-1].append(metric)
        size += weight
    return portions


def _reason(error: Exception) -> str:
    # asyncio has words of its own for a connection that is refused, with the address once more.
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
