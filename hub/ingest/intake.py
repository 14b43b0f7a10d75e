"""The commit loop: what the conversations took in becomes durable, then is acknowledged and shown.

Natural group commit: while one commit runs, everything that arrives is collected for the next. A lone batch is
committed and acknowledged at once; a busy hub commits hundreds together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from hub.ingest.device import Device
from hub.model.batch import Entry, EntryKind, Mark, Series
from hub.model.journal import Journal, JournalError, JournalFailed, JournalFull, Verdict
from wire import device as messages
from wire import limits
from wire.errors import Code, WireError
from wire.model import DeviceId

COMMIT_EVERY_S = 0.004
"""A commit begins at most so often, and a connection is read at most once for each commit (`rest`): a commit, with an
acknowledgement for every device in it, costs 0.4 ms of the hub's core whatever its size, and a read some 20 µs. Of
26,000 batches/s that come singly, the hub then works 74 % of its core instead of 83 %, and the 99th percentile of
acknowledgements falls from 30 to 20 ms. A lone batch is committed at once."""

FULL_RETRY_S = 1.0
"""While the disk is full, new data are refused without asking the disk again for this long."""

log = structlog.get_logger(__name__)

Settled = Callable[[JournalError | None], None]
"""Is called once: with None when what was handed over is durable, with why it is not otherwise."""


class Intake:
    """Owns the devices, the entries on their way to the journal, and the loop that commits them.

    At most MAX_PENDING_BYTES wait for the disk; beyond it `room()` holds the readers back, so the sockets' own flow
    control reaches the agents.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        clock: Callable[[], int],
        on_committed: Callable[[Sequence[Entry]], None],
        on_device: Callable[[Device], None],
        live_time: Callable[[Series], int],
    ) -> None:
        self.clock = clock
        self.devices = {id: Device(id, mark) for id, mark in journal.marks().items()}
        self.bad_messages = 0
        self._journal = journal
        self._on_committed = on_committed
        self.on_device = on_device
        self._live_time = live_time
        self._pending: list[Entry] = []
        self._pending_bytes = 0
        self._touched: set[Device] = set()
        self._verdicts: list[Verdict] = []
        self._settling: list[Settled] = []
        self._resting: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.refusal: WireError | None = None
        """Why no data are taken just now; None when they are."""
        self._refused_at = 0.0

    def device(self, id: DeviceId) -> Device:
        """The device of this id; made on first sight."""
        device = self.devices.get(id)
        if device is None:
            device = self.devices[id] = Device(id)
        return device

    def submit(self, device: Device, entry: Entry) -> None:
        """Hands over an entry of `device`; it will be durable and acknowledged, or the conversation is closed."""
        if not self._pending:
            self._idle.clear()
            self._wake.set()
        self._pending.append(entry)
        self._touched.add(device)
        self._pending_bytes += len(entry.payload)
        if self._pending_bytes > limits.MAX_PENDING_BYTES:
            self._room.clear()

    def settle(self, device: Device, entry: Entry, verdict: Verdict, done: Settled) -> None:
        """Hands over an entry of `device` that was in quarantine, with the verdict that is durable together with it."""
        self._verdicts.append(verdict)
        self.when_durable(done)
        self.submit(device, entry)

    def when_durable(self, done: Settled) -> None:
        """Tells when everything that was, or in this turn of the loop still is, submitted is durable, or is not."""
        self._settling.append(done)
        self._wake.set()

    @property
    def pending(self) -> bool:
        """Whether something waits for the next commit."""
        return bool(self._pending)

    def rest(self, resume: Callable[[], None]) -> None:
        """Calls `resume` when the next commit has ended, one way or the other."""
        self._resting.append(resume)

    async def room(self) -> None:
        """Returns when there is room for more."""
        await self._room.wait()

    @property
    def congested(self) -> bool:
        """Whether readers have to wait for `room()`."""
        return not self._room.is_set()

    def check_open(self) -> None:
        """Raises the WireError that tells an agent why no data are taken just now."""
        if self.refusal is None:
            return
        waited_s = asyncio.get_running_loop().time() - self._refused_at
        # After a while somebody has to try whether there is room again. The refusal stands until a commit succeeds.
        if self.refusal.code is not Code.STORAGE_FULL or waited_s < FULL_RETRY_S:
            raise self.refusal

    async def run(self) -> None:
        """Commits until cancelled; a commit under way is finished first."""
        try:
            await self._run()
        finally:
            # Nothing more will be committed, and nobody shall wait for it.
            self._idle.set()
            _tell(self._settling, JournalError("the hub stops"))
            self._resume()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        began_s = -COMMIT_EVERY_S
        while True:
            await self._wake.wait()
            early_s = began_s + COMMIT_EVERY_S - clock()
            if early_s > 0:
                await asyncio.sleep(early_s)
            began_s = clock()
            self._wake.clear()
            if not self._pending:
                _tell(self._settling, None)
            else:
                entries, self._pending = self._pending, []
                touched, self._touched = self._touched, set()
                size_bytes = self._pending_bytes
                marks = [device.mark() for device in touched]
                verdicts, self._verdicts = self._verdicts, []
                settling, self._settling = self._settling, []
                try:
                    await self._journal.append(entries, marks, verdicts)
                except JournalError as error:
                    self._failed(touched, error)
                    _tell(settling, error)
                except asyncio.CancelledError:
                    _tell(settling, JournalError("the hub stops"))
                    raise
                else:
                    self._committed(entries, zip(touched, marks, strict=True))
                    _tell(settling, None)
                self._resume()
                # What is being committed counts, too: it is not durable before.
                self._pending_bytes = max(0, self._pending_bytes - size_bytes)
                if not self._room.is_set() and self._pending_bytes <= limits.MAX_PENDING_BYTES:
                    self._room.set()
                if not self._pending:
                    self._idle.set()

    async def drain(self) -> None:
        """Returns when everything submitted is durable (or refused) and acknowledged."""
        await self._idle.wait()

    def _committed(self, entries: Sequence[Entry], marks: Iterable[tuple[Device, Mark]]) -> None:
        self.refusal = None
        self._on_committed(entries)
        for entry in entries:
            if entry.kind is EntryKind.QUARANTINE and entry.reason is not None:
                self._reject(entry, entry.reason)
        for device, mark in marks:
            device.durable = mark
            conversation = device.conversation
            if conversation is not None and conversation.epoch == mark.epoch:
                conversation.acknowledge(mark.seq)
            if device.retired:
                device.retired = False
                self.on_device(device)

    def _resume(self) -> None:
        resting, self._resting = self._resting, []
        for resume in resting:
            resume()

    def _reject(self, entry: Entry, reason: tuple[str, str]) -> None:
        code, message = reason
        conversation = self.devices[entry.device].conversation
        if conversation is not None and conversation.epoch == entry.epoch:
            conversation.send(messages.Reject(entry.seq, Code(code), message))

    def _failed(self, touched: set[Device], error: JournalError) -> None:
        """Nothing of the group is stored: forget it and everything behind it, and tell the agents, who still have
        it. Only a disk that is full or fails concerns what comes after it."""
        code = Code.STORAGE_FULL if isinstance(error, JournalFull) else Code.STORAGE_FAILED
        refusal = WireError(code, str(error)[: limits.MAX_MESSAGE])
        if isinstance(error, JournalFull | JournalFailed):
            self.refusal = refusal
            self._refused_at = asyncio.get_running_loop().time()
        log.error("journal refused a commit", error=str(error), code=code.value)
        touched |= self._touched
        self._touched = set()
        self._pending.clear()
        self._pending_bytes = 0
        self._verdicts.clear()
        _tell(self._settling, error)
        for device in touched:
            device.roll_back()
            for series in device.metrics.values():
                if isinstance(series, Series):
                    series.last_time_ns = series.run_ns = self._live_time(series)
            if device.conversation is not None:
                device.conversation.end(refusal)


def _tell(settling: list[Settled], error: JournalError | None) -> None:
    """Tells those that wait, who may come with more at once."""
    waiting = settling.copy()
    settling.clear()
    for done in waiting:
        done(error)
