"""Names of series in InfluxDB: unambiguous in line protocol, made by templates, bounded in number."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from line_protocol_parser import parse_line

from hub.model.batch import Series
from hub.storage.influxdb.series_naming import (
    DIGEST_BYTES,
    MAX_KEY_BYTES,
    RESERVED_TAGS,
    SeriesNames,
    SeriesNaming,
    check_templates,
    clean_name,
)

names = st.text(st.sampled_from("ab\\_,= #\t"), min_size=1, max_size=6) | st.text(min_size=1, max_size=6)
FLOW = Series(1, "pump-1", "flow", "float", "m³/h")


def naming(device_tags: Mapping[str, str] | None = None, **options: object) -> SeriesNaming:
    given_tags = dict(device_tags or {})
    return SeriesNaming(tags_of=lambda _: given_tags, **options)  # type: ignore[arg-type]


@given(st.text(st.sampled_from("ab\\_,= "), max_size=8), st.text(st.sampled_from("ab\\_,= "), max_size=8))
def test_different_names_stay_different(one: str, other: str) -> None:
    """Otherwise two metrics would share a field."""
    assert (clean_name(one) == clean_name(other)) == (one == other)


@given(names)
def test_a_clean_name_is_not_cleaned_further(name: str) -> None:
    """It has no control character, and no backslash that line protocol would read as part of an escape."""
    clean = clean_name(name)
    assert not re.search(r"[\x00-\x1f\x7f]", clean)
    assert not re.search(r"\\([,= ]|\Z)", clean)


@given(
    st.text(st.sampled_from("ab\\_,= #"), min_size=1, max_size=6),
    st.dictionaries(
        st.sampled_from(["site", "a b", "x,y", "p=q", "time"]), st.sampled_from(["1", "a b", "c,d", "e=f"])
    ),
    st.sampled_from(["{metric}", "{device} {metric}", "{tag.site:none}"]),
)
def test_a_point_is_parsed_as_it_was_meant(metric: str, tags: dict[str, str], measurement: str) -> None:
    """A parser of line protocol finds the same measurement, tags and field, whatever characters they have."""
    assume(metric.strip())
    series = Series(1, "pump", metric, "float")
    location = naming(tags, measurement=measurement).locate(series)
    parsed = parse_line(f"{location.line_prefix} {location.field_key}1.0 1")
    assert (parsed["measurement"], parsed["tags"]) == (location.measurement, dict(location.tags))
    assert parsed["fields"] == {location.field: 1.0}


def test_by_default_devices_of_a_kind_share_a_measurement() -> None:
    """It is the tag `type`; all tags are kept in order, and `device` is always one of them."""
    found = naming({"type": "weather", "site": "north"}).locate(FLOW)
    assert (found.measurement, found.field) == ("weather", "flow")
    assert found.tags == (("device", "pump-1"), ("site", "north"), ("type", "weather"))
    assert naming().locate(FLOW).measurement == "telemetry"


def test_templates_choose_measurement_tags_and_field() -> None:
    """Patterns keep some tags, templates make others; a placeholder without a value has its default."""
    options: dict[str, object] = {
        "measurement": "{device}:{unit}",
        "field": "{metric}_{type}",
        "tags": ("room_*", "plant=north", "site={tag.site:none}", "zone={tag.zone}"),
    }
    found = naming({"room_a": "1", "floor": "2"}, **options).locate(FLOW)
    assert (found.measurement, found.field) == ("pump-1:m³/h", "flow_float")
    assert found.tags == (("device", "pump-1"), ("plant", "north"), ("room_a", "1"), ("site", "none"))


@pytest.mark.parametrize("name", sorted(RESERVED_TAGS))
def test_a_tag_with_a_name_of_influxdb_gets_another(name: str) -> None:
    """The readings of a device are found by its tag `device`, which no tag of the device may replace."""
    tags = dict(naming({name: "x"}).locate(FLOW).tags)
    assert tags == {"device": "pump-1", f"{name}_": "x"}


@pytest.mark.parametrize(("metric", "field"), [("time", "time_"), ("time_", "time__"), ("times", "times")])
def test_a_field_is_never_the_time_column(metric: str, field: str) -> None:
    """An underscore at the end keeps both apart."""
    assert naming().locate(Series(1, "d", metric, "float")).field == field


@pytest.mark.parametrize(("kind", "measurement"), [("#a", "_#a"), ("_#a", "__#a"), ("a#", "a#")])
def test_a_measurement_never_begins_a_comment(kind: str, measurement: str) -> None:
    """A line that begins with # is skipped by InfluxDB."""
    assert naming({"type": kind}).locate(FLOW).measurement == measurement


@given(st.text(st.sampled_from("ab\\_,= #("), max_size=5), st.text(st.sampled_from("ab\\_,= #("), max_size=5))
def test_every_measurement_of_a_series_matches_its_expression(kind: str, site: str) -> None:
    """History is found again after the device reported other tags."""
    for template in ("{tag.type:telemetry}", "a{tag.type}", "{tag.type}={device}", "{tag.type} {tag.site}\\"):
        made = naming({"type": kind, "site": site}, measurement=template)
        expression = made.measurements(FLOW)
        assert expression is not None
        assert re.search(expression, made.locate(FLOW).measurement), (template, expression)


def test_a_measurement_without_tags_needs_no_expression() -> None:
    """It is always the same; another measurement does not match where there is one."""
    assert naming(measurement="fixed").measurements(FLOW) is None
    expression = naming(measurement="a{tag.type}z").measurements(FLOW)
    assert expression is not None
    assert not re.search(expression, "b")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"measurement": ""}, "measurement: a template must not be empty"),
        ({"field": ""}, "field: a template must not be empty"),
        ({"field": "value"}, "{metric} must be in the template"),
        ({"field": "{name}"}, "field: there is no {name}; there are {device}"),
        ({"measurement": "{tag.}"}, "measurement: there is no {tag.}"),
        ({"measurement": "{device"}, "has a brace without its other half"),
        ({"tags": ("={device}",)}, "has no name"),
        ({"tags": ("device=x",)}, "tags: 'device' is taken"),
        ({"tags": ("a={tags.b}",)}, "tags: there is no {tags.b}"),
    ],
)
def test_a_template_that_cannot_work_is_rejected(options: dict[str, object], says: str) -> None:
    """The error names the setting."""
    given_options: dict[str, object] = {"measurement": "m", "tags": (), "field": "{metric}", **options}
    with pytest.raises(ValueError, match=re.escape(says)):
        check_templates(**given_options)  # type: ignore[arg-type]


def test_a_template_with_the_metric_in_the_measurement_may_have_one_field() -> None:
    """Each metric then has a measurement of its own."""
    check_templates(measurement="{metric}", tags=("*", "a={unit:none}"), field="value")


class Tags:
    """Tags of a device that can change, as a new object."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {"type": "a"}


def make_names(tags: Tags, limit: int, known: Mapping[str, bytes] | None = None) -> SeriesNames:
    return SeriesNames(SeriesNaming(tags_of=lambda _: tags.now), max_series_per_device=limit, known=known or {})


def test_a_name_changes_with_the_tags_and_the_number_of_names_is_bounded() -> None:
    """Beyond the bound a new name is refused with what to do, and an existing one stays usable."""
    tags = Tags()
    made = make_names(tags, 2)
    first = made.name_of(FLOW)
    assert (first.prefix, first.field, first.problem) == ("a,device=pump-1,type=a", "flow=", None)
    tags.now = {"type": "a"}
    assert made.name_of(FLOW).prefix == first.prefix
    tags.now = {"type": "b"}
    assert made.name_of(FLOW).problem is None
    tags.now = {"type": "c"}
    problem = made.name_of(FLOW).problem
    assert problem is not None
    assert (problem.code, "pump-1 already has 2 series in InfluxDB" in problem.message) == ("too_many", True)
    tags.now = {"type": "b"}
    assert made.name_of(FLOW).problem is None
    assert made.name_of(Series(9, "other", "flow", "float")).problem is None


def test_names_of_an_earlier_run_count() -> None:
    """The digests are kept joined, one after the other."""
    tags = Tags()
    before = make_names(tags, 2)
    before.name_of(FLOW)
    tags.now = {"type": "b"}
    before.name_of(FLOW)
    known = before.known()
    assert len(known["pump-1"]) == 2 * DIGEST_BYTES
    after = make_names(tags, 2, known)
    assert after.name_of(FLOW).problem is None
    tags.now = {"type": "c"}
    assert after.name_of(FLOW).problem is not None
    assert {device: len(digests) for device, digests in after.known().items()} == {"pump-1": 2 * DIGEST_BYTES}


def test_a_key_that_influxdb_would_refuse_is_refused_here() -> None:
    """Exactly the longest key is accepted."""
    tags = Tags()
    tags.now = {"long": ""}
    empty = make_names(tags, 9).name_of(FLOW)
    room = MAX_KEY_BYTES - len(empty.prefix.encode()) - len(empty.field) - len(",long=")
    for length, code in ((room, None), (room + 1, "out_of_range")):
        tags.now = {"long": "x" * length}
        problem = make_names(tags, 9).name_of(FLOW).problem
        assert (None if problem is None else problem.code) == code
