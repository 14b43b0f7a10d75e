from __future__ import annotations

import math
import sys
from collections.abc import Mapping

import hypothesis.strategies as st
from hypothesis import assume, given, settings
from line_protocol_parser import parse_line

from hub.model.batch import Batch, Series
from hub.storage.influxdb.line import MAX_TIME_NS, column_texts, field_of, lines, prefix_of
from hub.storage.influxdb.naming import Naming, Place
from tests.hub.storage.readings import SERIES, VALUES, batches, exactly, readings_of
from wire.model import Value

NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from(" ,=\"'#_"), min_size=1, max_size=8
).map(
    # The parser of these tests takes backslashes otherwise than InfluxDB does, which other tests ask itself.
    lambda name: name.replace("\\", "/").strip() or "x"
)


@settings(max_examples=60)
@given(batches(list(SERIES.values())), NAMES, NAMES)
def test_what_is_encoded_is_parsed_back(content: Batch, kind: str, site: str) -> None:
    """A library that knows nothing of us finds the same readings: floats as floats, integers as integers."""
    naming = Naming(tags_of=lambda _: {"type": kind, "site": site})
    times = [int(time) for time in content.times]
    columns = []
    for series, values in content.columns:
        place = naming.place(series)
        columns.append(column_texts(field_of(place), series.type, values))
    encoded = lines(prefix_of(naming.place(SERIES["float"])), columns, times)
    found: dict[str, list[tuple[int, object]]] = {}
    # The parser has no NUL and no numbers so small, which InfluxDB has.
    assume(not any("\0" in line for line in encoded))
    readings = readings_of([content])
    assume(all(not 0 < abs(value) < sys.float_info.min for _, value in readings.get(SERIES["float"].id, [])))
    for line in encoded:
        point = parse_line(line)
        assert point["tags"] == {"device": "device", "site": site, "type": kind}
        assert point["measurement"] == naming.place(SERIES["float"]).measurement
        for field, value in point["fields"].items():
            found.setdefault(field, []).append((point["time"], value))
    expected = {
        series.metric: [(time, value) for time, value in part if not (isinstance(value, float) and math.isinf(value))]
        for series in SERIES.values()
        if (part := readings.get(series.id))
    }
    assert {field: sorted((time, exactly(value)) for time, value in part) for field, part in found.items()} == {
        field: sorted((time, exactly(value)) for time, value in part) for field, part in expected.items() if part
    }


def test_a_point_reads_as_the_documents_say() -> None:
    """Names in order, one line a row, integers with their mark, and a row without a value left out."""
    naming = Naming(tags_of=lambda _: {"type": "boiler", "site": "plant 3"})
    series = [Series(1, "b-1", "level", "float"), Series(2, "b-1", "starts", "integer")]
    values: tuple[list[Value], list[Value]] = ([1.5, 2, None], [7, None, None])
    columns = [
        column_texts(field_of(naming.place(one)), one.type, part) for one, part in zip(series, values, strict=True)
    ]
    assert lines(prefix_of(naming.place(series[0])), columns, [10, 11, 12]) == [
        r"boiler,device=b-1,site=plant\ 3,type=boiler level=1.5,starts=7i 10",
        r"boiler,device=b-1,site=plant\ 3,type=boiler level=2.0 11",
    ]


TAGS: Mapping[str, str] = {"type": "boiler", "site": "north", "time": "x", "empty": ""}
LEVEL = Series(1, "b-1", "level", "float", unit="m")


def test_templates_name_the_places() -> None:
    """The device's kind is the measurement, its tags are tags, and each part can be another."""
    assert Naming(tags_of=lambda _: TAGS).place(LEVEL) == Place(
        "boiler", (("device", "b-1"), ("site", "north"), ("time_", "x"), ("type", "boiler")), "level"
    )
    assert Naming(tags_of=lambda _: {}).place(LEVEL) == Place("telemetry", (("device", "b-1"),), "level")
    narrow = Naming(
        measurement="{metric}",
        field="value",
        tags=["s*", "unit={unit}", "plant={tag.plant:none}"],
        tags_of=lambda _: TAGS,
    )
    assert narrow.place(LEVEL) == Place(
        "level", (("device", "b-1"), ("plant", "none"), ("site", "north"), ("unit", "m")), "value"
    )


@given(st.sets(st.text("ab\\_ ,=time#", min_size=1, max_size=6), min_size=2, max_size=12))
def test_no_two_metrics_become_one(metrics: set[str]) -> None:
    """Whatever has to be changed in a name for InfluxDB: it stays another than all others."""
    series = [Series(place, "d", metric, "float") for place, metric in enumerate(metrics)]
    wide = Naming(tags_of=lambda _: {})
    narrow = Naming(measurement="{metric}", field="value", tags_of=lambda _: {})
    assert len({wide.place(one).field for one in series}) == len(series)
    assert len({narrow.place(one).measurement for one in series}) == len(series)


def test_the_last_time_is_influxdbs() -> None:
    """One nanosecond before the end of an int64."""
    assert MAX_TIME_NS == 2**63 - 2


def test_all_values_of_a_type_have_texts() -> None:
    """Except for infinities."""
    assert set(VALUES) == {"float", "integer", "boolean", "string"}
    assert column_texts("f=", "float", [1.0, math.inf, -math.inf, math.nan, None]) == ["f=1.0", None, None, None, None]
