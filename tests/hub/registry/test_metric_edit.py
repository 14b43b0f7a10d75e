"""Edits of metrics: names, types and what a person set, in memory as in the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Series
from hub.model.metric import MetricChange
from hub.registry.database import RegistryError, open_database
from hub.registry.fleet import Fleet, select_fleet
from hub.registry.metric_edit import MAX_NAMES
from hub.registry.schema import create_tables
from tests.hub.registry.declarations import change_and_apply as change
from tests.hub.registry.declarations import declare_and_apply
from wire.errors import Code
from wire.model import Metric, MetricType


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = open_database(tmp_path / "registry.db")
    yield connection
    connection.close()


def test_a_renamed_metric_is_found_by_every_name(connection: apsw.Connection) -> None:
    """A device that declares an old name gets the renamed metric, also after a new read of the file."""
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a", Metric("t"), Metric("p"))
    renamed = change(connection, fleet, "t", MetricChange(name="temperature"))
    assert (renamed.metric, renamed.names, renamed.first_name) == ("temperature", ("t", "temperature"), "t")
    assert fleet.devices["a"].series.keys() == {"p", "temperature"}
    for known in (fleet, select_fleet(connection)):
        answer = declare_and_apply(connection, known, "a", Metric("t"))
        assert answer["t"] is answer["temperature"] is known.series[renamed.id]
        assert known.undeclared("a", [Metric("t"), Metric("temperature")]) is None
    assert change(connection, fleet, "t", MetricChange(name="t")).names == ("t", "temperature")


def test_a_name_that_is_or_was_taken_is_rejected(connection: apsw.Connection) -> None:
    """Otherwise readings of two metrics would mix."""
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a", Metric("t"), Metric("p"))
    change(connection, fleet, "t", MetricChange(name="temperature"))
    for name in ("temperature", "t"):
        with pytest.raises(RegistryError) as caught:
            change(connection, fleet, "p", MetricChange(name=name))
        assert caught.value.code is Code.BAD_MESSAGE
    with pytest.raises(KeyError):
        change(connection, fleet, "x", MetricChange(name="y"))


def test_names_are_bounded(connection: apsw.Connection) -> None:
    """A metric that had MAX_NAMES names can return to one of them only."""
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a", Metric("n0"))
    for number in range(1, MAX_NAMES):
        change(connection, fleet, f"n{number - 1}", MetricChange(name=f"n{number}"))
    with pytest.raises(RegistryError) as caught:
        change(connection, fleet, "n0", MetricChange(name="more"))
    assert caught.value.code is Code.TOO_MANY
    assert change(connection, fleet, "n0", MetricChange(name="n3")).metric == "n3"


def test_what_a_person_set_is_kept(connection: apsw.Connection) -> None:
    """A declaration changes only the unit and the description that no person has set."""
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a", Metric("t", unit="F"))
    change(connection, fleet, "t", MetricChange(unit="°C"))
    declared = Metric("t", unit="F", description="of the device")
    series = declare_and_apply(connection, fleet, "a", declared)["t"]
    assert isinstance(series, Series)
    assert (series.unit, series.description) == ("°C", "of the device")
    assert select_fleet(connection).undeclared("a", [declared]) is None


@given(st.lists(st.sampled_from(get_args(MetricType)), min_size=1, max_size=6))
def test_every_type_of_a_metric_is_known(types: list[MetricType]) -> None:
    """Each type once, in order of first use, whatever the changes; the newest one is current."""
    connection = apsw.Connection(":memory:")
    create_tables(connection)
    fleet = Fleet()
    declare_and_apply(connection, fleet, "a", Metric("t", types[0]))
    for type in types[1:]:
        change(connection, fleet, "t", MetricChange(type=type))
    for known in (fleet, select_fleet(connection)):
        series = known.devices["a"].series["t"]
        assert (series.type, series.types) == (types[-1], tuple(dict.fromkeys(types)))
