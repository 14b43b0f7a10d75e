"""Readings from clients that do not speak the device protocol: plain WebSockets, HTTP requests, line protocol.

How an endpoint uses it:

    reader = readings.reader(identity, rules, "plain")     # by credential and rules; kept and shared
    frame = reader.source().read(payload, now_ns)          # bytes -> rows and refusals; raises nothing
    result = await readings.store(frame, presence)         # returns when it is durable

An endpoint that parses by itself makes the frame by `reader.frame(payload, rows, refusals, now_ns)`, with the rows of
`reader.interpreter`. A connection uses `submit` and `room` in place of `store`, to have several frames under way, and a
`Presence`: the devices that it writes as are connected until it is closed.

Frames that arrive during a commit are collected and share the next one, in the order of their arrival. All of a frame
is in one commit: its batches, and the values that are refused, in quarantine with their raw text. Errors that end by
themselves (the device's own agent is connected, the disk is full) refuse the frame as a whole, before anything of it is
stored; the client sends it again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias
from weakref import WeakSet
from zoneinfo import ZoneInfo

import msgspec
import structlog

from formats.interpretation import KnownType, KnownUnit
from formats.line_block import LineBlock
from formats.record import RefusedInput, shown
from formats.rules import Rules
from hub.ingest.agent_session import MetricDirectory
from hub.ingest.device import Devices
from hub.ingest.input_reader import InputFrame, InputReader, in_turns, other_units
from hub.ingest.local_source import LocalSource, epoch_of
from hub.ingest.recent_readings import RecentReadings
from hub.ingest.rejected_input import read_quarantined, reason_of, rejected_content, stored_times
from hub.ingest.repetitions import TURN_VALUES, ComparedValues, held_back, unknown_rows
from hub.ingest.request_keys import KeyedRequest, RequestKeys, StoredRequest
from hub.ingest.row_writer import (
    NO_DESCRIPTION,
    STORAGE_CODES,
    DeviceDescription,
    PendingRow,
    RowWriter,
    batch_of,
    group_rows,
)
from hub.ingest.stored_frame import MAX_REFUSED, FrameDenied, StoredFrame, listed
from hub.model.batch import Entry, Series
from hub.model.bridge import DecodedMessage
from hub.model.identity import Identity, Role
from hub.model.journal import JournalError, JournalFull, durable
from wire.errors import Code, WireError
from wire.limits import MAX_MESSAGE
from wire.plain import RefusedReading

EPOCH = epoch_of("foreign readings")
"""Epoch of all readings that the hub numbers for these clients, one for all inputs: a device may use several."""

MAX_WAITING_BYTES = 16 * 1024 * 1024
"""Payload bytes of frames that wait to be stored. At this bound connections are not read, and requests wait."""

MAX_ROUND_READINGS = 50_000
"""Readings that one commit takes from the waiting frames, at least one frame: 20 ms of the event loop."""

MAX_READERS = 4_096
"""Readers that are kept with what they have learned, by credential and rules: about 5 kB each for a device of ten
metrics. At the bound the one that was not used for longest is dropped, and the next frame teaches a new one."""

log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Presence:
    """Devices that are present while a connection is open. `agent` is its name where the fleet shows one."""

    agent: str
    devices: set[str] = field(default_factory=set)
    is_open: bool = True


class _KeyedFrame(NamedTuple):
    """A frame with a key that is being stored: the digest of its content, and its result."""

    content: str
    done: asyncio.Future[StoredFrame]


@dataclass(eq=False, slots=True)
class _Waiting:
    """A frame that waits to be stored, and its result."""

    frame: InputFrame
    presence: Presence | None
    done: asyncio.Future[StoredFrame]
    refused: list[RefusedReading]
    refused_count: int
    request: KeyedRequest | None = None
    is_denied: bool = False
    """All of its rows are of devices that the token may not write."""
    lost: int = 0
    """Readings of its rows that were not accepted."""
    ready: list[LineBlock] = field(default_factory=list)
    """Blocks whose metrics are declared; the rows of the others are rows."""

    @property
    def stored(self) -> int:
        """The readings that are accepted."""
        return self.frame.readings - self.lost

    @property
    def is_refused(self) -> bool:
        """Return whether nothing of it is stored, or it has too many metrics."""
        return self.refused_count > 0 and (not self.stored or any(each.code == "limit" for each in self.refused))

    def refuse(self, refusal: RefusedReading) -> None:
        """Count a refusal, and list it within the bound."""
        self.refused_count += 1
        if len(self.refused) < MAX_REFUSED:
            self.refused.append(refusal)


_Batches: TypeAlias = dict[str, list[list[PendingRow[_Waiting]]]]
"""Rows by device, in batches."""


class ForeignReadings:
    """Stores the frames of all clients that do not speak the device protocol; see the module."""

    def __init__(
        self,
        devices: Devices,
        directory: MetricDirectory,
        *,
        zone: str = "UTC",
        known_type: KnownType | None = None,
        known_unit: KnownUnit = lambda device, metric: "",
        recent: RecentReadings | None = None,
    ) -> None:
        """`zone` is that of times without an offset, `known_type` and `known_unit` return the types and units that the
        hub has. `recent` are the readings from before a restart."""
        self._devices = devices
        self._journal = devices.journal
        self._zone = zone
        self._known_type = known_type
        self._known_unit = known_unit
        self._writer: RowWriter[_Waiting] = RowWriter(
            devices, directory, epoch=EPOCH, agent="plain", has_presence=False
        )
        self._recent = RecentReadings() if recent is None else recent
        self._readers: OrderedDict[tuple[str, str, str, str, bytes], InputReader] = OrderedDict()
        self._all_readers: WeakSet[InputReader] = WeakSet()
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._present: Counter[str] = Counter()
        self._closed: WireError | None = None
        self._keys = RequestKeys(self._journal.facts().items())
        self._under_way: dict[str, _KeyedFrame] = {}

    def reader(self, identity: Identity, rules: Rules, name: str, bucket: str = "", *, device: str = "") -> InputReader:
        """Return the reader of a credential for these rules, with what it has learned before.

        `bucket` is the name of the place that the client writes to, and `device` the device of records that name none;
        a device token names its own.
        """
        key = (identity.token_id, name, bucket, device, msgspec.json.encode(rules))
        reader = self._readers.get(key)
        if reader is None or reader.identity != identity:
            zone = ZoneInfo(rules.zone or self._zone)
            reader = InputReader(
                identity, rules, name, zone=zone, known_type=self._known_type, known_unit=self._known_unit,
                bucket=bucket, device=device,
            )  # fmt: skip
            self._readers[key] = reader
            self._all_readers.add(reader)
            if len(self._readers) > MAX_READERS:
                self._readers.popitem(last=False)
        self._readers.move_to_end(key)
        return reader

    def metric_changed(self, device: str, names: Iterable[str]) -> None:
        """Let all readers learn a metric anew: a person has changed its type or name."""
        names = [*names]
        for reader in self._all_readers:
            reader.forget(device, names)

    async def store_once(self, request: KeyedRequest, frame: InputFrame) -> StoredFrame:
        """Store a frame, unless a request with the same key is stored, or being stored: then return its result.

        Raises KeyReused if that request had another content, and WireError as `store` does.
        """
        await self.room()
        known, first = self._keys.find(request), self._under_way.get(request.key)
        if known is None and first is None:
            done = self.submit(frame, request=request, keeps_denied=True)
            first = self._under_way[request.key] = _KeyedFrame(request.content, done)
            done.add_done_callback(lambda _: self._under_way.pop(request.key, None))
        else:
            frame.reader.put_back(frame.details)
        if known is not None:
            request.check(known.content)
            return StoredFrame(known.readings, known.refused_count, known.refused)
        assert first is not None
        request.check(first.content)
        # A client that gives up does not take the result from another one.
        return await asyncio.shield(first.done)

    async def store(
        self, frame: InputFrame, presence: Presence | None = None, *, keeps_denied: bool = False
    ) -> StoredFrame:
        """Store a frame; return when it is durable. Raises WireError as `submit` sets it."""
        await self.room()
        return await self.submit(frame, presence, keeps_denied=keeps_denied)

    def submit(
        self,
        frame: InputFrame,
        presence: Presence | None = None,
        *,
        request: KeyedRequest | None = None,
        keeps_denied: bool = False,
    ) -> asyncio.Future[StoredFrame]:
        """Queue a frame. The future has its result when it is durable, or a WireError: nothing of it is stored.

        A frame that the credential may not write ends with NOT_ALLOWED. With `keeps_denied` this is a FrameDenied, and
        the frame is in quarantine: the client does not send it again.
        """
        done: asyncio.Future[StoredFrame] = asyncio.get_running_loop().create_future()
        if self._closed is not None:
            done.set_exception(self._closed)
        elif (is_denied := bool(frame.denied) and not (frame.rows or frame.blocks)) and not keeps_denied:
            done.set_exception(WireError(Code.NOT_ALLOWED, frame.denied[:MAX_MESSAGE]))
        else:
            refused = [*map(listed, frame.refusals[:MAX_REFUSED])]
            count = sum(refusal.total for refusal in frame.refusals)
            self._waiting.append(_Waiting(frame, presence, done, refused, count, request, is_denied))
            self._waiting_bytes += len(frame.payload)
            if self._waiting_bytes >= MAX_WAITING_BYTES:
                self._has_room.clear()
            self._wake.set()
        return done

    @property
    def congested(self) -> bool:
        """Return whether more than MAX_WAITING_BYTES wait: connections have to wait for `room`."""
        return not self._has_room.is_set()

    async def room(self) -> None:
        """Wait until fewer than MAX_WAITING_BYTES wait."""
        await self._has_room.wait()

    def attach(self, reader: InputReader, device: str, presence: Presence) -> asyncio.Future[StoredFrame]:
        """Mark a device as connected until `detach`, unless its own agent is, or the hub cannot register it now."""
        frame = InputFrame(reader, b"", (), (), {device: NO_DESCRIPTION}, "", 0)
        done = self.submit(frame, presence)
        done.add_done_callback(lambda done: done.cancelled() or done.exception())
        return done

    def detach(self, presence: Presence, reason: str) -> None:
        """Mark the devices of a closed connection as disconnected, unless they have another one."""
        presence.is_open = False
        devices, presence.devices = presence.devices, set()
        for device in devices:
            self._present[device] -= 1
            if self._present[device] <= 0:
                del self._present[device]
                self._writer.source(device).disconnect(reason)

    async def decode_again(self, entry: Entry) -> DecodedMessage:
        """Decode a frame in quarantine by its own rules and the types of now, without the values that are stored.

        The metrics of its values are declared. If the entry has only the beginning of the frame, or its values cannot
        be distinguished from stored ones, its reason stays. Raises WireError while no metrics can be declared.
        """
        kept = read_quarantined(entry.payload)
        payload = None if kept is None else kept.payload
        if kept is None or payload is None or not kept.input:
            return DecodedMessage(reason=entry.reason)
        # With the rights of the credential that has sent it: a retry gives it no device of others.
        sender = Identity("", Role.GATEWAY, kept.devices)
        zone = ZoneInfo(kept.rules.zone or self._zone)
        reader = InputReader(
            sender, kept.rules, kept.input, zone=zone, device=kept.device, known_type=self._known_type,
            known_unit=self._known_unit, bucket=kept.bucket,
        )  # fmt: skip
        frame = reader.source().read(payload, entry.received_ns)
        rows = kept.unstored_rows(frame.pending_rows(None), frame.refusals)
        if rows is None:
            return DecodedMessage(reason=entry.reason)
        batches = {device: group_rows(of_device) for device, of_device in rows.items()}
        for device, grouped in batches.items():
            error = await self._writer.declare(device, grouped, frame.details.get(device, NO_DESCRIPTION))
            if error is not None:
                return DecodedMessage(reason=(error.code.value, error.message))
        accepted = [(device, batch_of(group)) for device, grouped in batches.items() for group in grouped]
        refusals = [refusal for refusal in frame.refusals if kept.was_refused(refusal.device, refusal.metric)]
        if not refusals:
            return DecodedMessage(accepted)
        code, sentence = reason_of(refusals)
        stored, is_partial = kept.stored_after(refusals, frame.rows), bool(accepted) or kept.partial
        rest = rejected_content(reader.origin, payload, refusals, is_partial=is_partial, stored=stored)
        return DecodedMessage(accepted, (code, sentence[:MAX_MESSAGE]), rest)

    async def run(self) -> None:
        """Store what arrives until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                # What else arrives in this turn of the event loop belongs to the same commit.
                await asyncio.sleep(0)
                while self._waiting:
                    await self._store(self._next_round())
        finally:
            self._closed = WireError(Code.SHUTTING_DOWN, "the hub is shutting down")
            self._fail(self._waiting, self._closed)
            self._has_room.set()

    def _next_round(self) -> list[_Waiting]:
        """Take the frames of the next commit."""
        readings = count = 0
        for waiting in self._waiting:
            readings += waiting.frame.readings
            if count and readings > MAX_ROUND_READINGS:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self._discount(taken)
        return taken

    def _discount(self, frames: Iterable[_Waiting]) -> None:
        """Make room of frames that wait no more."""
        self._waiting_bytes -= sum(len(waiting.frame.payload) for waiting in frames)
        if self._waiting_bytes < MAX_WAITING_BYTES:
            self._has_room.set()

    def _wait_again(self, frames: Sequence[_Waiting]) -> None:
        """Put frames before those that wait."""
        self._waiting[:0] = frames
        self._waiting_bytes += sum(len(waiting.frame.payload) for waiting in frames)
        if self._waiting_bytes >= MAX_WAITING_BYTES:
            self._has_room.clear()

    async def _store(self, frames: Sequence[_Waiting]) -> None:
        """Store frames in one commit, and set their results. Those that repeat others of it wait for the next one."""
        try:
            held = await in_turns(held_back([waiting.frame for waiting in frames], self._recent))
            self._wait_again([waiting for place, waiting in enumerate(frames) if place in held])
            frames = [waiting for place, waiting in enumerate(frames) if place not in held]
            await self._journal.room()
            self._devices.check_open()
            frames = self._of_one_unit(self._free(frames))
            details = self._collect_details(frames)
            batches = await in_turns(self._batches(frames))
            errors: dict[str, WireError] = {}
            for device in dict.fromkeys([*batches, *details]):
                error = await self._writer.declare(device, batches.get(device, ()), details.get(device, NO_DESCRIPTION))
                if error is not None:
                    errors[device] = error
            # An agent may have connected meanwhile. No await from here to the end of the submission.
            while len(free := self._free(frames)) < len(frames):
                frames = free
                batches = await in_turns(self._batches(frames))
            self._submit(frames, batches, errors)
            keyed = self._submit_keys(frames)
            await durable(self._journal)
            self._remember(frames, batches)
        except (WireError, JournalError) as error:
            self._fail(frames, _unstored(error))
            return
        except asyncio.CancelledError:
            self._fail(frames, WireError(Code.SHUTTING_DOWN, "the hub stopped before the frame was stored"))
            raise
        except Exception:
            # A defect of the hub costs these frames, and not the inputs of all clients.
            log.exception("frames could not be stored")
            self._fail(frames, WireError(Code.STORAGE_FAILED, "the hub failed at this frame; its log says where"))
            return
        self._forget_names(waiting for waiting in frames if waiting.is_refused)
        for stored in keyed:
            self._keys.confirm(stored)
        for waiting in frames:
            if waiting.done.done():
                continue
            if waiting.is_denied:
                reason = f"{waiting.frame.denied}: nothing is stored as a reading; the content is in quarantine"
                waiting.done.set_exception(FrameDenied(reason[:MAX_MESSAGE], tuple(waiting.refused)))
            else:
                waiting.done.set_result(StoredFrame(waiting.stored, waiting.refused_count, tuple(waiting.refused)))

    def _submit_keys(self, frames: Iterable[_Waiting]) -> list[StoredRequest]:
        """Submit the keys of frames with their results, for the same commit."""
        keyed = []
        for waiting in frames:
            if waiting.request is None or waiting.is_denied:
                continue
            if waiting.stored or waiting.refused_count:
                stored, text = self._keys.add(waiting.request, waiting.stored, waiting.refused_count, waiting.refused)
                self._journal.submit_fact(stored.place, text)
                keyed.append(stored)
        return keyed

    def _free(self, frames: Sequence[_Waiting]) -> list[_Waiting]:
        """Return the frames whose devices have no agent of their own now; refuse the others."""
        free = []
        for waiting in frames:
            try:
                for device in waiting.frame.devices:
                    self._writer.source(device).check_free()
            except WireError as error:
                remedy = "these readings are not stored; stop one of the two, or send them again later"
                self._fail((waiting,), WireError(error.code, f"{error.message}: {remedy}"))
            else:
                free.append(waiting)
        return free

    def _of_one_unit(self, frames: Sequence[_Waiting]) -> list[_Waiting]:
        """Return the frames without those that declare another unit of a metric than the hub or an earlier one has.

        They were read before the hub had a unit. They have to be sent again, as what their readers have read since.
        """
        others = other_units([waiting.frame for waiting in frames], self._known_unit)
        if not others:
            return [*frames]
        behind = [waiting for waiting in self._waiting if waiting.frame.reader in others]
        self._waiting = [waiting for waiting in self._waiting if waiting.frame.reader not in others]
        self._discount(behind)
        for waiting in (*frames, *behind):
            if (found := others.get(waiting.frame.reader)) is not None:
                reason = f"another client has just declared {found[0].metric} of {found[0].device} in {found[0].unit}"
                self._fail((waiting,), _unstored(WireError(Code.BUSY, reason)))
        for reader, units in others.items():
            for declared in units:
                reader.forget(declared.device, [declared.metric])
        return [waiting for waiting in frames if waiting.frame.reader not in others]

    def _collect_details(self, frames: Sequence[_Waiting]) -> dict[str, DeviceDescription]:
        """Return the descriptions of the devices, also of those that only have refused values."""
        details: dict[str, DeviceDescription] = {}
        for waiting in frames:
            frame = waiting.frame
            for device, given in frame.details.items():
                if self._writer.source(device).is_taken:
                    continue
                known = details.get(device, NO_DESCRIPTION)
                tags = given.tags if known.tags is None else {**known.tags, **(given.tags or {})}
                details[device] = DeviceDescription({**known.metrics, **given.metrics}, tags)
            if frame.owner and frame.refusals and not self._writer.source(frame.owner).is_taken:
                details.setdefault(frame.owner, NO_DESCRIPTION)
        return details

    def _batches(self, frames: Sequence[_Waiting]) -> Generator[None, None, _Batches]:
        """Return the rows of the frames, grouped, with those of blocks whose metrics have to be declared. Yield like
        `unknown_rows`."""
        compared = ComparedValues()
        rows: dict[str, list[PendingRow[_Waiting]]] = {}
        for waiting in frames:
            for device, of_frame in waiting.frame.pending_rows(waiting).items():
                rows.setdefault(device, []).extend(of_frame)
        for waiting in frames:
            waiting.ready = []
            for block in waiting.frame.blocks:
                if self._writer.is_ready(block) and not self._may_repeat(block):
                    waiting.ready.append(block)
                    continue
                for part in block.parts(max(1, TURN_VALUES // len(block.columns))):
                    rows.setdefault(block.device, []).extend(waiting.frame.rows_of_block(part, waiting))
                    if compared.is_due(part.readings):
                        yield
        batches = {}
        for device, of_device in rows.items():
            batches[device] = group_rows((yield from unknown_rows(device, of_device, self._recent, compared)))
        return batches

    def _may_repeat(self, block: LineBlock) -> bool:
        """Return whether readings of a block may be stored already. Those of most are newer than everything."""
        times = block.times
        if times is None:
            return False
        known = self._devices.device(block.device).metrics
        series = (known.get(name) for name in block.columns)
        newest_ns = max((found.last_time_ns for found in series if isinstance(found, Series)), default=-1)
        return min(times) <= newest_ns and self._recent.may_have(block.device, times)

    def _remember(self, frames: Sequence[_Waiting], batches: _Batches) -> None:
        """Remember the rows with a time of their own, unless a part of their frame was not accepted."""
        for waiting in frames:
            for block in waiting.ready if not waiting.lost else ():
                if block.times is not None:
                    self._recent.add_block(block.device, block.times, block.columns)
        for device, grouped in batches.items():
            for rows in grouped:
                for row in rows:
                    if row.has_time and not row.message.lost:
                        self._recent.add(device, row.time_ns, row.values)

    def _submit_blocks(self, waiting: _Waiting) -> None:
        """Submit the blocks that are ready; of one that is refused, each row for itself."""
        # A block that was not ready before its metrics were declared is among the rows.
        for block in waiting.ready:
            for part in self._writer.submit_block(block, waiting.frame.received_ns):
                for rows in group_rows(waiting.frame.rows_of_block(part, waiting)):
                    self._writer.submit(self._writer.source(part.device), rows, self._refuse)

    def _submit(
        self,
        frames: Sequence[_Waiting],
        batches: _Batches,
        errors: Mapping[str, WireError],
    ) -> None:
        for waiting in frames:
            if waiting.presence is not None and waiting.presence.is_open:
                for device in waiting.frame.devices.union(waiting.frame.details):
                    self._connect(waiting.presence, self._writer.source(device))
        for device, grouped in batches.items():
            source = self._writer.source(device)
            for rows in grouped:
                self._writer.submit(source, rows, self._refuse, error=errors.get(device))
        for waiting in frames:
            self._submit_blocks(waiting)
            frame = waiting.frame
            if frame.refusals:
                self._quarantine(waiting, frame.refusals, is_partial=bool(frame.rows or frame.blocks))

    def _refuse(self, source: LocalSource, row: PendingRow[_Waiting], error: WireError) -> None:
        """Store the valid values of a row; the others go to quarantine, each with its reason."""
        waiting = row.message
        try:
            accepted, parts = source.submit_values(batch_of([row]), error)
        except WireError as whole:
            accepted, parts = 0, ()
            content = rejected_content(waiting.frame.reader.origin, waiting.frame.payload, (), is_partial=False)
            source.quarantine(content, (whole.code.value, whole.message), len(row.values))
            waiting.refuse(RefusedReading(whole.code.value, whole.message, device=source.device.id))
        waiting.lost += len(row.values) - accepted
        for part in parts:
            reason = error.message if part.code is Code.UNKNOWN_METRIC else part.message
            for column in part.columns:
                value = shown(row.values.get(column.metric, ""))
                waiting.refuse(
                    RefusedReading(part.code.value, reason, device=source.device.id, metric=column.metric, value=value)
                )

    def _quarantine(self, waiting: _Waiting, refusals: Sequence[RefusedInput], *, is_partial: bool) -> None:
        frame = waiting.frame
        source = self._writer.source(frame.owner or waiting.frame.reader.name)
        if source.is_taken:
            source = self._writer.source(waiting.frame.reader.name)
        source.epoch = EPOCH
        stored = stored_times(refusals, frame.rows)
        content = rejected_content(frame.reader.origin, frame.payload, refusals, is_partial=is_partial, stored=stored)
        source.quarantine(content, reason_of(refusals), sum(refusal.readings for refusal in refusals))

    def _connect(self, presence: Presence, source: LocalSource) -> None:
        device = source.device
        if device.id not in presence.devices:
            presence.devices.add(device.id)
            self._present[device.id] += 1
        if device.session is None:
            source.agent = presence.agent
            source.connect()

    def _forget_names(self, frames: Iterable[_Waiting]) -> None:
        """Let readers discard metrics that the hub did not get with these frames: others need the room."""
        names = {(waiting.frame.reader, device) for waiting in frames for device in waiting.frame.known_devices}
        for reader, device in names:
            reader.forget_unknown(device, self._writer.source(device).device.metrics)

    def _fail(self, frames: Iterable[_Waiting], error: WireError) -> None:
        """Refuse frames as a whole: nothing of them is stored."""
        frames = [*frames]
        self._forget_names(frames)
        for waiting in frames:
            if not waiting.done.done():
                waiting.frame.reader.put_back(waiting.frame.details)
                waiting.done.set_exception(error)


def _unstored(error: WireError | JournalError) -> WireError:
    """Return the error for frames that the hub cannot store now."""
    if isinstance(error, WireError):
        code, message = error.code, error.message
    else:
        code, message = Code.STORAGE_FULL if isinstance(error, JournalFull) else Code.STORAGE_FAILED, str(error)
    return WireError(code, f"{message[: MAX_MESSAGE - 80]}: these readings are not stored; send them again later")


def is_temporary(error: WireError) -> bool:
    """Return whether the same frame can be accepted later."""
    return error.code in STORAGE_CODES
