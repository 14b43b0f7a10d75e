from __future__ import annotations

import math
import sys
from collections.abc import Mapping

import hypothesis.strategies as st
from hypothesis import assume, given, settings
from line_protocol_parser import parse_line

from hub.model.batch import Batch, Series
from hub.storage.influxdb.line_protocol import MAX_TIME_NS, column_texts, lines
from hub.storage.influxdb.series_naming import SeriesLocation, SeriesNaming
from tests.hub.storage.readings import SERIES, VALUES, batches, exactly, readings_of
from wire.model import Value

NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from(" ,=\"'#_"), min_size=1, max_size=8
).map(
    # The parser of these tests treats backslashes differently from InfluxDB; other tests use InfluxDB for them.
    lambda name: name.replace("\\", "/").strip() or "x"
)


@settings(max_examples=60)
@given(batches(list(SERIES.values())), NAMES, NAMES)
def test_encoded_readings_are_parsed_back(content: Batch, kind: str, site: str) -> None:
    """An independent library finds the same readings: floats as floats, integers as integers."""
    naming = SeriesNaming(tags_of=lambda _: {"type": kind, "site": site})
    times = [int(time) for time in content.times]
    columns = []
    for series, values in content.columns:
        place = naming.locate(series)
        columns.append(column_texts(place.field_key, series.type, values))
    encoded = lines(naming.locate(SERIES["float"]).line_prefix, columns, times)
    found: dict[str, list[tuple[int, object]]] = {}
    # Unlike InfluxDB, the parser accepts neither NUL nor such small numbers.
    assume(not any("\0" in line for line in encoded))
    # Neither accepts a later time; the store removes such a reading before.
    assume(max(times) <= MAX_TIME_NS)
    readings = readings_of([content])
    assume(all(not 0 < abs(value) < sys.float_info.min for _, value in readings.get(SERIES["float"].id, [])))
    for line in encoded:
        point = parse_line(line)
        assert point["tags"] == {"device": "device", "site": site, "type": kind}
        assert point["measurement"] == naming.locate(SERIES["float"]).measurement
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


def test_a_point_has_the_documented_form() -> None:
    """Names are sorted, each row is a line, integers have their mark, and a row without a value is left out."""
    naming = SeriesNaming(tags_of=lambda _: {"type": "boiler", "site": "plant 3"})
    series = [Series(1, "b-1", "level", "float"), Series(2, "b-1", "starts", "integer")]
    values: tuple[list[Value], list[Value]] = ([1.5, 2, None], [7, None, None])
    columns = [
        column_texts(naming.locate(item).field_key, item.type, part) for item, part in zip(series, values, strict=True)
    ]
    assert lines(naming.locate(series[0]).line_prefix, columns, [10, 11, 12]) == [
        r"boiler,device=b-1,site=plant\ 3,type=boiler level=1.5,starts=7i 10",
        r"boiler,device=b-1,site=plant\ 3,type=boiler level=2.0 11",
    ]


TAGS: Mapping[str, str] = {"type": "boiler", "site": "north", "time": "x", "empty": ""}
LEVEL = Series(1, "b-1", "level", "float", unit="m")


def test_templates_determine_the_location() -> None:
    """The device's type is the measurement, its tags are tags, and each part can be changed."""
    assert SeriesNaming(tags_of=lambda _: TAGS).locate(LEVEL) == SeriesLocation(
        "boiler", (("device", "b-1"), ("site", "north"), ("time_", "x"), ("type", "boiler")), "level"
    )
    assert SeriesNaming(tags_of=lambda _: {}).locate(LEVEL) == SeriesLocation(
        "telemetry", (("device", "b-1"),), "level"
    )
    narrow = SeriesNaming(
        measurement="{metric}",
        field="value",
        tags=["s*", "unit={unit}", "plant={tag.plant:none}"],
        tags_of=lambda _: TAGS,
    )
    assert narrow.locate(LEVEL) == SeriesLocation(
        "level", (("device", "b-1"), ("plant", "none"), ("site", "north"), ("unit", "m")), "value"
    )


@given(st.sets(st.text("ab\\_ ,=time#", min_size=1, max_size=6), min_size=2, max_size=12))
def test_no_two_metrics_become_one(metrics: set[str]) -> None:
    """Names that are changed for InfluxDB stay different from all others."""
    series = [Series(place, "d", metric, "float") for place, metric in enumerate(metrics)]
    wide = SeriesNaming(tags_of=lambda _: {})
    narrow = SeriesNaming(measurement="{metric}", field="value", tags_of=lambda _: {})
    assert len({wide.locate(item).field for item in series}) == len(series)
    assert len({narrow.locate(item).measurement for item in series}) == len(series)


def test_the_last_time_is_influxdbs() -> None:
    """It is one nanosecond before the end of an int64."""
    assert MAX_TIME_NS == 2**63 - 2


def test_all_values_of_a_type_have_texts() -> None:
    """Only infinities have none."""
    assert set(VALUES) == {"float", "integer", "boolean", "string"}
    assert column_texts("f=", "float", [1.0, math.inf, -math.inf, math.nan, None]) == ["f=1.0", None, None, None, None]
