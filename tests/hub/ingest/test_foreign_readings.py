"""Frames of clients without the device protocol, with a real journal: durable, in order, and refused value by value."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from formats.rules import Rules
from hub.http.input_query import InputQuery, read_query
from hub.ingest import foreign_readings as module
from hub.ingest.foreign_readings import EPOCH, ForeignReadings, Presence, is_temporary
from hub.ingest.input_reader import InputReader
from hub.ingest.recent_readings import RecentReadings
from hub.ingest.request_keys import KeyedRequest, KeyReused
from hub.ingest.stored_frame import StoredFrame
from hub.model.batch import Entry, EntryKind, Series
from hub.model.identity import Identity, Role
from hub.model.journal import JournalFull
from hub.model.metric import MetricChange
from tests.conditions import until
from tests.hub.ingest.open_hub import Hub, connect_agent, running
from tests.tasks import running_task
from wire.errors import Code, WireError
from wire.model import Metric

DEVICE = Identity("t1", Role.DEVICE, "pump")
GATEWAY = Identity("t2", Role.GATEWAY, "p*")
JSON = Rules(format="json")


class Bench(NamedTuple):
    """A hub and its foreign readings."""

    hub: Hub
    readings: ForeignReadings

    def reader(self, identity: Identity = DEVICE, rules: Rules = JSON) -> InputReader:
        return self.readings.reader(identity, rules, "plain")

    async def store(
        self, payload: bytes, identity: Identity = DEVICE, rules: Rules = JSON, presence: Presence | None = None
    ) -> StoredFrame:
        return await self.readings.store(self.reader(identity, rules).source().read(payload, 9), presence)

    @property
    def values(self) -> list[Any]:
        """The stored values in the order of the journal."""
        return [v for entry in self.hub.durable if entry.batch for _, values in entry.batch.columns for v in values]

    @property
    def quarantined(self) -> list[Entry]:
        return [entry for entry in self.hub.durable if entry.kind is EntryKind.QUARANTINE]


@asynccontextmanager
async def bench(path: Path) -> AsyncIterator[Bench]:
    async with running(path) as hub:
        registry = hub.registry
        readings = ForeignReadings(
            hub.devices, hub.directory, known_type=partial(known_type, hub), known_unit=registry.declared_unit
        )
        registry.watch_series(hub.devices.replace_series)
        registry.watch_series(lambda series: readings.metric_changed(series.device, {series.metric, *series.names}))
        async with running_task(readings.run()):
            yield Bench(hub, readings)


def known_type(hub: Hub, device: str, metric: str) -> Any:
    series = hub.devices.device(device).metrics.get(metric)
    return series.type if isinstance(series, Series) else None


async def test_a_frame_is_durable_when_it_is_answered(tmp_path: Path) -> None:
    """Objects flatten, a list is a batch, times are kept, and the numbers of the device continue."""
    async with bench(tmp_path) as b:
        assert await b.store(b'{"air": {"temperature": 21.5, "on": true}, "time": 1700000000}') == StoredFrame(2)
        assert await b.store(b'[{"n": 1}, {"n": 2, "x": "a"}]') == StoredFrame(3)
        assert b.values == [21.5, True, 1, 2, "a"]
        assert [(entry.epoch, entry.seq) for entry in b.hub.durable] == [(EPOCH, 1), (EPOCH, 2), (EPOCH, 3)]
        first = b.hub.durable[0].batch
        assert first is not None
        assert [*first.times] == [1_700_000_000 * 10**9]
        assert b.hub.devices.device("pump").durable.readings == 5


async def test_refused_values_are_kept_and_their_neighbours_stored(tmp_path: Path) -> None:
    """The quarantine has the raw text with each reason, and the result names them."""
    async with bench(tmp_path) as b:
        await b.store(b'{"t": 1.5}')
        stored = await b.store(b'{"t": "warm", "h": 40}')
        assert (stored.readings, stored.refused_count) == (1, 1)
        [refused] = stored.refused
        assert (refused.metric, refused.value, refused.device) == ("t", "warm", "pump")
        [entry] = b.quarantined
        content = json.loads(entry.payload)
        assert base64.b64decode(content["payload_base64"]) == b'{"t": "warm", "h": 40}'
        assert (content["input"], content["partial"], content["device"]) == ("plain", True, "pump")
        assert content["refused"][0]["metric"] == "t"
        device = b.hub.devices.device("pump")
        assert (device.readings, device.quarantined_readings) == (2, 1)
        broken = await b.store(b'{"t": ')
        assert (broken.readings, broken.refused[0].code) == (0, "syntax")


async def test_a_value_that_validation_rejects_costs_itself(tmp_path: Path) -> None:
    """For example because the metric got another type meanwhile; the values beside it are stored."""
    async with running(tmp_path) as hub:
        readings = ForeignReadings(hub.devices, hub.directory)
        async with running_task(readings.run()):
            b = Bench(hub, readings)
            await hub.directory.declare("pump", [Metric("level", "string")])
            stored = await b.store(b'[{"level": 1, "flow": 1}, {"flow": 2}]')
            assert (stored.readings, stored.refused_count) == (2, 1)
            [refused] = stored.refused
            assert (refused.code, refused.metric, refused.value) == ("type_conflict", "level", "1.0")
            device = hub.devices.device("pump")
            assert (device.readings, device.quarantined_readings) == (2, 1)
            assert [entry.reason[0] for entry in b.quarantined if entry.reason] == ["type_conflict"]


async def test_a_new_device_that_never_connects_is_reported(tmp_path: Path) -> None:
    """Dashboards learn of it with its first reading, once, although it has no session."""
    async with bench(tmp_path) as b:
        await b.store(b'{"t": 1.5}')
        await b.store(b'{"t": 2.5, "h": 40}')
        assert b.hub.changed == ["pump"]
        assert b.hub.devices.device("pump").session is None


async def test_a_repeated_frame_is_stored_once(tmp_path: Path) -> None:
    """A client repeats a frame whose answer was lost: readings with a time of their own are known by time and value.
    The answer counts them. Another value at the same time, and readings without a time, are new."""
    async with bench(tmp_path) as b:
        frame = b'[{"time": 1700000000, "n": 1}, {"time": 1700000000, "n": 2}, {"time": 1700000001, "n": 3, "x": 4}]'
        assert await b.store(frame) == StoredFrame(4)
        assert await b.store(frame) == StoredFrame(4)
        assert await b.store(b'[{"time": 1700000001, "n": 3, "x": 5, "y": 6}]') == StoredFrame(3)
        assert await b.store(b'{"n": 3}') == await b.store(b'{"n": 3}') == StoredFrame(1)
        assert sorted(b.values) == [1, 2, 3, 3, 3, 4, 5, 6]


async def test_values_of_one_time(tmp_path: Path) -> None:
    """Another value is 1 ns later where the time is the newest one, and keeps the time behind a newer reading. A value
    that returns is taken for a repetition, except in one frame."""
    async with bench(tmp_path) as b:
        for second, value in ((0, 1), (0, 2), (0, 1), (5, 3), (0, 4)):
            await b.store(b'{"time": %d, "n": %d}' % (1_700_000_000 + second, value))
        times = [int(time) for entry in b.hub.durable if entry.batch for time in entry.batch.times]
        start_ns = 1_700_000_000 * 10**9
        assert b.values == [1, 2, 3, 4]
        assert times == [start_ns, start_ns + 1, start_ns + 5 * 10**9, start_ns]
        same = [{"time": 1_700_000_009, "n": value} for value in (1, 2, 1)]
        await b.store(json.dumps(same).encode())
        assert b.values[4:] == [1, 2, 1]


async def test_a_repeated_frame_is_known_after_a_restart(tmp_path: Path) -> None:
    """The readings come from the end of the journal, where times that were taken are some ns later."""
    frame = b'[{"time": 1700000000, "n": 1}, {"time": 1700000000, "n": 2}]'
    async with bench(tmp_path) as b:
        await b.store(frame)
        recent = RecentReadings()
        for entry in b.hub.durable:
            recent.add_entry(entry)
        readings = ForeignReadings(b.hub.devices, b.hub.directory, recent=recent)
        async with running_task(readings.run()):
            restarted = Bench(b.hub, readings)
            assert await restarted.store(frame) == StoredFrame(2)
            assert restarted.values == [1, 2]


async def test_long_frames_of_one_time_are_known_after_a_restart(tmp_path: Path) -> None:
    """A program sends many readings of one millisecond, in several frames: each is stored 1 ns after the other, and
    every frame is recognised by the time that the program gave."""
    frames = [
        json.dumps([{"time": 1700000000, "n": number + 0.5} for number in range(begin, begin + count)]).encode()
        for begin, count in ((0, 40), (40, 3), (43, 40), (83, 1), (84, 40))
    ]
    frames.append(json.dumps([{"time": 1700000000 + n / 1000, "n": n} for n in range(40)]).encode())
    async with bench(tmp_path) as b:
        for frame in frames:
            await b.store(frame)
        stored = len(b.values)
        recent = RecentReadings(has_blocks=True)
        for entry in b.hub.durable:
            recent.add_entry(entry)
        readings = ForeignReadings(b.hub.devices, b.hub.directory, recent=recent)
        async with running_task(readings.run()):
            restarted = Bench(b.hub, readings)
            for frame in frames:
                await restarted.store(frame)
            assert len(restarted.values) == stored


async def test_a_frame_that_was_not_stored_is_not_a_repeated_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed commit the same frame is submitted again, and not taken for one that is stored."""
    async with bench(tmp_path) as b:
        frame = b'{"time": 1700000000, "t": 2.5}'
        await b.store(b'{"t": 1.5}')
        with monkeypatch.context() as broken:
            broken.setattr(b.hub.devices.journal, "when_durable", lambda done: done(JournalFull("no room")))
            with pytest.raises(WireError, match="no room"):
                await b.store(frame)
        submitted = b.hub.devices.device("pump").readings
        assert await b.store(frame) == StoredFrame(1)
        assert b.hub.devices.device("pump").readings == submitted + 1


async def test_a_frame_that_is_repeated_before_it_is_durable_is_stored_once(tmp_path: Path) -> None:
    """On the same connection and on others, with other frames between; every repetition is answered when it is durable.
    Equal readings in one frame are two."""
    async with bench(tmp_path) as b:
        frame, next_frame = b'{"time": 1700000000, "n": 1}', b'{"time": 1700000001, "n": 2}'
        twice = b'[{"time": 1700000002, "n": 3}, {"time": 1700000002, "n": 3}]'
        other = b'{"time": 1700000000, "n": 4}'
        payloads = (frame, frame, next_frame, frame, next_frame, twice, other, frame, twice)
        results = await asyncio.gather(*(b.store(payload) for payload in payloads))
        assert [result.readings for result in results] == [1, 1, 1, 1, 1, 2, 1, 1, 2]
        assert sorted(b.values) == [1, 2, 3, 3, 4]


async def test_many_repetitions_share_a_commit(tmp_path: Path) -> None:
    """The first frame has one commit, and all others the next one, with the frames of other devices."""
    async with bench(tmp_path) as b:
        reader = b.reader(GATEWAY)
        frames = [b'{"device": "p1", "time": 1700000000, "n": 1}'] * 50 + [b'{"device": "p2", "n": 1}'] * 50
        done = [b.readings.submit(reader.source().read(payload, 9)) for payload in frames]
        await asyncio.gather(*done)
        assert b.values.count(1) == 51
        assert len(b.hub.durable) == 2


async def test_a_repetition_of_a_frame_that_fails_is_not_taken_for_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit of the first fails while the repetition waits for the next one, which stores it."""
    async with bench(tmp_path) as b:
        await b.store(b'{"n": 1}')
        journal = b.hub.devices.journal
        when_durable, failures = journal.when_durable, [JournalFull("no room")]
        monkeypatch.setattr(
            journal, "when_durable", lambda done: done(failures.pop()) if failures else when_durable(done)
        )
        submitted = b.hub.devices.device("pump").readings
        source = b.reader().source()
        done = [b.readings.submit(source.read(b'{"time": 1700000000, "n": 2}', 9)) for _ in range(2)]
        first, second = await asyncio.gather(*done, return_exceptions=True)
        assert isinstance(first, WireError)
        assert second == StoredFrame(1)
        assert b.hub.devices.device("pump").readings == submitted + 2


async def test_a_repetition_of_a_refused_value_is_refused(tmp_path: Path) -> None:
    """Validation rejects the first one: its repetition is not counted as stored."""
    async with running(tmp_path) as hub:
        readings = ForeignReadings(hub.devices, hub.directory)
        async with running_task(readings.run()):
            b = Bench(hub, readings)
            await hub.directory.declare("pump", [Metric("level", "string")])
            frame = b'{"time": 1700000000, "level": 1}'
            results = await asyncio.gather(b.store(frame), b.store(frame))
            assert [(result.readings, result.refused_count) for result in results] == [(0, 1), (0, 1)]


async def test_frames_at_the_same_time_keep_their_order(tmp_path: Path) -> None:
    """Also those of several readers; they share commits, and each gets its own result."""
    async with bench(tmp_path) as b:
        results = await asyncio.gather(*(b.store(b'{"n": %d}' % number) for number in range(300)))
        assert results == [StoredFrame(1)] * 300
        assert b.values == [*range(300)]
        assert len(b.hub.durable) < 150
        assert [entry.seq for entry in b.hub.durable] == [*range(1, len(b.hub.durable) + 1)]
        assert {entry.epoch for entry in b.hub.durable} == {EPOCH}


async def test_a_frame_is_refused_as_a_whole_while_the_own_agent_is_connected(tmp_path: Path) -> None:
    """Nothing of it is stored for any of its devices, so that the client can send it again."""
    async with bench(tmp_path) as b:
        session = await connect_agent(b.hub)
        with pytest.raises(WireError, match="pump is connected already, through pump agent") as caught:
            await b.store(b'[{"device": "p2", "n": 1}, {"device": "pump", "n": 1}]', GATEWAY)
        assert (caught.value.code, is_temporary(caught.value)) == (Code.BUSY, True)
        assert b.hub.durable == []
        assert b.hub.devices.device("pump").agent == "pump agent"
        session.close("gone")
        assert (await b.store(b'[{"device": "p2", "n": 1}, {"device": "pump", "n": 1}]', GATEWAY)).readings == 2


async def test_a_description_that_was_not_stored_comes_with_the_next_frame(tmp_path: Path) -> None:
    """The unit of a metric is declared once, and must not be lost with the frame that had it."""
    async with bench(tmp_path) as b:
        session = await connect_agent(b.hub)
        with pytest.raises(WireError):
            await b.store(b'{"heat": "21.5 \xc2\xb0C"}')
        session.close("gone")
        await b.store(b'{"heat": "22.5 \xc2\xb0C"}')
        series = b.hub.registry.devices["pump"].series["heat"]
        assert series.unit == "°C"


async def test_a_value_with_another_unit_than_the_hub_has_is_refused(tmp_path: Path) -> None:
    """Two clients of one device cannot change the meaning of each other's values; a person can, by the remedy."""
    auto, csv = Rules(), Rules(format="csv")
    async with bench(tmp_path) as b:
        assert (await b.store(b"temp=20 C", rules=auto)).readings == 1
        other = await b.store(b"temp=68 F flow=3", GATEWAY, Rules(device="pump"))
        assert (other.readings, [refused.code for refused in other.refused]) == (1, ["unit"])
        assert other.refused[0].reason == "the unit is F, and temp has C in the hub: send values in C"
        ruled = await b.store(b'{"temp": 68}', rules=Rules(format="json", units={"temp": "F"}))
        table = await b.store(b"temp [F]\n68\n", rules=csv)
        senml = await b.store(
            b'[{"bn": "x:", "n": "temp", "u": "K", "v": 293}]', rules=Rules(format="senml", device="pump")
        )
        for stored in (ruled, table, senml):
            assert (stored.readings, stored.refused[0].code, stored.refused[0].metric) == (0, "unit", "temp")
        assert (await b.store(b"temp=21", GATEWAY, Rules(device="pump"))).readings == 1
        series = b.hub.registry.devices["pump"].series["temp"]
        assert (series.unit, b.values) == ("C", [20, 3, 21])
        assert other.refused[0].setting == "run `hub metric describe pump temp --unit F`"
        await b.hub.registry.change_metric("pump", "temp", MetricChange(unit="F"))
        assert (await b.store(b"temp=68 F", GATEWAY, Rules(device="pump"))).readings == 1
        assert "unit changed" not in dict(await b.hub.events())


async def test_two_units_of_one_commit_are_one_unit(tmp_path: Path) -> None:
    """The later client has to send its readings again, also those that it sent since, and then they are refused."""
    auto, gateway = Rules(), Rules(device="pump")
    async with bench(tmp_path) as b:
        read = [
            b.reader(DEVICE, auto).source().read(b"temp=20 C", 9),
            b.reader(GATEWAY, gateway).source().read(b"temp=68 F", 9),
            b.reader(GATEWAY, gateway).source().read(b"temp=69 F", 9),
        ]
        outcomes = await asyncio.gather(*map(b.readings.submit, read), return_exceptions=True)
        assert outcomes[0] == StoredFrame(1)
        assert [one.code for one in outcomes[1:] if isinstance(one, WireError)] == [Code.BUSY, Code.BUSY]
        again = await b.store(b"temp=69 F", GATEWAY, gateway)
        assert (again.readings, again.refused[0].code, b.values) == (0, "unit", [20])
        assert await b.store(b"temp=22", GATEWAY, gateway) == StoredFrame(1)


FOLLOWED = {
    "a text of a number": ([b'{"t": 1}'], b'{"t": "warm"}'),
    "a text of a number of the same frame": ([], b'[{"t": 1}, {"t": "a text"}]'),
    "a text of a boolean": ([b'{"t": true}'], b'{"t": "warm = hot & [\\"x\\"]"}'),
    "a number of a text": ([b'{"t": "warm"}'], b'{"t": 5}'),
    "a boolean of a text": ([b'{"t": "warm"}'], b'{"t": true}'),
    "a boolean of a number": ([b'{"t": 5}'], b'{"t": true}'),
    "a number of a boolean": ([b'{"t": true}'], b'{"t": 5}'),
    "a long number of a new metric": ([], b'{"t": 9007199254740993}'),
    "a long number of a known metric": ([b'{"t": 1}'], b'{"t": 9007199254740993}'),
    "a name with spaces": ([b'{"flow t+1%": 1}'], b'{"flow t+1%": "warm"}'),
    "a new name with spaces": ([], b'{"flow = t+1%": 9007199254740993}'),
    "a comma": ([], b'{"t": "1,234"}'),
    "no JSON": ([], b"t=5"),
}


@pytest.mark.parametrize("name", FOLLOWED)
async def test_every_remedy_leads_to_a_stored_value(tmp_path: Path, name: str) -> None:
    """A client that does what the refusal says has its value stored at once; no remedy leads to another refusal."""
    before, payload = FOLLOWED[name]
    async with bench(tmp_path) as b:
        for earlier in before:
            assert (await b.store(earlier)).refused_count == 0
        [refused] = (await b.store(payload)).refused
        for remedy in refused.setting.split(", or "):
            found = re.fullmatch(
                r"(?:run `hub metric retype (?P<change>.+)`)?(?: and )?(?:add (?P<query>\S+)(?: or .+)? to the URL)?",
                remedy,
            )
            assert found is not None, remedy
            rules = JSON if not found["query"] else read_query(found["query"].encode(), InputQuery).rules()
            if found["change"]:
                device, metric, type = shlex.split(found["change"])
                await b.hub.registry.change_metric(device, metric, MetricChange(type=type))  # type: ignore[arg-type]
            again = await b.store(payload.replace(b"}", b', "x": 1}') if b"}" in payload else payload, rules=rules)
            assert (again.readings > 0, again.refused_count, again.refused) == (True, 0, ())


async def test_values_beyond_the_limit_of_a_frame_are_refused_and_counted(tmp_path: Path) -> None:
    """The first ones are stored: together they are what was sent, in the answer and in the accounting."""
    async with bench(tmp_path) as b:
        lines = b"\n".join(b'{"time": %d, "m": %d}' % (1_769_860_800 + n, n) for n in range(6_000))
        assert len(lines) <= 256 * 1024
        stored = await b.store(lines)
        assert (stored.readings, stored.refused_count, [r.code for r in stored.refused]) == (5_000, 1_000, ["limit"])
        device = b.hub.devices.device("pump")
        assert (device.durable.readings, device.durable.quarantined_readings) == (5_000, 1_000)


async def test_a_credential_writes_as_its_devices_only(tmp_path: Path) -> None:
    """The device is that of the token, or of a field. Rows of other devices are refused one by one."""
    async with bench(tmp_path) as b:
        assert (await b.store(b'{"device": "pump", "n": 1}')).readings == 1
        mixed = await b.store(b'[{"device": "p1", "n": 1}, {"device": "q1", "n": 2}, {"n": 3}]', GATEWAY)
        assert (mixed.readings, mixed.refused_count) == (1, 2)
        assert "may not write as 'q1'" in mixed.refused[0].reason
        assert "nothing names the device" in mixed.refused[1].reason
        assert [entry.device for entry in b.quarantined] == ["plain"]
        before = len(b.hub.durable)
        for identity, payload in ((DEVICE, b'{"device": "p1", "n": 1}'), (GATEWAY, b'{"device": "q1", "n": 1}')):
            with pytest.raises(WireError) as caught:
                await b.store(payload, identity)
            assert caught.value.code is Code.NOT_ALLOWED
        assert len(b.hub.durable) == before
        templated = Rules(format="json", device="{site}-{id}")
        await b.store(b'{"site": "p", "id": 7, "n": 4}', GATEWAY, templated)
        assert b.hub.devices.device("p-7").readings == 1


async def test_what_one_credential_sends_teaches_no_other(tmp_path: Path) -> None:
    """A refused row of another token's device does not decide the types of that device."""
    async with bench(tmp_path) as b:
        with pytest.raises(WireError):
            await b.store(b'{"device": "q1", "n": "text"}', GATEWAY)
        assert (await b.store(b'{"n": 1}', Identity("t3", Role.DEVICE, "q1"))).readings == 1


async def test_names_of_a_refused_frame_take_no_room(tmp_path: Path) -> None:
    """A frame with more metrics than a device may have is refused: the metrics that it does not have stay possible."""
    wide = json.dumps({f"k{number}": number for number in range(2_000)}).encode()
    async with bench(tmp_path) as b:
        await b.store(b'{"a": 1, "b": 2}', Identity("t3", Role.DEVICE, "pump"))
        assert (await b.store(wide)).readings == 0
        assert len(b.hub.devices.device("pump").metrics) == 2
        assert await b.store(b'{"humidity": 1}') == StoredFrame(1)
        assert await b.store(b'{"a": 3}') == StoredFrame(1)


async def test_names_of_a_frame_that_was_not_stored_take_no_room(tmp_path: Path) -> None:
    """The own agent was connected: the hub got none of them."""
    wide = json.dumps({f"k{number}": number for number in range(1_024)}).encode()
    async with bench(tmp_path) as b:
        session = await connect_agent(b.hub)
        with pytest.raises(WireError):
            await b.store(wide)
        session.close("gone")
        assert await b.store(b'{"humidity": 1}') == StoredFrame(1)


async def test_every_format_with_its_rules(tmp_path: Path) -> None:
    """Rules are settings under their usual names; with "auto" each source detects its own format."""
    async with bench(tmp_path) as b:
        await b.store(b"a,b\n1,2\n3,4\n", rules=Rules(format="csv"))
        await b.store(b"weather,site=x t=1.5 1700000000000000000", rules=Rules(format="line"))
        auto = Rules()
        assert (await b.store(b'{"n": 5}', rules=auto)).readings == 1
        assert (await b.store(b"t=6 h=7", rules=auto)).readings == 2
        assert sorted(b.values) == [1, 1.5, 2, 3, 4, 5, 6, 7]


async def test_a_commit_that_fails_stores_nothing_and_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All frames of the commit get the error, and the next frame is stored."""
    async with bench(tmp_path) as b:
        await b.store(b'{"n": 1}')
        fail = partial(b.hub.devices.commit_failed, set(), JournalFull("there is no room"))
        monkeypatch.setattr(b.hub.devices.journal, "when_durable", lambda done: (fail(), done(JournalFull("no room"))))
        with pytest.raises(WireError) as caught:
            await b.store(b'{"n": 2}')
        assert (caught.value.code, is_temporary(caught.value)) == (Code.STORAGE_FULL, True)
        monkeypatch.undo()
        b.hub.devices.refusal = None
        assert (await b.store(b'{"n": 4}')).readings == 1


async def test_a_device_is_connected_while_one_of_its_connections_is_open(tmp_path: Path) -> None:
    """A request alone connects nobody, and a second connection of the device changes nothing."""
    async with bench(tmp_path) as b:
        await b.store(b'{"n": 1}')
        device = b.hub.devices.device("pump")
        assert (device.session, device.agent) == (None, "")
        first, second = Presence("plain"), Presence("plain")
        b.readings.attach(b.reader(), "pump", first)
        await until(lambda: device.session is not None)
        assert (device.state().connected, device.agent) == (True, "plain")
        await b.store(b'{"n": 2}', presence=second)
        b.readings.detach(first, "closed")
        assert device.state().connected
        b.readings.detach(second, "closed")
        b.readings.detach(second, "closed")
        assert not device.state().connected
        session = await connect_agent(b.hub)
        third = Presence("plain")
        b.readings.attach(b.reader(), "pump", third)
        with pytest.raises(WireError):
            await b.store(b'{"n": 3}', presence=third)
        b.readings.detach(third, "closed")
        assert device.session is session
        session.close("gone")
        await b.store(b'{"n": 4}', presence=third)
        assert (device.state().connected, device.readings) == (False, 3)


async def test_waiting_bytes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller waits for room, and gets it with the next commit."""
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 20)
    async with bench(tmp_path) as b:
        reader = b.reader()
        first = b.readings.submit(reader.source().read(b'{"long name": 12345}', 9))
        was_congested = b.readings.congested
        second = asyncio.ensure_future(b.store(b'{"n": 2}'))
        await asyncio.gather(first, second)
        assert (was_congested, b.readings.congested) == (True, False)
        assert b.values == [12345, 2]


async def test_a_round_has_a_bounded_number_of_readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the waiting frames has the next commit."""
    monkeypatch.setattr(module, "MAX_ROUND_READINGS", 2)
    async with bench(tmp_path) as b:
        await asyncio.gather(*(b.store(b'{"n": %d}' % number) for number in range(6)))
        assert [entry.batch.readings for entry in b.hub.durable if entry.batch] == [2, 2, 2]


async def test_frames_are_refused_when_the_hub_stops(tmp_path: Path) -> None:
    """Both a frame that waits, and a later one."""
    async with running(tmp_path) as hub:
        readings = ForeignReadings(hub.devices, hub.directory)
        reader = readings.reader(DEVICE, JSON, "plain")
        task = asyncio.create_task(readings.run())
        await asyncio.sleep(0)
        waiting = readings.submit(reader.source().read(b'{"n": 1}', 9))
        task.cancel()
        await asyncio.wait([task])
        later = readings.submit(reader.source().read(b'{"n": 1}', 9))
        for done in (waiting, later):
            assert isinstance(done.exception(), WireError)
        assert hub.durable == []


async def test_the_oldest_reader_is_dropped_at_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are kept; a changed token has a new one."""
    monkeypatch.setattr(module, "MAX_READERS", 2)
    async with bench(tmp_path) as b:
        first, second = b.reader(), b.reader(GATEWAY)
        assert b.reader() is first
        b.reader(rules=Rules(format="csv"))
        assert b.reader() is first
        assert b.reader(GATEWAY) is not second
        assert b.reader(DEVICE._replace(pattern="p2")) is not first


async def test_a_changed_metric_is_learned_anew(tmp_path: Path) -> None:
    """A person has retyped it: values of the new type are accepted."""
    async with bench(tmp_path) as b:
        await b.store(b'{"n": "a"}')
        assert (await b.store(b'{"n": 1}')).readings == 0
        series = Series(9, "pump", "n", "float")
        b.hub.devices.replace_series(series)
        b.readings.metric_changed("pump", {"n"})
        assert (await b.store(b'{"n": 1}')).readings == 1


async def test_frames_of_one_turn_share_a_commit(tmp_path: Path) -> None:
    """They become one batch where their metrics are the same."""
    async with bench(tmp_path) as b:
        reader = b.reader()
        source = reader.source()
        await b.hub.directory.declare("pump", [Metric("n")])
        done = [b.readings.submit(source.read(b'{"n": %d}' % number, 9)) for number in range(5)]
        await until(lambda: all(future.done() for future in done))
        assert len(b.hub.durable) == 1


async def test_a_defect_costs_the_frames_that_met_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets an error, and the next frame is stored."""
    async with bench(tmp_path) as b:
        with monkeypatch.context() as defect:
            defect.setattr(module, "group_rows", lambda rows: 1 / 0)
            with pytest.raises(WireError, match="its log says where"):
                await b.store(b'{"n": 1}')
        assert (await b.store(b'{"n": 2}')).readings == 1


async def test_a_frame_in_quarantine_is_decoded_again_by_its_own_rules(tmp_path: Path) -> None:
    """The values that are stored are left out, and the others accepted as far as the types of now allow."""
    async with bench(tmp_path) as b:
        rules = Rules(format="csv", delimiter=";", units={"t": "bar"})
        await b.store(b"t;h\n1;1\n", rules=rules)
        await b.store(b"t;h;u\nwarm;cold;3\n", rules=rules)
        [entry] = b.quarantined
        again = await b.readings.decode_again(entry)
        assert ([*again.batches], again.reason is None) == ([], False)
        b.hub.devices.replace_series(Series(9, "pump", "t", "string"))
        again = await b.readings.decode_again(entry)
        [(device, data)] = again.batches
        assert (device, data.values, data.time, data.historical) == ("pump", {"t": ["warm"]}, [7], True)
        rest = json.loads(again.rest)
        assert (rest["partial"], [refused["metric"] for refused in rest["refused"]]) == (True, ["h"])
        assert again.reason is not None
        assert again.reason[0] == "type"


async def test_a_retry_stores_no_value_of_another_record_again(tmp_path: Path) -> None:
    """A value of the same metric, which is stored, can be read under every type of the metric."""
    async with bench(tmp_path) as b:
        await b.store(b'{"t": 1.5}')
        await b.store(b'[{"time": 1700000002, "t": "abc"}, {"time": 1700000003, "t": 2.5}]')
        await b.store(b'[{"t": "abc"}, {"t": 2.5}]')
        timed, untimed = b.quarantined
        for entry in (timed, untimed):
            assert [*(await b.readings.decode_again(entry)).batches] == []
        b.hub.devices.replace_series(Series(9, "pump", "t", "string"))
        again = await b.readings.decode_again(timed)
        assert ([data.values for _, data in again.batches], again.reason) == (
            [{"t": ["abc"]}],
            ("type", again.reason and again.reason[1]),
        )
        # Without a time, it cannot be distinguished from the stored one.
        again = await b.readings.decode_again(untimed)
        assert ([*again.batches], again.reason) == ([], untimed.reason)


async def test_a_retry_gives_a_credential_no_device_of_others(tmp_path: Path) -> None:
    """A row that was denied stays in quarantine."""
    async with bench(tmp_path) as b:
        assert (await b.store(b'[{"device": "p1", "n": 1}, {"device": "q1", "n": 2}]', GATEWAY)).readings == 1
        [entry] = b.quarantined
        again = await b.readings.decode_again(entry)
        assert ([*again.batches], again.reason) == ([], entry.reason)


async def test_a_request_with_a_key_is_stored_once(tmp_path: Path) -> None:
    """Also when it is sent again at the same time, or after a restart; a retry gets the first result."""
    payload = b'{"n": 1, "t": "x"}'
    request = KeyedRequest.of(DEVICE, "k", payload)
    async with bench(tmp_path) as b:
        await b.store(b'{"t": 1}')
        source = b.reader().source()
        results = await asyncio.gather(*(b.readings.store_once(request, source.read(payload, 9)) for _ in range(5)))
        assert {(result.readings, result.refused_count) for result in results} == {(1, 1)}
        again = await b.readings.store_once(request, source.read(payload, 9))
        assert (again.readings, again.refused[0].metric) == (1, "t")
        with pytest.raises(KeyReused):
            await b.readings.store_once(KeyedRequest.of(DEVICE, "k", b"other"), source.read(b'{"n": 2}', 9))
        other = KeyedRequest.of(DEVICE, "k2", payload)
        assert (await b.readings.store_once(other, source.read(payload, 9))).readings == 1
        assert (b.values, len(b.quarantined)) == ([1, 1, 1], 2)
    async with bench(tmp_path) as b:
        assert (await b.readings.store_once(request, b.reader().source().read(payload, 9))).readings == 1
        assert b.hub.durable == []


async def test_a_key_of_a_request_that_failed_can_be_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is stored, so the client sends it again with the same key."""
    request = KeyedRequest.of(DEVICE, "k", b"")
    async with bench(tmp_path) as b:
        session = await connect_agent(b.hub)
        with pytest.raises(WireError):
            await b.readings.store_once(request, b.reader().source().read(b'{"n": 1}', 9))
        session.close("gone")
        assert (await b.readings.store_once(request, b.reader().source().read(b'{"n": 1}', 9))).readings == 1
        assert b.values == [1]


async def test_a_client_that_gives_up_leaves_its_request_to_a_retry(tmp_path: Path) -> None:
    """The request is stored, and the retry gets its result."""
    request = KeyedRequest.of(DEVICE, "k", b"")
    async with bench(tmp_path) as b:
        source = b.reader().source()
        first = asyncio.create_task(b.readings.store_once(request, source.read(b'{"n": 1}', 9)))
        await asyncio.sleep(0)
        first.cancel()
        assert (await b.readings.store_once(request, source.read(b'{"n": 1}', 9))).readings == 1
        assert b.values == [1]
