"""Upload of the batches of a file to the hub: slice by slice, over a bounded number of connections."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Self

from agent_client.client import Client, ClientStopped, ConnectFailed, Surroundings, connect
from agent_client.endpoint import AddressError, Endpoint, device_url
from agent_client.reconnect import Ending, Pace, pace_of
from agent_client.session import Frame
from agent_client.tls import ClientTls
from importer.batching import FileBatch, encode
from importer.records import MappingError, UploadError
from importer.survey import FileSurvey
from wire import device as messages
from wire.device_session import AgentDeviceSession
from wire.errors import CLOSE_FOR_CODE, Close, Code
from wire.model import Metric

MAX_CONNECTIONS = 256
"""Connected devices at a time. With more devices in a file they alternate: each change costs the hub a hello."""

MAX_DELAY_MS = 5000
"""Longest delay before a reconnect; a person waits for the import."""


class UploadTarget(NamedTuple):
    """The hub, and the name of this program in its log."""

    endpoint: Endpoint
    name: str

    @classmethod
    def at(cls, url: str, token: str, name: str, tls: ClientTls | None = None) -> UploadTarget:
        """Return the target for a hub's URL. Raises MappingError for anything else."""
        try:
            return cls(Endpoint(device_url(url), token, tls=tls), name)
        except AddressError as error:
            raise MappingError(str(error)) from None


class Interrupted(Exception):
    """The hub cannot be reached at the moment; trying again may help."""


class UploadEvents(NamedTuple):
    """Callbacks of an upload.

    `stored`: this many readings are on the hub's disk, and whether they were there before this run. `rejected`: the hub
    put this batch in quarantine. `trouble`: the reason why the upload waits, "" when it continues.
    """

    stored: Callable[[int, bool], None]
    rejected: Callable[[FileBatch, messages.Reject], None]
    trouble: Callable[[str], None]


class DeviceUpload:
    """Outbox of one device's batches of a file, and the client that sends them. Close it at the end.

    `acked` is the highest number that the hub acknowledged, None before the first welcome; `acked_before` is what the
    first welcome said. `client` is the running client.
    """

    revision = 0

    def __init__(self, target: UploadTarget, survey: FileSurvey, device: str, events: UploadEvents) -> None:
        self.acked: int | None = None
        self.acked_before = 0
        self.metrics: Mapping[str, Metric] = {metric.name: metric for metric in survey.metrics[device]}
        self._target = target
        self._device = device
        self._types = survey.types(device)
        self._hello = messages.Hello(
            device, survey.epoch, survey.numbering.batches[device] + 1, True, 0, agent=target.name, guest=True
        )
        self._events = events
        self._batches: Sequence[FileBatch] = ()
        self._frames: list[Frame] = []
        self._changed = asyncio.Event()
        self.status_changed = asyncio.Event()
        self.client: asyncio.Task[None] | None = None

    async def deliver(self, batches: Sequence[FileBatch]) -> None:
        """Send batches that follow the last ones; return when all are acknowledged. Raises UploadError."""
        last = batches[-1].seq
        if self.acked is not None and self.acked >= last:
            return
        self._batches = batches
        self._frames = [Frame(batch.seq, encode(batch, self._types), batch.readings) for batch in batches]
        self._wake()
        try:
            if self.client is None:
                self.client = asyncio.create_task(self._run())
            while self.acked is None or self.acked < last:
                if self.client.done():
                    self.client.result()
                await self._changed.wait()
        except BaseException:
            # Also when it is cancelled: a connection cannot be used again in the middle of a slice.
            await self.close()
            raise

    async def close(self) -> None:
        """Stop the client and close its connection."""
        client, self.client = self.client, None
        if client is not None:
            client.cancel()
            with suppress(asyncio.CancelledError, UploadError):
                await client

    async def _run(self) -> None:
        client = Client(
            self._target.endpoint,
            self,
            name=self._target.name,
            on_wait=lambda ending, delay_s, attempt: self._events.trouble(ending.reason),
            surroundings=Surroundings(max_delay_ms=MAX_DELAY_MS),
        )
        try:
            await client.run()
        except ClientStopped as stopped:
            raise UploadError(str(stopped)) from None
        finally:
            self._wake()

    @property
    def commands(self) -> None:
        """None: a file executes no commands."""

    def hello(self) -> messages.Hello:
        return self._hello

    def status(self) -> None:
        """Return None: a file has no sources, and its import reports its progress itself."""

    async def connected(self, session: AgentDeviceSession) -> None:
        if self.acked is None:
            self.acked_before = session.acked
        self._events.trouble("")
        self.acknowledged(session.acked)

    async def read(self, session: AgentDeviceSession) -> Sequence[Frame]:
        while not self._frames or session.sent >= self._frames[-1].seq:
            await self._changed.wait()
        position = session.sent + 1 - self._frames[0].seq
        if position < 0:
            raise UploadError(
                f"the hub holds {self._device} up to batch {session.sent} only, and held more before: was it restored "
                "from a copy? Run the same command again to send the missing batches"
            )
        return self._frames[position : position + session.room]

    def transmitted(self, frame: Frame) -> None:
        """Do nothing: the import counts acknowledgements only."""

    def acknowledged(self, acked: int) -> None:
        self.acked = acked
        self._wake()

    def rejected(self, reject: messages.Reject) -> None:
        for batch in self._batches:
            if batch.seq == reject.seq:
                self._events.rejected(batch, reject)

    async def disconnected(self, ending: Ending) -> Ending:
        _check_retry(ending)
        # As a guest the import waits until the device itself is gone; an agent would stop here.
        return ending._replace(error=None) if ending.error is Code.SUPERSEDED else ending

    def _wake(self) -> None:
        self._changed.set()
        self._changed.clear()


class Upload:
    """The upload of one file; an async context manager that closes its connections."""

    def __init__(self, target: UploadTarget, survey: FileSurvey, events: UploadEvents) -> None:
        self._target = target
        self._survey = survey
        self._events = events
        self._devices: dict[str, DeviceUpload] = {}
        self._idle: OrderedDict[str, DeviceUpload] = OrderedDict()
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._busy = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.gather(*(device.close() for device in self._devices.values()))

    async def run(self) -> None:
        """Send the whole file; return when all is acknowledged. Waits for a hub that is down. Raises ImportingError."""
        slices = self._survey.batches()

        def parse_next() -> asyncio.Task[list[list[FileBatch]] | None]:
            return asyncio.create_task(asyncio.to_thread(lambda: next(slices, None)))

        following = parse_next()
        try:
            # Shielded: a thread cannot be stopped in the middle, so a cancelled run waits for it below.
            while (batches := await asyncio.shield(following)) is not None:
                # The next slice is parsed while this one is sent.
                following = parse_next()
                await self._send(batches)
        finally:
            # A slice takes the thread a second or two.
            await asyncio.wait([following])
            if following.exception() is None:
                slices.close()

    async def _send(self, batches_of_devices: Sequence[Sequence[FileBatch]]) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for batches in batches_of_devices:
                    tasks.create_task(self._deliver(batches))
        except ExceptionGroup as group:
            # One reason is enough to stop; the others are mostly the same.
            raise group.exceptions[0] from None

    async def _deliver(self, batches: Sequence[FileBatch]) -> None:
        name = batches[0].device
        async with self._slots:
            self._busy += 1
            try:
                device = await self._connection_for(name)
                await device.deliver(batches)
            finally:
                self._busy -= 1
            if device.client is not None:
                self._idle[name] = device
        for batch in batches:
            self._events.stored(batch.readings, batch.seq <= device.acked_before)

    async def _connection_for(self, name: str) -> DeviceUpload:
        """Return the device's upload; close the longest idle connections where there are too many."""
        if name not in self._devices:
            self._devices[name] = DeviceUpload(self._target, self._survey, name, self._events)
        self._idle.pop(name, None)
        while self._idle and len(self._idle) + self._busy > MAX_CONNECTIONS:
            _, oldest = self._idle.popitem(last=False)
            await oldest.close()
        return self._devices[name]


async def check(target: UploadTarget) -> None:
    """Check that the hub is up and accepts the token. Raises Interrupted and UploadError."""
    try:
        connection = await connect(target.endpoint, name=target.name)
    except ConnectFailed as failure:
        _check_retry(failure.ending)
        raise Interrupted(failure.ending.reason) from None
    await connection.close()


def _check_retry(ending: Ending) -> None:
    """Raise UploadError when trying again would not help this import."""
    is_invalid = ending.error is not None and CLOSE_FOR_CODE.get(ending.error) is Close.BAD_MESSAGE
    if ending.error is not Code.SUPERSEDED and (is_invalid or pace_of(ending) is not Pace.USUAL):
        raise UploadError(ending.reason)
