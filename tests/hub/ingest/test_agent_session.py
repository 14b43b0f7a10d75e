"""Sessions of agents on a real journal: the hello, older and newer connections, gaps, and a defect of a listener."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub.ingest.agent_session import CLOCK_SAMPLES_KEPT_NS, AgentSession
from hub.ingest.device import Devices
from hub.ingest.source_report import EVENT_BURST, REPORTS_KEPT
from hub.journal.journal import Journal
from hub.model.batch import REPAIRED, Entry, EntryKind, Series
from hub.model.journal import JournalFull
from wire import device as messages
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES
from wire.command import CommandDeclaration, CommandParameter
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
        self.times: dict[str, int] = {}
        self.declares = asyncio.Event()
        self.declares.set()

    async def allow(self, hello: messages.Hello) -> None:
        """Allow every agent."""

    async def declare_commands(self, device: str, commands: Sequence[CommandDeclaration], *, replace: bool) -> None:
        """Accept every command."""

    async def declare_settings(self, device: str, settings: Sequence[CommandParameter], *, replace: bool) -> None:
        """Accept every setting."""

    async def declare(self, device: str, metrics: Sequence[Metric]) -> Mapping[str, Series | WireError]:
        await self.declares.wait()
        if self.series.type == "integer" and Metric("level") in metrics:
            self.series = Series(1, "d", "level", "float")
        return {"level": self.series}

    def record(self, device: str, kind: str, detail: str, time_ns: int | None = None) -> None:
        self.events.append((kind, detail))
        if time_ns is not None:
            self.times[kind] = time_ns

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

    def session(self, *, has_status: bool = False, has_partial: bool = True) -> tuple[AgentSession, Outlet]:
        outlet = Outlet()
        session = AgentSession(
            self.devices,
            self.registry,
            outlet,
            format="json",
            hub="h",
            window=100,
            has_status=has_status,
            has_partial=has_partial,
        )
        return session, outlet

    async def connect(self, epoch: str, next_seq: int, *, has_partial: bool = True) -> tuple[AgentSession, Outlet]:
        session, outlet = self.session(has_partial=has_partial)
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


async def test_a_float_of_an_integer_metric_is_accepted_when_the_metric_is_float(tmp_path: Path) -> None:
    """The batch waits for the declaration, also one with a bad value beside the float; the next ones do not wait."""
    async with running(tmp_path) as hub:
        hub.registry.series = Series(1, "d", "level", "integer")
        session, outlet = await hub.connect(FIRST, 1)
        hub.registry.series = Series(1, "d", "level", "integer")
        hub.devices.device("d").metrics = {"level": hub.registry.series}
        await receive(session, messages.Data(1, [1], {"level": [1]}))
        step = session.receive(AGENT_MESSAGES["json"].encode(messages.Data(2, [2, 3], {"level": [2.5, True]})))
        assert step is not None
        assert hub.devices.device("d").received == 1
        await step()
        await send(hub, session, 3)
        assert (outlet.acked, hub.registry.series.type) == (3, "float")
        assert hub.devices.device("d").durable.readings == 3
        assert [entry.code for entry in hub.journal.quarantine.index.values()] == ["wrong_type"]


async def test_a_connection_that_ends_while_a_metric_is_widened_changes_nothing(tmp_path: Path) -> None:
    """The agent sends the batch again, to its next connection."""
    async with running(tmp_path) as hub:
        session, _ = await hub.connect(FIRST, 1)
        hub.registry.series = Series(1, "d", "level", "integer")
        hub.devices.device("d").metrics = {"level": hub.registry.series}
        step = session.receive(AGENT_MESSAGES["json"].encode(messages.Data(1, [2], {"level": [2.5]})))
        assert step is not None
        session.close("the connection broke")
        await step()
        assert hub.devices.device("d").received == 0


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


async def test_an_event_of_the_device_is_recorded_once(tmp_path: Path) -> None:
    """It has a number and is acknowledged like a batch, keeps the time of the device, and is no reading and no loss."""
    async with running(tmp_path) as hub:
        session, outlet = await hub.connect(FIRST, 3)
        event = messages.DeviceEvent(1, 77, "restarted", "/dev/ttyUSB0", "rst:0x1 (POWERON_RESET)")
        changes: list[int] = []
        hub.devices.watch_sources(lambda changed: changes.append(changed.state().events))
        await receive(session, event)
        await hub.journal.drain()
        await receive(session, event)
        await send(hub, session, 2)
        device = hub.devices.device("d")
        assert hub.registry.events[1:] == [("restarted", "/dev/ttyUSB0: rst:0x1 (POWERON_RESET)")]
        assert hub.registry.times == {"restarted": 77}
        assert changes == [1]
        assert outlet.acked == 2
        assert (device.batches, device.readings, device.lost, device.duplicates) == (1, 1, 0, 1)
        assert [entry.kind for entry in await hub.journal.read(0)] == [EntryKind.EVENT, EntryKind.BATCH]
    async with running(tmp_path) as hub:
        session, outlet = await hub.connect(FIRST, 3)
        assert hub.devices.device("d").received == 2


async def test_a_device_that_restarts_all_the_time_displaces_no_other_event(tmp_path: Path) -> None:
    """A burst is recorded, and then one event a minute with the number of the others."""
    async with running(tmp_path) as hub:
        session, outlet = await hub.connect(FIRST, 100)
        for seq in range(1, 41):
            await receive(session, messages.DeviceEvent(seq, seq, "restarted"))
        hub.now_ns += 61 * 10**9
        await receive(session, messages.DeviceEvent(41, 41, "restarted"))
        await hub.journal.drain()
        restarts = [detail for kind, detail in hub.registry.events if kind == "restarted"]
        assert len(restarts) == EVENT_BURST + 1
        assert restarts[-1] == " (30 events before it not recorded)"
        assert outlet.acked == 41


def refused(seq: int, count: int = 3, raw: str = "noise") -> messages.Refused:
    """A report of refused lines."""
    reasons = [
        messages.SourceRefusal("syntax", count - 1, "no JSON", raw),
        messages.SourceRefusal("time", 1, "no time"),
    ]
    return messages.Refused(seq, "port", 1, 2, reasons)


async def test_what_a_source_refused_is_counted_once_and_in_quarantine(tmp_path: Path) -> None:
    """Its report is acknowledged like a batch, and not rejected; sent again, it counts nothing."""
    async with running(tmp_path) as hub:
        session, outlet = await hub.connect(FIRST, 1)
        device = hub.devices.device("d")
        changes: list[int] = []
        hub.devices.watch_sources(lambda changed: changes.append(changed.state().source_refused))
        await send(hub, session, 1)
        await receive(session, refused(2))
        await hub.journal.drain()
        await receive(session, refused(2))
        await send(hub, session, 3)
        assert (device.source_refused, device.quarantined_readings, device.duplicates) == (3, 0, 1)
        assert changes == [3]
        assert outlet.acked == 3
        assert not [message for message in outlet.sent if isinstance(message, messages.Reject)]
        (entry,) = await hub.journal.quarantine.page(limit=10, max_bytes=1 << 20, before=1 << 50)
        assert entry.reason == (
            "source_refused", "3 lines or values refused by port: syntax 2 (no JSON), time 1 (no time)"
        )  # fmt: skip
        assert AGENT_MESSAGES["json"].decode(entry.payload) == refused(2)
    async with running(tmp_path) as hub:
        assert hub.devices.device("d").source_refused == 3


async def test_the_quarantine_keeps_the_last_reports_of_a_device(tmp_path: Path) -> None:
    """An older one leaves with the commit of a new one, also after a restart and a failed commit; the counts stay."""
    for first in (1, 31):
        async with running(tmp_path) as hub:
            session, _ = await hub.connect(FIRST, first)
            for seq in range(first, first + 30):
                await receive(session, refused(seq))
                await hub.journal.drain()
            device = hub.devices.device("d")
            index = hub.journal.quarantine.index
            assert [entry.code for entry in index.values()] == ["source_refused"] * REPORTS_KEPT
            assert list(index) == list(range(first + 30 - REPORTS_KEPT, first + 30))
            assert device.source_refused == 3 * (first + 29)
            device.roll_back()
            assert device.reports is None


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


async def test_a_device_that_only_guests_wrote_has_no_agent(tmp_path: Path) -> None:
    """An agent that does not name itself is one, so that its device is offline when it leaves."""
    async with running(tmp_path) as hub:
        agents = []
        for hello in (
            messages.Hello("d", SECOND, 1, True, 0, agent="importer/1", guest=True),
            messages.Hello("d", FIRST, 1, True, 0),
            messages.Hello("d", FIRST, 1, True, 0, agent="boiler/2"),
        ):
            session, _ = hub.session()
            await receive(session, hello)
            session.close("done")
            agents.append(hub.devices.device("d").state().agent)
        assert agents == ["", "unnamed agent", "boiler/2"]


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


BROKEN = (
    b'{"type":"data","seq":1,"time":[10,20,30,40],'
    b'"values":{"level":[1.5,"high",NaN,2.5],"speed":[7,null,8,9],"open":"yes"}}'
)
"""Two values are valid. The codec cannot read the frame at all: NaN is no JSON, and a column is no list."""


async def test_the_valid_values_of_a_batch_are_accepted_and_the_others_kept(tmp_path: Path) -> None:
    """In one commit, with one reject that names them; readings are counted, and a repetition changes nothing."""
    async with running(tmp_path) as hub:
        session, outlet = await hub.connect(FIRST, 1)
        sent = len(outlet.sent)
        for _ in range(2):
            session.receive(BROKEN)
            await hub.journal.drain()
        assert isinstance(reject := outlet.sent[sent], messages.Reject)
        assert (reject.seq, reject.code, reject.partial, reject.readings) == (1, Code.WRONG_TYPE, True, 6)
        assert [(c.metric, c.code, c.readings, c.rows) for c in reject.columns] == [
            ("level", Code.WRONG_TYPE, 1, [[1, 1]]),
            ("level", Code.NOT_FINITE, 1, [[2, 2]]),
            ("speed", Code.UNKNOWN_METRIC, 3, [[0, 0], [2, 3]]),
            ("open", Code.BAD_MESSAGE, 1, []),
        ]
        assert reject.message == "level is declared float but has str (row 1: high)"
        assert outlet.sent[sent + 1 :] == [messages.Ack(1), messages.Ack(1)]
        mark = hub.devices.device("d").durable
        assert (mark.seq, mark.batches, mark.readings, mark.duplicates) == (1, 1, 2, 0)
        assert (mark.quarantined, mark.quarantined_readings) == (4, 6)
        assert hub.devices.device("d").duplicates == 1
        entries = await hub.journal.read(0)
        assert {(entry.epoch, entry.seq) for entry in entries} == {(FIRST, 1)}
        (accepted,) = [entry for entry in entries if entry.kind is EntryKind.BATCH]
        assert accepted.batch is not None
        assert [(s.metric, list(values)) for s, values in accepted.batch.columns] == [("level", [1.5, None, None, 2.5])]
        kept = {entry.reason: json.loads(entry.payload) for entry in await hub.journal.quarantine.page()}
        speed = kept["unknown_metric", "speed was not declared (rows 0, 2 to 3, first 7)"]
        assert speed == {
            "type": "data",
            "seq": 1,
            "time": [10, 30, 40],
            "values": {"speed": [7, 8, 9]},
            "rows": [0, 2, 3],
        }
        codes = ("wrong_type", "not_finite", "unknown_metric", "bad_message")
        assert hub.journal.quarantine.totals == dict.fromkeys(codes, 1)
    async with Journal(tmp_path / "journal.db", keep_bytes=1 << 28, keep_seconds=60, max_bytes=1 << 30) as journal:
        assert journal.marks()["d"] == mark


async def test_an_older_agent_gets_the_reason_of_a_partial_reject_only(tmp_path: Path) -> None:
    """It would take an unknown field for an error. What is accepted is the same."""
    async with running(tmp_path) as hub:
        session, outlet = await hub.connect(FIRST, 1, has_partial=False)
        sent = len(outlet.sent)
        session.receive(BROKEN)
        await hub.journal.drain()
        reject = messages.Reject(1, Code.WRONG_TYPE, "level is declared float but has str (row 1: high)")
        assert outlet.sent[sent:] == [reject, messages.Ack(1)]
        assert hub.devices.device("d").durable.readings == 2


async def test_a_commit_that_fails_takes_back_the_values_and_the_refusals_of_a_batch(tmp_path: Path) -> None:
    """Nothing is counted, rejected or acknowledged, and the batch is accepted when it is sent again."""
    async with running(tmp_path) as hub:
        session, outlet = await hub.connect(FIRST, 1)
        device = hub.devices.device("d")
        sent = len(outlet.sent)
        session.receive(BROKEN)
        assert (device.readings, device.quarantined_readings) == (2, 6)
        hub.devices.commit_failed({device}, JournalFull("there is no room"))
        assert (device.received, device.readings, device.quarantined, device.quarantined_readings) == (0, 0, 0, 0)
        assert (outlet.sent[sent:], outlet.ended) == ([], [Code.STORAGE_FULL])


async def test_the_field_of_a_part_is_unknown_in_a_batch(tmp_path: Path) -> None:
    """Only the hub writes it, so a batch with it is rejected as a whole, like one with any unknown field."""
    async with running(tmp_path) as hub:
        session, outlet = await hub.connect(FIRST, 1)
        session.receive(b'{"type":"data","seq":1,"time":[1],"values":{"level":[1.0]},"rows":[5]}')
        await hub.journal.drain()
        assert [(m.code, m.partial) for m in outlet.sent if isinstance(m, messages.Reject)] == [
            (Code.BAD_MESSAGE, False)
        ]
        assert hub.devices.device("d").durable.readings == 0


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
