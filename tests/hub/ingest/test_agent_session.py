"""Sessions of agents on a real journal: the hello, older and newer connections, gaps, and a defect of a listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub.ingest.agent_session import CLOCK_SAMPLES_KEPT_NS, AgentSession
from hub.ingest.device import Devices
from hub.ingest.source_report import EVENT_BURST
from hub.journal.journal import Journal
from hub.model.batch import REPAIRED, Entry, Series
from wire import device as messages
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES
from wire.errors import Code, WireError
from wire.model import Metric

FIRST, SECOND = "000000000000000a", "000000000000000b"


class Outlet:
    """Outlet that keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[messages.HubMessage] = []
        self.ended: list[Code] = []

    def send(self, frame: bytes) -> None:
        self.sent.append(HUB_MESSAGES["json"].decode(frame))

    def send_ack(self, frame: bytes) -> None:
        self.send(frame)

    def end(self, error: WireError) -> None:
        self.ended.append(error.code)

    @property
    def acked(self) -> int:
        """Return the newest acknowledged number, 0 for none."""
        return max((message.seq for message in self.sent if isinstance(message, messages.Ack)), default=0)


class Registry:
    """Registry that knows one metric, and waits with a declaration while `declares` is not set."""

    def __init__(self) -> None:
        self.series = Series(1, "d", "level", "float")
        self.events: list[tuple[str, str]] = []
        self.declares = asyncio.Event()
        self.declares.set()

    async def allow(self, hello: messages.Hello) -> None:
        """Allow every agent."""

    async def declare(self, device: str, metrics: Sequence[Metric]) -> Mapping[str, Series | WireError]:
        await self.declares.wait()
        return {"level": self.series}

    def record(self, device: str, kind: str, detail: str) -> None:
        self.events.append((kind, detail))

    def describe(self, device: str, *, tags: Mapping[str, str], agent: str) -> None:
        """Keep nothing."""


class Hub:
    """Journal, devices and registry; it makes the sessions of device `d`."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.registry = Registry()
        self.defect: Exception | None = None
        self.now_ns = 1
        self.devices = Devices(
            journal,
            clock=lambda: self.now_ns,
            on_committed=self._show,
            latest_time_ns=lambda series: series.last_time_ns,
        )

    def _show(self, entries: Sequence[Entry]) -> None:
        if self.defect is not None:
            raise self.defect

    def session(self, *, has_status: bool = False) -> tuple[AgentSession, Outlet]:
        outlet = Outlet()
        session = AgentSession(
            self.devices, self.registry, outlet, format="json", hub="h", window=100, has_status=has_status
        )
        return session, outlet

    async def connect(self, epoch: str, next_seq: int) -> tuple[AgentSession, Outlet]:
        session, outlet = self.session()
        await receive(session, messages.Hello("d", epoch, next_seq, True, 0, metrics=[Metric("level", "float")]))
        return session, outlet


async def receive(session: AgentSession, message: messages.AgentMessage) -> None:
    step = session.receive(AGENT_MESSAGES["json"].encode(message))
    if step is not None:
        await step()


async def send(hub: Hub, session: AgentSession, *seqs: int) -> None:
    """Send batches, and wait until they are durable."""
    for seq in seqs:
        await receive(session, messages.Data(seq, [seq], {"level": [float(seq)]}))
    await hub.journal.drain()


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Hub]:
    path = directory / "journal.db"
    async with Journal(path, keep_bytes=1 << 28, keep_seconds=60, max_bytes=1 << 30) as journal:
        yield Hub(journal)


async def test_a_rolled_back_spool_changes_nothing_of_the_device(tmp_path: Path) -> None:
    """An old copy of an earlier spool is refused, and the session of the current spool continues undisturbed."""
    async with running(tmp_path) as hub:
        first, _ = await hub.connect(FIRST, 6)
        await send(hub, first, 1, 2, 3, 4, 5)
        second, outlet = await hub.connect(SECOND, 2)
        await send(hub, second, 1)
        copy, _ = hub.session()
        with pytest.raises(WireError) as refused:
            await receive(copy, messages.Hello("d", FIRST, 3, True, 0))
        assert refused.value.code is Code.ROLLED_BACK
        await send(hub, second, 2, 3)
        device = hub.devices.device("d")
        assert (outlet.acked, outlet.ended) == (3, [])
        assert (device.durable.epoch, device.durable.seq, dict(device.durable.earlier)) == (SECOND, 3, {FIRST: 5})


async def test_a_connection_that_ended_meanwhile_does_not_take_over(tmp_path: Path) -> None:
    """While its metrics are declared a connection is closed: the older session of the device stays."""
    async with running(tmp_path) as hub:
        older, outlet = await hub.connect(FIRST, 1)
        hub.registry.declares.clear()
        late, _ = hub.session()
        hello = asyncio.create_task(receive(late, messages.Hello("d", FIRST, 1, True, 0)))
        await asyncio.sleep(0)
        late.end(WireError(Code.REVOKED, "the token was revoked"))
        hub.registry.declares.set()
        with pytest.raises(WireError):
            await hello
        assert (hub.devices.device("d").session, outlet.ended) == (older, [])


async def test_a_gap_is_reported_without_the_part_that_was_received(tmp_path: Path) -> None:
    """The event names exactly the batches that are counted as lost."""
    async with running(tmp_path) as hub:
        session, _ = await hub.connect(FIRST, 8)
        await send(hub, session, 1, 2, 3)
        await receive(session, messages.Gap(2, 6, "the disk was full"))
        await hub.journal.drain()
        assert ("gap", "batches 4 to 6 lost: the disk was full") in hub.registry.events
        assert hub.devices.device("d").durable.lost == 3


async def test_a_defect_of_a_listener_does_not_stop_the_commits(tmp_path: Path) -> None:
    """Entries are durable and stay so; later batches are committed and acknowledged, and waiters are called."""
    async with running(tmp_path) as hub:
        session, outlet = await hub.connect(FIRST, 1)
        hub.defect = RuntimeError("a defect")
        await send(hub, session, 1, 2)
        assert (hub.journal.last_offset, hub.journal.pending) == (2, False)
        hub.defect = None
        await send(hub, session, 3)
        assert (outlet.acked, hub.journal.last_offset) == (3, 3)


async def report(session: AgentSession, next_seq: int, *sources: messages.SourceState) -> None:
    await receive(session, messages.Status(1, next_seq, list(sources)))


def port(error: str = "") -> messages.SourceState:
    return messages.SourceState("port", not error, 1, error)


async def test_a_status_moves_the_backlog_until_the_batches_are_acknowledged(tmp_path: Path) -> None:
    """The reported number counts at once; each acknowledgement reduces the backlog, and the watcher learns both."""
    async with running(tmp_path) as hub:
        session, _ = await hub.connect(FIRST, 1)
        device = hub.devices.device("d")
        progress: list[tuple[int, int]] = []
        hub.devices.on_progress = lambda devices: progress.extend((one.acked, one.backlog) for one in devices)
        await report(session, 11)
        await send(hub, session, *range(1, 11))
        assert (progress[0], progress[-1], device.state().backlog) == ((0, 10), (10, 0), 0)
        assert progress == sorted(progress)


async def test_sources_are_kept_and_their_failures_are_events(tmp_path: Path) -> None:
    """A report with news reaches the watchers once; one without reaches nobody."""
    async with running(tmp_path) as hub:
        session, _ = await hub.connect(FIRST, 1)
        device = hub.devices.device("d")
        changes: list[list[messages.SourceState]] = []
        hub.devices.watch_sources(lambda changed: changes.append(changed.state().sources))
        before = len(hub.registry.events)
        for sources in ([port()], [port()], [port("gone")], [port("gone")], [port()]):
            await report(session, 1, *sources)
        assert changes == [[port()], [port("gone")], [port()]]
        assert hub.registry.events[before:] == [
            ("source failed", "port: gone"),
            ("source recovered", "port: after 0 s"),
        ]
        for number in range(50):
            await report(session, 1, port("gone" if number % 2 == 0 else ""))
        assert len(hub.registry.events) - before == EVENT_BURST
        session.close("gone")
        assert device.state().sources == [port()]


async def test_an_agent_that_reports_no_status_has_no_sources(tmp_path: Path) -> None:
    """After a change to an older agent nothing of the newer one is shown; a guest changes nothing."""
    async with running(tmp_path) as hub:
        newer, _ = hub.session(has_status=True)
        hello = messages.Hello("d", FIRST, 1, True, 0)
        await receive(newer, hello)
        await report(newer, 1, port("gone"))
        newer.close("gone")
        guest, _ = hub.session(has_status=True)
        await receive(guest, messages.Hello("d", SECOND, 1, True, 0, guest=True))
        await report(guest, 1)
        guest.close("done")
        device = hub.devices.device("d")
        assert device.state().sources == [port("gone")]
        again, _ = hub.session(has_status=True)
        await receive(again, hello)
        assert device.state().sources == [port("gone")]
        older, _ = hub.session()
        await receive(older, hello)
        assert device.state().sources == []


async def test_a_batch_that_cannot_be_read_is_kept_and_rejected_under_its_number(tmp_path: Path) -> None:
    """Once: when it is sent again it is a duplicate. The batches after it are accepted."""
    async with running(tmp_path) as hub:
        session, outlet = await hub.connect(FIRST, 1)
        broken = b'{"type":"data","seq":1,"time":[1],"values":{"level":[1.0]},"extra":1}'
        device = hub.devices.device("d")
        for duplicates in (0, 1):
            assert session.receive(broken) is None
            await hub.journal.drain()
            assert (device.quarantined, device.duplicates) == (1, duplicates)
        await send(hub, session, 2)
        assert (device.quarantined, device.duplicates, device.batches, outlet.acked) == (1, 1, 1, 2)
        rejects = [(m.seq, m.code) for m in outlet.sent if isinstance(m, messages.Reject)]
        assert rejects == [(1, Code.BAD_MESSAGE)]
        (entry,) = await hub.journal.quarantine.page()
        assert (entry.seq, entry.payload) == (1, broken)


async def test_a_rejected_batch_is_reported_when_it_is_durable(tmp_path: Path) -> None:
    """With its number and code, before the acknowledgement; an accepted one is only acknowledged."""
    async with running(tmp_path) as hub:
        session, outlet = await hub.connect(FIRST, 1)
        sent = len(outlet.sent)
        await receive(session, messages.Data(1, [1], {"level": [1.0]}))
        await receive(session, messages.Data(2, [2], {"unknown": [1.0]}))
        assert len(outlet.sent) == sent
        await hub.journal.drain()
        reject, ack = outlet.sent[sent:]
        assert isinstance(reject, messages.Reject)
        assert (reject.seq, reject.code, ack) == (2, Code.UNKNOWN_METRIC, messages.Ack(2))


async def test_the_clock_of_a_device_is_that_of_the_best_exchange(tmp_path: Path) -> None:
    """The shortest round trip counts, of equal ones the newest, and after ten minutes any."""
    async with running(tmp_path) as hub:
        session, _ = await hub.connect(FIRST, 1)
        device = hub.devices.device("d")
        assert (device.clock_offset_ns, device.clock_error_ns) == (None, None)

        async def measure(sent_ns: int, round_trip_ns: int, ahead_ns: int) -> tuple[int | None, int | None]:
            hub.now_ns = sent_ns + round_trip_ns
            await receive(session, messages.TimeReply(sent_ns, sent_ns + round_trip_ns // 2 + ahead_ns))
            return device.clock_offset_ns, device.clock_error_ns

        assert await measure(1_000, 200, 50) == (50, 100)
        assert await measure(2_000, 300, 60) == (50, 100)
        assert await measure(3_000, 200, 70) == (70, 100)
        assert await measure(4_000, 100, 80) == (80, 50)
        last_ns = 4_100
        assert await measure(last_ns + CLOCK_SAMPLES_KEPT_NS - 400, 400, 90) == (80, 50)
        assert await measure(last_ns + CLOCK_SAMPLES_KEPT_NS - 399, 400, 90) == (90, 200)
        # The hub's clock was set back between probe and reply.
        assert await measure(CLOCK_SAMPLES_KEPT_NS * 3, -10, 7) == (2, 0)


async def test_batches_that_the_hub_had_lost_are_counted_as_repaired(tmp_path: Path) -> None:
    """The agent reports how far it had acknowledgements. Batches up to there are marked, so that the store compares
    them; later ones and those that the agent does not keep are not."""
    async with running(tmp_path) as hub:
        session, outlet = hub.session(has_status=True)
        await receive(session, messages.Hello("d", FIRST, 8, True, 0, metrics=[Metric("level", "float")]))
        await receive(session, messages.Status(1, 8, acked=5))
        await receive(session, messages.Gap(1, 2, "acknowledged before"))
        await send(hub, session, 3, 4, 5, 6, 7)
        device = hub.devices.device("d")
        assert (outlet.acked, device.durable.repaired, device.durable.lost, device.durable.batches) == (7, 3, 0, 5)
        entries = await hub.journal.read(0)
        assert [entry.seq for entry in entries if entry.reason == REPAIRED] == [3, 4, 5]
        assert [kind for kind, _ in hub.registry.events].count("hub lost batches") == 2
    async with running(tmp_path) as hub:
        assert hub.devices.device("d").repaired == 3
        assert [entry.reason for entry in await hub.journal.read(0)][1:] == [REPAIRED] * 3 + [None] * 2
