"""Devices and series: stable ids, stable types, and a memory that equals the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Series
from hub.registry import fleet as fleets
from hub.registry.database import RegistryError, open_database, transaction
from hub.registry.fleet import SEEN_RESOLUTION_NS, Fleet, reserve_series, select_fleet, update_facts
from hub.registry.schema import create_tables
from tests.hub.registry.declarations import declare_and_apply
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


def facts(series: Series) -> tuple[object, ...]:
    return series.id, series.device, series.metric, series.type, series.unit, series.description, series.types


@given(declarations)
def test_memory_equals_the_file(said: list[tuple[str, list[Metric]]]) -> None:
    """After any declarations: the first type, or float after integer, and the latest unit of a type that fits; ids from
    1 without gaps; the same after a new read."""
    connection = apsw.Connection(":memory:")
    create_tables(connection)
    fleet = Fleet()
    types: dict[tuple[str, str], str] = {}
    units: dict[tuple[str, str], str] = {}
    objects: dict[tuple[int, str], Series] = {}
    for device, declared in said:
        declare_and_apply(connection, fleet, device, *declared)
        for metric in declared:
            key = (device, metric.name)
            known = types.setdefault(key, metric.type)
            if {known, metric.type} == {"integer", "float"}:
                types[key] = "float"
            if known == metric.type or {known, metric.type} == {"integer", "float"}:
                units[key] = metric.unit
        for series in fleet.series.values():
            assert objects.setdefault((series.id, series.type), series) is series
    assert {(s.device, s.metric): s.type for s in fleet.series.values()} == types
    assert {(s.device, s.metric): s.unit for s in fleet.series.values()} == units
    assert sorted(fleet.series) == list(range(1, len(types) + 1))
    again = select_fleet(connection)
    assert {id: facts(s) for id, s in again.series.items()} == {id: facts(s) for id, s in fleet.series.items()}
    assert again.devices.keys() == fleet.devices.keys() == {device for device, _ in said}


@given(declarations)
def test_a_repeated_declaration_writes_nothing(said: list[tuple[str, list[Metric]]]) -> None:
    """This also holds for a metric with a conflicting type."""
    connection = apsw.Connection(":memory:")
    create_tables(connection)
    fleet = Fleet()
    for device, declared in said:
        distinct = list({metric.name: metric for metric in declared}.values())
        declare_and_apply(connection, fleet, device, *distinct)
        assert fleet.undeclared(device, distinct) is None


def test_the_answer_has_every_metric_of_the_device(connection: apsw.Connection) -> None:
    """It includes metrics of earlier declarations, each the same object as before."""
    fleet = Fleet()
    first = declare_and_apply(connection, fleet, "a", Metric("t"))
    second = declare_and_apply(connection, fleet, "a", Metric("p", "integer"))
    assert second.keys() == {"t", "p"}
    assert second["t"] is first["t"]


def test_another_type_is_a_conflict(connection: apsw.Connection) -> None:
    """The first type and its unit stay; the answer holds an error for this metric and series for the others."""
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a", Metric("t", "float", "°C"))
    answer = declare_and_apply(connection, fleet, "a", Metric("t", "string", "K"), Metric("p"))
    conflict = answer["t"]
    assert isinstance(conflict, WireError)
    assert conflict.code is Code.TYPE_CONFLICT
    assert isinstance(answer["p"], Series)
    assert facts(fleet.devices["a"].series["t"])[3:5] == ("float", "°C")
    assert isinstance(declare_and_apply(connection, fleet, "a", Metric("t"))["t"], Series)


def test_an_integer_metric_becomes_float(connection: apsw.Connection) -> None:
    """The id stays; the series knows both types, and declarations of integer are for the float series from then on."""
    fleet = Fleet()
    before = declare_and_apply(connection, fleet, "a", Metric("t", "integer", "°C"))["t"]
    assert isinstance(before, Series)
    before.reach(5)
    after = declare_and_apply(connection, fleet, "a", Metric("t", "float", "°C"))["t"]
    assert isinstance(after, Series)
    assert (after.id, after.type, after.types, after.last_time_ns) == (before.id, "float", ("integer", "float"), 5)
    assert [part.type for part in before.parts] == ["integer", "float"]
    assert declare_and_apply(connection, fleet, "a", Metric("t", "integer", "°C"))["t"] is after
    assert facts(select_fleet(connection).series[after.id]) == facts(after)


def test_a_device_without_metrics_is_stored(connection: apsw.Connection) -> None:
    """An agent may connect before it has anything to measure."""
    fleet = Fleet()
    assert declare_and_apply(connection, fleet, "a") == {}
    assert fleet.undeclared("a", []) is None
    assert select_fleet(connection).devices["a"].first_seen_ns == 1


def test_a_device_has_a_bounded_number_of_metrics(connection: apsw.Connection) -> None:
    """The bound counts all declarations of the device; a declaration beyond it is rejected."""
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a", *(Metric(f"m{n}") for n in range(MAX_METRICS)))
    with pytest.raises(RegistryError) as caught:
        declare_and_apply(connection, fleet, "a", Metric("one more"))
    assert caught.value.code is Code.TOO_MANY
    declare_and_apply(connection, fleet, "a", Metric("m0", unit="K"))


@pytest.mark.parametrize(("bound", "value"), [("MAX_DEVICES", 2), ("MAX_SERIES", 2)])
def test_devices_and_series_are_bounded(
    connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    """New ones beyond the bound are rejected with TOO_MANY; existing ones still work."""
    monkeypatch.setattr(fleets, bound, value)
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a", Metric("t"))
    declare_and_apply(connection, fleet, "b", Metric("t"))
    with pytest.raises(RegistryError) as caught:
        declare_and_apply(connection, fleet, "c", Metric("t"))
    assert caught.value.code is Code.TOO_MANY
    declare_and_apply(connection, fleet, "a", Metric("t", unit="K"))


def test_a_retired_device_makes_room_and_keeps_its_series(
    connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not count while it is retired; back in service it counts again."""
    monkeypatch.setattr(fleets, "MAX_DEVICES", 2)
    fleet = Fleet()
    before = [facts(declare_and_apply(connection, fleet, id, Metric("t"))["t"]) for id in ("a", "b")]  # type: ignore[arg-type]
    fleets.retire(connection, ["a"], 7)
    fleet.retire(["a"], 7)
    assert fleet.in_service == 1
    declare_and_apply(connection, fleet, "c", Metric("t"))
    again = select_fleet(connection)
    assert (again.devices["a"].retired_ns, again.in_service) == (7, 2)
    assert [facts(again.devices[id].series["t"]) for id in ("a", "b")] == before
    again.restore("a")
    again.restore("b")
    taken = again.drain_facts()
    again.restore_facts(taken)
    assert again.drain_facts() == taken
    update_facts(connection, taken)
    assert again.drain_facts() == []
    assert [select_fleet(connection).in_service, again.in_service] == [3, 3]
    with pytest.raises(RegistryError):
        declare_and_apply(connection, again, "d")


def test_waiting_facts_do_not_undo_a_retirement(connection: apsw.Connection) -> None:
    """Only a device that returned afterwards is in service again."""
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a")
    fleet.describe("a", {"x": "y"}, "")
    waiting = fleet.drain_facts()
    fleets.retire(connection, ["a"], 7)
    fleet.retire(["a"], 7)
    update_facts(connection, waiting)
    assert select_fleet(connection).devices["a"].retired_ns == 7
    fleet.restore("a")
    fleets.retire(connection, ["a"], 9)
    fleet.retire(["a"], 9)
    update_facts(connection, fleet.drain_facts())
    assert select_fleet(connection).devices["a"].retired_ns == 9


def test_tags_and_agent_are_stored(connection: apsw.Connection) -> None:
    """They survive the process; the same tags again cause no write."""
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a")
    fleet.describe("a", {"room": "küche"}, "agent 1")
    update_facts(connection, fleet.drain_facts())
    again = select_fleet(connection)
    assert (again.devices["a"].tags, again.devices["a"].agent) == ({"room": "küche"}, "agent 1")
    again.describe("a", {"room": "küche"}, "agent 1")
    assert again.drain_facts() == []


def test_the_last_contact_is_stored_at_most_once_a_minute(connection: apsw.Connection) -> None:
    """Memory holds the exact time, which is stored at the end."""
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a")
    fleet.record_contact("a", SEEN_RESOLUTION_NS)
    assert fleet.drain_facts() == []
    fleet.record_contact("a", SEEN_RESOLUTION_NS + 1)
    update_facts(connection, fleet.drain_facts())
    assert select_fleet(connection).devices["a"].last_seen_ns == SEEN_RESOLUTION_NS + 1
    fleet.record_contact("a", SEEN_RESOLUTION_NS + 5)
    fleet.record_contact("a", SEEN_RESOLUTION_NS + 3)
    assert fleet.drain_facts() == []
    assert fleet.devices["a"].last_seen_ns == SEEN_RESOLUTION_NS + 5
    update_facts(connection, fleet.drain_facts(everything=True))
    assert select_fleet(connection).devices["a"].last_seen_ns == SEEN_RESOLUTION_NS + 5
    assert fleet.drain_facts(everything=True) == []


def test_facts_that_could_not_be_stored_wait(connection: apsw.Connection) -> None:
    """The next drain returns them again."""
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a")
    fleet.describe("a", {"x": "y"}, "")
    taken = fleet.drain_facts()
    fleet.restore_facts(taken)
    assert fleet.drain_facts() == taken


@pytest.mark.parametrize("use", [lambda fleet: fleet.record_contact("x", 1), lambda fleet: fleet.describe("x", {}, "")])
def test_only_declared_devices_have_facts(use: object) -> None:
    """An undeclared device is an error of the caller."""
    with pytest.raises(KeyError):
        use(Fleet())  # type: ignore[operator]


def test_reserved_ids_are_never_assigned(connection: apsw.Connection) -> None:
    """New series get ids after the reserved ones in every later run; existing series keep theirs."""
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a", Metric("t"))
    with transaction(connection):
        reserve_series(connection, 7)
        reserve_series(connection, 3)
    answer = declare_and_apply(connection, select_fleet(connection), "a", Metric("t"), Metric("p"), Metric("q"))
    assert [series.id for series in answer.values() if isinstance(series, Series)] == [1, 8, 9]
