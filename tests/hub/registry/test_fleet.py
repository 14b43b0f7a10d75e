"""Devices and series: numbers that stay, types that stay, memory that is what the file says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Series
from hub.registry import fleet as fleets
from hub.registry.database import SCHEMA, open_database, transaction
from hub.registry.errors import RegistryError
from hub.registry.fleet import SEEN_RESOLUTION_NS, Fleet, declare, reserve_series, select_fleet, update_facts
from wire.errors import Code, WireError
from wire.limits import MAX_METRICS
from wire.model import Metric, MetricType

metric_types: st.SearchStrategy[MetricType] = st.sampled_from(["float", "integer", "boolean", "string"])
metrics = st.builds(
    Metric,
    name=st.sampled_from(["t", "p", "°"]),
    type=metric_types,
    unit=st.sampled_from(["", "°C"]),
    description=st.just(""),
)
declarations = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.lists(metrics, max_size=4)), max_size=10)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = open_database(tmp_path / "registry.db")
    yield connection
    connection.close()


def say(connection: apsw.Connection, fleet: Fleet, device: str, *metrics: Metric) -> dict[str, Series | WireError]:
    """A declaration as the registry deals with it."""
    news = fleet.news(device, metrics)
    if news is not None:
        fleet.apply(declare(connection, device, news, 1))
    return fleet.answer(device, metrics)


def facts(series: Series) -> tuple[object, ...]:
    return series.id, series.device, series.metric, series.type, series.unit, series.description


@given(declarations)
def test_memory_is_what_the_file_says(said: list[tuple[str, list[Metric]]]) -> None:
    """After any declarations: first types, newest units, numbers from 1 without holes, the same when read again."""
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    fleet = Fleet()
    types: dict[tuple[str, str], str] = {}
    units: dict[tuple[str, str], str] = {}
    objects: dict[int, Series] = {}
    for device, declared in said:
        say(connection, fleet, device, *declared)
        for metric in declared:
            key = (device, metric.name)
            if types.setdefault(key, metric.type) == metric.type:
                units[key] = metric.unit
        for series in fleet.series.values():
            assert objects.setdefault(series.id, series) is series
    assert {(s.device, s.metric): s.type for s in fleet.series.values()} == types
    assert {(s.device, s.metric): s.unit for s in fleet.series.values()} == units
    assert sorted(fleet.series) == list(range(1, len(types) + 1))
    again = select_fleet(connection)
    assert {id: facts(s) for id, s in again.series.items()} == {id: facts(s) for id, s in fleet.series.items()}
    assert again.devices.keys() == fleet.devices.keys() == {device for device, _ in said}


@given(declarations)
def test_what_was_declared_is_no_news(said: list[tuple[str, list[Metric]]]) -> None:
    """Declaring the same again is never a reason to write, even with a type that conflicts."""
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    fleet = Fleet()
    for device, declared in said:
        distinct = list({metric.name: metric for metric in declared}.values())
        say(connection, fleet, device, *distinct)
        assert fleet.news(device, distinct) is None


def test_the_answer_has_every_metric_of_the_device(connection: apsw.Connection) -> None:
    """Also those of earlier declarations, each the same object as before."""
    fleet = Fleet()
    first = say(connection, fleet, "a", Metric("t"))
    second = say(connection, fleet, "a", Metric("p", "integer"))
    assert second.keys() == {"t", "p"}
    assert second["t"] is first["t"]


def test_another_type_is_a_conflict(connection: apsw.Connection) -> None:
    """The first type and its unit stay; the answer has an error for this metric and series for the others."""
    fleet = Fleet()
    say(connection, fleet, "a", Metric("t", "float", "°C"))
    answer = say(connection, fleet, "a", Metric("t", "string", "K"), Metric("p"))
    conflict = answer["t"]
    assert isinstance(conflict, WireError)
    assert conflict.code is Code.TYPE_CONFLICT
    assert isinstance(answer["p"], Series)
    assert facts(fleet.devices["a"].series["t"])[3:5] == ("float", "°C")
    assert isinstance(say(connection, fleet, "a", Metric("t"))["t"], Series)


def test_a_device_without_metrics_is_known(connection: apsw.Connection) -> None:
    """An agent may say hello before it has anything to measure."""
    fleet = Fleet()
    assert say(connection, fleet, "a") == {}
    assert fleet.news("a", []) is None
    assert select_fleet(connection).devices["a"].first_seen_ns == 1


def test_a_device_has_a_bounded_number_of_metrics(connection: apsw.Connection) -> None:
    """Over all its declarations; the one that goes beyond is refused."""
    fleet = Fleet()
    say(connection, fleet, "a", *(Metric(f"m{n}") for n in range(MAX_METRICS)))
    with pytest.raises(RegistryError) as caught:
        say(connection, fleet, "a", Metric("one more"))
    assert caught.value.code is Code.TOO_MANY
    say(connection, fleet, "a", Metric("m0", unit="K"))


@pytest.mark.parametrize(("bound", "value"), [("MAX_DEVICES", 2), ("MAX_SERIES", 2)])
def test_devices_and_series_are_bounded(
    connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    """What is beyond is refused with TOO_MANY; what is known goes on."""
    monkeypatch.setattr(fleets, bound, value)
    fleet = Fleet()
    say(connection, fleet, "a", Metric("t"))
    say(connection, fleet, "b", Metric("t"))
    with pytest.raises(RegistryError) as caught:
        say(connection, fleet, "c", Metric("t"))
    assert caught.value.code is Code.TOO_MANY
    say(connection, fleet, "a", Metric("t", unit="K"))


def test_a_retired_device_makes_room_and_is_known(connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not count; its series stay, in memory and in the file; and back in service it counts again."""
    monkeypatch.setattr(fleets, "MAX_DEVICES", 2)
    fleet = Fleet()
    before = [facts(say(connection, fleet, id, Metric("t"))["t"]) for id in ("a", "b")]  # type: ignore[arg-type]
    fleets.retire(connection, ["a"], 7)
    fleet.retire(["a"], 7)
    assert fleet.in_service == 1
    say(connection, fleet, "c", Metric("t"))
    again = select_fleet(connection)
    assert (again.devices["a"].retired_ns, again.in_service) == (7, 2)
    assert [facts(again.devices[id].series["t"]) for id in ("a", "b")] == before
    again.restore("a")
    again.restore("b")
    taken = again.take_facts()
    again.give_back(taken)
    assert again.take_facts() == taken
    update_facts(connection, taken)
    assert again.take_facts() == []
    assert [select_fleet(connection).in_service, again.in_service] == [3, 3]
    with pytest.raises(RegistryError):
        say(connection, again, "d")


def test_a_retirement_is_not_undone_by_facts_that_waited(connection: apsw.Connection) -> None:
    """Only what came back afterwards is in service again."""
    fleet = Fleet()
    say(connection, fleet, "a")
    fleet.describe("a", {"x": "y"}, "")
    waiting = fleet.take_facts()
    fleets.retire(connection, ["a"], 7)
    fleet.retire(["a"], 7)
    update_facts(connection, waiting)
    assert select_fleet(connection).devices["a"].retired_ns == 7
    fleet.restore("a")
    fleets.retire(connection, ["a"], 9)
    fleet.retire(["a"], 9)
    update_facts(connection, fleet.take_facts())
    assert select_fleet(connection).devices["a"].retired_ns == 9


def test_what_an_agent_says_of_itself_is_kept(connection: apsw.Connection) -> None:
    """Tags and agent outlive the process; saying the same again is no reason to write."""
    fleet = Fleet()
    say(connection, fleet, "a")
    fleet.describe("a", {"room": "küche"}, "agent 1")
    update_facts(connection, fleet.take_facts())
    again = select_fleet(connection)
    assert (again.devices["a"].tags, again.devices["a"].agent) == ({"room": "küche"}, "agent 1")
    again.describe("a", {"room": "küche"}, "agent 1")
    assert again.take_facts() == []


def test_last_seen_is_written_at_most_once_a_minute(connection: apsw.Connection) -> None:
    """In between it is known in memory; at the end it is written exactly."""
    fleet = Fleet()
    say(connection, fleet, "a")
    fleet.seen("a", SEEN_RESOLUTION_NS)
    assert fleet.take_facts() == []
    fleet.seen("a", SEEN_RESOLUTION_NS + 1)
    update_facts(connection, fleet.take_facts())
    assert select_fleet(connection).devices["a"].last_seen_ns == SEEN_RESOLUTION_NS + 1
    fleet.seen("a", SEEN_RESOLUTION_NS + 5)
    fleet.seen("a", SEEN_RESOLUTION_NS + 3)
    assert fleet.take_facts() == []
    assert fleet.devices["a"].last_seen_ns == SEEN_RESOLUTION_NS + 5
    update_facts(connection, fleet.take_facts(to_the_end=True))
    assert select_fleet(connection).devices["a"].last_seen_ns == SEEN_RESOLUTION_NS + 5
    assert fleet.take_facts(to_the_end=True) == []


def test_facts_that_could_not_be_written_wait(connection: apsw.Connection) -> None:
    """They are taken again the next time."""
    fleet = Fleet()
    say(connection, fleet, "a")
    fleet.describe("a", {"x": "y"}, "")
    taken = fleet.take_facts()
    fleet.give_back(taken)
    assert fleet.take_facts() == taken


@pytest.mark.parametrize("use", [lambda fleet: fleet.seen("x", 1), lambda fleet: fleet.describe("x", {}, "")])
def test_only_declared_devices_have_facts(use: object) -> None:
    """A device that nobody declared is a mistake of the caller's."""
    with pytest.raises(KeyError):
        use(Fleet())  # type: ignore[operator]


def test_reserved_ids_are_given_to_nobody(connection: apsw.Connection) -> None:
    """New series come after what is reserved, in every later run; what is known stays as it is."""
    fleet = Fleet()
    say(connection, fleet, "a", Metric("t"))
    with transaction(connection):
        reserve_series(connection, 7)
        reserve_series(connection, 3)
    answer = say(connection, select_fleet(connection), "a", Metric("t"), Metric("p"), Metric("q"))
    assert [series.id for series in answer.values() if isinstance(series, Series)] == [1, 8, 9]
