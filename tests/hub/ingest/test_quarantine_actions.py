"""Batches in quarantine on a real journal: validated again and accepted once, or deleted, also under concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.ingest import quarantine_actions
from hub.ingest.device import Devices
from hub.ingest.quarantine_actions import QuarantineActions, QuarantineSelection, first_that_fit
from hub.ingest.validate import decode_entry
from hub.journal.journal import Journal
from hub.journal.refusals import Refusals
from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.model.bridge import DecodedMessage
from hub.model.identity import Identity, Role
from hub.model.journal import QuarantinedEntry
from hub.model.store import STORE_REFUSED, RefusedReadings
from wire import device as messages
from wire.errors import Code, WireError
from wire.model import Metric, MetricType, Value

OPERATOR = Identity("k3vq", Role.OPERATOR)
ALL = QuarantineSelection()


class Desk:
    """The quarantine's work with its journal and commit loop; what was committed, and what was recorded of it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.metrics: dict[str, Series] = {}
        self.declared: list[Metric] = []
        self.shown: list[Entry] = []
        self.events: list[tuple[str | None, str, str]] = []
        self.submitted = asyncio.Event()
        self.devices = Devices(
            journal,
            clock=self._clock,
            on_committed=self.shown.extend,
            latest_time_ns=lambda series: series.last_time_ns,
        )
        self.work = QuarantineActions(
            self.devices,
            metrics_of=lambda _: self.metrics,
            declare=self._declare,
            record=lambda device, _, kind, detail: self.events.append((device, kind, detail)),
            decode_message=self._decode,
        )
        self.decoded = DecodedMessage()

    async def _decode(self, entry: Entry) -> DecodedMessage:
        return self.decoded

    async def _declare(self, device: str, metrics: Sequence[Metric]) -> None:
        self.declared += metrics
        for metric in metrics:
            self.metrics[metric.name] = Series(self.metrics[metric.name].id, device, metric.name, metric.type)

    def _clock(self) -> int:
        """Is asked for each batch that is handed over."""
        self.submitted.set()
        return 99

    def declare(self, *names: str) -> None:
        self.metrics = {name: Series(number, "d", name, "float") for number, name in enumerate(names, 1)}

    async def refuse(self, *names: str, code: str = "unknown_metric", device: str = "d", time_ns: int = 5) -> None:
        """Puts a batch with a reading of each name into quarantine, one after the other."""
        for seq, name in enumerate(names, 1):
            payload = msgspec.json.encode({"type": "data", "seq": seq, "time": [time_ns], "values": {name: [1.5]}})
            reason = (code, "not now")
            entry = Entry(EntryKind.QUARANTINE, device, "e", seq, 1, "json", payload, reason=reason)
            await self.journal.append([entry], [])


@asynccontextmanager
async def open_desk(path: Path) -> AsyncIterator[Desk]:
    async with Journal(path / "journal.db", keep_bytes=1 << 28, keep_seconds=60, max_bytes=1 << 30) as journal:
        desk = Desk(journal)
        yield desk


async def test_a_batch_that_is_valid_now_becomes_historical(tmp_path: Path) -> None:
    """Under its own number, counted for its device; it has left the quarantine, and the one who did it is kept."""
    async with open_desk(tmp_path) as desk:
        await desk.refuse("level")
        desk.declare("level")
        done = await desk.work.retry(ALL, OPERATOR)
        assert [(o.offset, o.reason, o.readings) for o in done.outcomes] == [(1, None, 1)]
        assert (done.next, dict(desk.journal.quarantine.index)) == (None, {})
        assert desk.events == [("d", "quarantine_retried", "1, offsets 1 to 1, by operator k3vq")]
        mark = desk.devices.device("d").durable
        assert (mark.batches, mark.readings, mark.seq) == (1, 1, 0)
    async with open_desk(tmp_path) as desk:
        desk.declare("level")
        (again,) = await desk.journal.read(1)
        assert (again.kind, again.device, again.epoch, again.seq) == (EntryKind.BATCH, "d", "e", 1)
        batch = decode_entry(again, desk.metrics)
        assert (list(batch.times), batch.historical) == ([5], True)
        assert (dict(desk.journal.quarantine.index), desk.devices.device("d").durable.readings) == ({}, 1)


async def test_a_message_of_a_broker_is_decoded_again(tmp_path: Path) -> None:
    """Valid values become history. Values that are still refused get an entry, with the time of arrival."""
    async with open_desk(tmp_path) as desk:
        await desk.refuse("level", code="type")
        desk.declare("level")
        batches = [(device, messages.Data(1, [7], {"level": [1.5]}, historical=True)) for device in ("d", "other")]
        desk.decoded = DecodedMessage(batches, ("number", "too large"), b"the rest")
        (outcome,) = (await desk.work.retry(ALL, OPERATOR)).outcomes
        assert (outcome.reason, outcome.readings) == (("number", "too large"), 2)
        refused, *retried = desk.shown
        assert refused.kind is EntryKind.QUARANTINE
        assert [(entry.device, entry.kind) for entry in retried] == [
            ("d", EntryKind.BATCH), ("other", EntryKind.BATCH), ("d", EntryKind.QUARANTINE)
        ]  # fmt: skip
        (rest,) = await desk.journal.quarantine.page(None, code=None, limit=10, before=1 << 50)
        assert (rest.payload, rest.reason, rest.received_ns) == (b"the rest", ("number", "too large"), 1)


async def test_a_message_without_a_refused_value_leaves(tmp_path: Path) -> None:
    """Its value has become a word for no value. Another one stays, with the newest reason."""
    async with open_desk(tmp_path) as desk:
        await desk.refuse("a", "b", code="type")
        desk.decoded = DecodedMessage(reason=("topic", "no subscription takes this topic"))
        report = await desk.work.retry(ALL, OPERATOR)
        assert [outcome.reason for outcome in report.outcomes] == 2 * [desk.decoded.reason]
        assert {entry.code for entry in desk.journal.quarantine.index.values()} == {"topic"}
        desk.decoded = DecodedMessage()
        report = await desk.work.retry(ALL, OPERATOR)
        assert [(outcome.reason, outcome.readings) for outcome in report.outcomes] == 2 * [(None, 0)]
        assert not desk.journal.quarantine.index


async def test_floats_widen_an_integer_metric_also_on_a_retry(tmp_path: Path) -> None:
    """Batches that an older version refused are accepted: the metric is declared as float first."""
    async with open_desk(tmp_path) as desk:
        await desk.refuse("level", code="wrong_type")
        desk.metrics = {"level": Series(1, "d", "level", "integer", "cm")}
        (outcome,) = (await desk.work.retry(ALL, OPERATOR)).outcomes
        assert (outcome.reason, desk.declared) == (None, [Metric("level", "float", "cm")])


async def test_a_changed_metric_retries_what_it_may_have_made_acceptable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only batches of the device, and of the reasons that a type or a name decides; in several calls, up to a bound."""
    monkeypatch.setattr(quarantine_actions, "RETRY_ENTRIES", 2)
    async with open_desk(tmp_path) as desk:
        for code in ("type_conflict", "empty", "wrong_type", "unknown_metric", "field_conflict"):
            await desk.refuse("level", code=code)
        await desk.refuse("level", code="wrong_type", device="other")
        desk.declare("level")
        report = await desk.work.retry_matching("d", OPERATOR)
        assert ([outcome.reason for outcome in report.outcomes], report.next) == ([None] * 4, None)
        left = [(entry.device, entry.code) for entry in desk.journal.quarantine.index.values()]
        assert left == [("d", "empty"), ("other", "wrong_type")]
        monkeypatch.setattr(quarantine_actions, "MATCHING_ENTRIES", 2)
        await desk.refuse(*(["level"] * 3), code="wrong_type")
        report = await desk.work.retry_matching("d", OPERATOR)
        assert (len(report.outcomes), report.next is not None) == (2, True)


async def test_a_changed_metric_retries_each_entry_once(tmp_path: Path) -> None:
    """The part of an entry that is still refused is a newer entry, and waits for the next retry."""
    async with open_desk(tmp_path) as desk:
        await desk.refuse("level", code="type")
        desk.declare("level")
        batch = messages.Data(1, [7], {"level": [1.5]}, historical=True)
        desk.decoded = DecodedMessage([("d", batch)], ("type", "no number"), b"the rest")
        report = await desk.work.retry_matching("d", OPERATOR)
        assert ([outcome.offset for outcome in report.outcomes], report.next) == ([1], None)
        assert [entry.code for entry in desk.journal.quarantine.index.values()] == ["type"]


async def test_a_metric_is_changed_also_while_no_data_are_accepted(tmp_path: Path) -> None:
    """The batches stay for a later retry, and the report says that there are some."""
    async with open_desk(tmp_path) as desk:
        await desk.refuse("level")
        desk.declare("level")
        desk.devices.refusal = WireError(Code.STORAGE_FAILED, "the disk failed")
        report = await desk.work.retry_matching("d", OPERATOR)
        assert (report.outcomes, report.next is not None) == ([], True)


async def test_the_values_that_are_valid_now_leave_the_quarantine_and_the_others_stay(tmp_path: Path) -> None:
    """In one transaction, under new entries with their rows of the batch. The next retry accepts only what is left, and
    accepted and quarantined readings stay the received ones."""
    frame = b'{"type":"data","seq":4,"time":[5,6,7],"values":{"level":[1.5,"high",2.5],"speed":[null,3,4]}}'
    async with open_desk(tmp_path) as desk:
        device = desk.devices.device("d")
        entry = Entry(EntryKind.QUARANTINE, "d", "e", 4, 1, "json", frame, reason=("unknown_metric", "not now"))
        device.count_quarantined(5)
        desk.journal.submit(device, entry)
        await desk.journal.drain()

        async def retry() -> list[tuple[str | None, int]]:
            done = await desk.work.retry(ALL, OPERATOR)
            assert device.durable.readings + device.durable.quarantined_readings == 5
            assert device.durable.quarantined == len(desk.journal.quarantine.index)
            return [(outcome.reason[0] if outcome.reason else None, outcome.readings) for outcome in done.outcomes]

        assert await retry() == [("unknown_metric", 0)]
        desk.declare("level")
        assert await retry() == [("wrong_type", 2)]
        assert (device.durable.readings, device.durable.quarantined_readings) == (2, 3)
        kept = [(e.reason, e.payload) for e in await desk.journal.quarantine.page()]
        assert [reason for reason, _ in kept] == [
            ("unknown_metric", "speed was not declared (rows 1 to 2, first 3)"),
            ("wrong_type", "level is declared float but has str (row 1: high)"),
        ]
        assert msgspec.json.decode(kept[0][1])["rows"] == [1, 2]
        assert await retry() == [("wrong_type", 0), ("unknown_metric", 0)]
        assert [(e.reason, e.payload) for e in await desk.journal.quarantine.page()] == kept
        desk.declare("level", "speed")
        assert await retry() == [("wrong_type", 0), (None, 2)]
        assert (device.durable.readings, device.durable.quarantined_readings) == (4, 1)
        accepted = [decode_entry(e, desk.metrics) for e in await desk.journal.read(1) if e.kind is EntryKind.BATCH]
        assert [(list(batch.times), batch.historical, batch.readings) for batch in accepted] == [
            ([5, 6, 7], True, 2),
            ([6, 7], True, 2),
        ]


async def test_a_batch_that_stays_invalid_has_its_newest_reason(tmp_path: Path) -> None:
    """The others are accepted all the same."""
    async with open_desk(tmp_path) as desk:
        await desk.refuse("level", "speed", "open")
        desk.declare("level", "speed")
        desk.metrics["speed"].type = "string"
        done = await desk.work.retry(ALL, OPERATOR)
        assert [o.reason and o.reason[0] for o in done.outcomes] == [None, "wrong_type", "unknown_metric"]
        kept = {entry.offset: entry.reason for entry in await desk.journal.quarantine.page()}
        assert kept == {
            2: ("wrong_type", "speed is declared string but has float (row 0: 1.5)"),
            3: ("unknown_metric", "open was not declared (row 0: 1.5)"),
        }
        assert desk.journal.quarantine.totals == {"unknown_metric": 3}
        assert "1 stays: wrong_type" in desk.events[0][2]


async def test_concurrent_retries_accept_a_batch_once(tmp_path: Path) -> None:
    """Retries and deletions at the same time, some of them given up: each batch is accepted or deleted, never twice."""
    async with open_desk(tmp_path) as desk:
        await desk.refuse(*["level"] * 40)
        desk.declare("level")
        given_up = asyncio.create_task(desk.work.retry(ALL, OPERATOR))
        others = [asyncio.create_task(desk.work.retry(ALL, OPERATOR)) for _ in range(2)]
        deletion = asyncio.create_task(desk.work.delete(QuarantineSelection(up_to=10), OPERATOR))
        await desk.submitted.wait()
        given_up.cancel()
        await asyncio.wait([given_up, deletion, *others])
        await desk.journal.drain()
        await desk.work.retry(ALL, OPERATOR)
        accepted = [entry.seq for entry in desk.shown if entry.kind is EntryKind.BATCH]
        assert len(accepted) == len(set(accepted)) == 40 - deletion.result()
        assert desk.devices.device("d").durable.readings == len(accepted)
        assert dict(desk.journal.quarantine.index) == {}


async def test_readings_refused_by_the_store_keep_their_times(tmp_path: Path) -> None:
    """A store that gets such a reading twice finds it to be the same; at the door a time that is taken is moved."""
    async with open_desk(tmp_path) as desk:
        await desk.refuse("level", code="store_refused")
        await desk.refuse("level", code="field_conflict")
        await desk.refuse("level", code="unknown_metric")
        desk.declare("level")
        desk.metrics["level"].reach(5)
        await desk.work.retry(ALL, OPERATOR)
        batches = [entry for entry in desk.shown if entry.kind is EntryKind.BATCH]
        times = [decode_entry(entry, desk.metrics).times for entry in batches]
        assert times == [[5], [5], [6]]
        assert desk.devices.device("d").durable.moved == 1


async def test_one_call_is_bounded_and_returns_where_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that stay are not tried twice, and the last call reports that it was the last."""
    monkeypatch.setattr("hub.ingest.quarantine_actions.RETRY_ENTRIES", 2)
    async with open_desk(tmp_path) as desk:
        await desk.refuse("level", "open", "level", "open", "level")
        desk.declare("level")
        rounds = []
        after: int | None = 0
        while after is not None:
            done = await desk.work.retry(QuarantineSelection(after=after), OPERATOR)
            rounds.append([o.offset for o in done.outcomes])
            after = done.next
        assert rounds == [[1, 2], [3, 4], [5]]
        assert list(desk.journal.quarantine.index) == [2, 4]


async def test_only_what_is_meant_is_deleted(tmp_path: Path) -> None:
    """By device, by code, up to what the one who asks has seen; in the end all."""
    async with open_desk(tmp_path) as desk:
        await desk.refuse("a", "b", device="d")
        await desk.refuse("a", "b", device="e", code="empty")
        assert await desk.work.delete(QuarantineSelection(device="d", up_to=1), OPERATOR) == 1
        assert await desk.work.delete(QuarantineSelection(code="empty", after=3), OPERATOR) == 1
        assert list(desk.journal.quarantine.index) == [2, 3]
        assert await desk.work.delete(ALL, OPERATOR) == 2
        assert await desk.work.delete(ALL, OPERATOR) == 0
        assert [event[:2] for event in desk.events] == [
            ("d", "quarantine_deleted"),
            ("e", "quarantine_deleted"),
            (None, "quarantine_deleted"),
        ]
    async with open_desk(tmp_path) as desk:
        assert dict(desk.journal.quarantine.index) == {}


async def test_nothing_is_retried_while_the_hub_accepts_no_data(tmp_path: Path) -> None:
    """A retry fails with the same reason as an agent's hello."""
    async with open_desk(tmp_path) as desk:
        await desk.refuse("level")
        desk.declare("level")
        desk.devices.refusal = WireError(Code.STORAGE_FAILED, "the disk failed")
        with pytest.raises(WireError, match="the disk failed"):
            await desk.work.retry(ALL, OPERATOR)
        assert list(desk.journal.quarantine.index) == [1]


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 8), st.integers(0, 100))
def test_a_call_takes_what_fits(sizes: list[int], max_entries: int, max_bytes: int) -> None:
    """The first ones within both bounds, at least one, and as many as possible."""
    held = [QuarantinedEntry(offset, "d", "empty", 0, size) for offset, size in enumerate(sizes, 1)]
    chosen = first_that_fit(held, max_entries, max_bytes)
    assert chosen == held[: len(chosen)]
    assert min(1, len(held)) <= len(chosen) <= max_entries
    assert len(chosen) <= 1 or sum(one.size_bytes for one in chosen) <= max_bytes
    following = held[: len(chosen) + 1]
    assert (
        len(following) > max_entries or len(chosen) == len(held) or sum(one.size_bytes for one in following) > max_bytes
    )


async def test_readings_that_a_store_refused_are_accepted_as_they_were(tmp_path: Path) -> None:
    """Every type keeps its values: missing ones, large integers and exact times."""
    async with open_desk(tmp_path) as desk:
        types: dict[str, MetricType] = {"f": "float", "i": "integer", "b": "boolean", "s": "string"}
        desk.metrics = {name: Series(id, "d", name, type) for id, (name, type) in enumerate(types.items(), 1)}
        values: dict[str, list[Value]] = {
            "f": [0.1, None],
            "i": [2**63 - 1, 1],
            "b": [None, True],
            "s": ["", "a\n\U0001f600"],
        }
        batch = Batch([7, 2**62 + 1], [(desk.metrics[name], column) for name, column in values.items()], readings=6)
        entry = Entry(EntryKind.BATCH, "d", "e", 4, 1, "msgpack", b"", batch=batch, offset=1)
        await Refusals(desk.journal, "store").keep([RefusedReadings(entry, batch, STORE_REFUSED, "no room for this")])
        done = await desk.work.retry(ALL, OPERATOR)
        assert [outcome.readings for outcome in done.outcomes] == [6]
        (again,) = await desk.journal.read(1)
        decoded = decode_entry(again, desk.metrics)
        assert (list(decoded.times), decoded.historical, again.seq) == ([7, 2**62 + 1], True, 4)
        assert {series.metric: list(column) for series, column in decoded.columns} == values
