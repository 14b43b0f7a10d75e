"""Takes the batches of a file to the hub, slice by slice: a bounded number of devices at a time, for as long as it
takes."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from importer.batching import Batch, encode
from importer.survey import Survey
from importer.upload.delivery import Consignment, Delivery, Interrupted, Parcel, Target, open_connection
from wire import device as messages

MAX_CONNECTIONS = 256
"""Devices that are connected at a time. More, mixed in one file, take turns: each change costs the hub a hello."""

FIRST_DELAY_S = 1.0
MAX_DELAY_S = 5.0
"""Bounds of the delays before coming back: the first, and the longest after they have doubled again and again."""

T = TypeVar("T")


class Events(NamedTuple):
    """Who is told: of readings that are on the hub's disk now (how many; and whether they were there before this run),
    of a batch that the hub put in quarantine, of trouble that is waited for ("" when it is over)."""

    stored: Callable[[int, bool], None]
    rejected: Callable[[Batch, messages.Reject], None]
    trouble: Callable[[str], None]


class Upload:
    """The upload of one file; an async context manager that closes its connections."""

    def __init__(self, target: Target, survey: Survey, events: Events) -> None:
        self._target = target
        self._survey = survey
        self._events = events
        self._epoch = survey.epoch
        self._deliveries: dict[str, Delivery] = {}
        self._resting: OrderedDict[str, Delivery] = OrderedDict()
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)
        self._busy = 0
        self._under_way: dict[tuple[str, int], Batch] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.gather(*(delivery.close() for delivery in self._deliveries.values()))

    async def run(self) -> None:
        """Returns when all of the file is acknowledged. Waits for a hub that is away. Raises ImportingError."""
        portions = self._survey.batches()
        ahead = asyncio.create_task(_next(portions))
        try:
            # Shielded: a thread cannot be stopped in the middle, and who is cancelled here has to wait for it below.
            while (portion := await asyncio.shield(ahead)) is not None:
                # The next slice is parsed while this one is on its way.
                ahead = asyncio.create_task(_next(portions))
                await self._send(portion)
        finally:
            # A slice takes the thread a second or two.
            await asyncio.wait([ahead])
            if ahead.exception() is None:
                portions.close()

    async def _send(self, portion: Sequence[Sequence[Batch]]) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for batches in portion:
                    tasks.create_task(self._deliver(batches))
        except ExceptionGroup as group:
            # One reason is enough to stop; the others are mostly the same.
            raise group.exceptions[0] from None

    async def _deliver(self, batches: Sequence[Batch]) -> None:
        device = batches[0].device
        async with self._turns:
            self._busy += 1
            try:
                delivery = await self._delivery_of(device)
                if delivery.acked is None or delivery.acked < batches[-1].seq:
                    await self._persist(delivery, batches)
            finally:
                self._busy -= 1
            if delivery.is_open:
                self._resting[device] = delivery
        for batch in batches:
            self._events.stored(batch.readings, batch.seq <= delivery.acked_before)

    async def _delivery_of(self, device: str) -> Delivery:
        """The device's delivery; where there are too many connections, the one that rests longest is closed."""
        delivery = self._deliveries.get(device)
        if delivery is None:
            survey = self._survey
            consignment = Consignment(
                device, self._epoch, survey.numbering.batches[device], survey.catalogue.metrics(device)
            )
            delivery = self._deliveries[device] = Delivery(
                self._target, consignment, on_reject=lambda reject: self._rejected(device, reject)
            )
        self._resting.pop(device, None)
        while self._resting and len(self._resting) + self._busy > MAX_CONNECTIONS:
            _, oldest = self._resting.popitem(last=False)
            await oldest.close()
        return delivery

    def _rejected(self, device: str, reject: messages.Reject) -> None:
        batch = self._under_way.get((device, reject.seq))
        if batch is not None:
            self._events.rejected(batch, reject)

    async def _persist(self, delivery: Delivery, batches: Sequence[Batch]) -> None:
        """Delivers them, and comes back as often as it takes."""
        device = batches[0].device
        types = self._survey.catalogue.devices[device]
        parcels = [Parcel(batch.seq, encode(batch, types)) for batch in batches]
        under_way = {(device, batch.seq): batch for batch in batches}
        self._under_way.update(under_way)
        attempt = 0
        while True:
            acked = delivery.acked
            try:
                await delivery.deliver(parcels)
            except Interrupted as trouble:
                self._events.trouble(str(trouble))
                attempt = 0 if delivery.acked != acked else attempt + 1
                # Full jitter: devices that were cut off at one moment do not all return at one moment.
                delay_s = random.random() * min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 10))
                await asyncio.sleep((trouble.retry_ms or 0) / 1000 + delay_s)
            else:
                self._events.trouble("")
                break
        for key in under_way:
            del self._under_way[key]


async def check(target: Target) -> None:
    """Whether a hub is there and lets the token in. Raises Interrupted, UploadError."""
    connection = await open_connection(target)
    await connection.close()


async def _next(portions: Generator[T, None, None]) -> T | None:
    """The next one, made in a thread; None after the last."""
    return await asyncio.to_thread(next, portions, None)
