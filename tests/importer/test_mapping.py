"""Mappings: their files, their errors and their identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importer.mapping import (
    LineMapping,
    Mapping,
    TableMapping,
    check_mapping,
    epoch_of,
    mapping_of,
    mapping_text,
    read_mapping_file,
    zone_of,
)
from importer.records import MappingError
from wire.limits import MAX_UNIT

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
TYPES = st.sampled_from(["float", "integer", "boolean", "string"])
LINE_MAPPINGS = st.builds(
    LineMapping,
    st.sampled_from(["ns", "us", "ms", "s"]),
    device=TEXT,
    metric=TEXT,
    measurements=st.lists(TEXT, max_size=3).map(tuple),
    types=st.dictionaries(TEXT, TYPES, max_size=3),
    units=st.dictionaries(TEXT, TEXT, max_size=3),
)
TABLE_MAPPINGS = st.builds(
    TableMapping,
    header=st.booleans(),
    time=st.lists(TEXT, max_size=2).map(tuple),
    zone=TEXT,
    device_column=TEXT,
    columns=st.dictionaries(TEXT, TEXT, max_size=3),
    decimal=st.sampled_from([".", ","]),
    no_value=st.lists(TEXT, max_size=3).map(tuple),
)
COMPLETE = TableMapping(time=("time",), device="tank", columns={"x": "level"})


@given(LINE_MAPPINGS | TABLE_MAPPINGS)
def test_a_mapping_file_means_the_mapping_that_wrote_it(tmp_path_factory: pytest.TempPathFactory, one: Mapping) -> None:
    """Also with names that contain quotes, dots, line breaks and control characters."""
    path = tmp_path_factory.getbasetemp() / "mapping.toml"
    path.write_text(mapping_text(one), encoding="utf-8")
    assert mapping_of(read_mapping_file(path)) == one


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"time": ()}, "--time COLUMN"),
        ({"device": ""}, "--device-column COLUMN"),
        ({"device": "a/b"}, "device"),
        ({"columns": {}}, "--column COLUMN=METRIC"),
        ({"metric_column": "m"}, "must be set together"),
        ({"value_column": "v"}, "must be set together"),
        ({"decimal": ","}, "both the delimiter and the decimal point"),
        ({"thousands": ".."}, "one character"),
        ({"thousands": "."}, "neither the decimal point"),
        ({"thousands": ","}, "nor the delimiter"),
        ({"delimiter": ";;"}, "is not a delimiter"),
        ({"delimiter": '"'}, "is not a delimiter"),
        ({"encoding": "utf-99"}, "encoding 'utf-99' is unknown"),
        ({"zone": "Europe/Nowhere"}, "Europe/Nowhere"),
        ({"units": {"level": "x" * (MAX_UNIT + 1)}}, "unit of level is longer"),
    ],
)
def test_an_incomplete_or_contradictory_mapping_names_the_option(changed: dict[str, Any], message: str) -> None:
    """The same mapping without the change is accepted."""
    check_mapping(COMPLETE)
    fields = {name: getattr(COMPLETE, name) for name in COMPLETE.__struct_fields__} | changed
    with pytest.raises(MappingError) as error:
        check_mapping(TableMapping(**fields))
    assert message in str(error.value)


def test_line_protocol_needs_a_device_or_its_tag() -> None:
    """Either is enough."""
    check_mapping(LineMapping(device="tank"))
    check_mapping(LineMapping(device_tag="host"))
    with pytest.raises(MappingError, match="--device-tag TAG"):
        check_mapping(LineMapping())


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "csv", "zoen": "UTC"},
        {"format": "line", "precision": "minutes"},
        {"format": "xml"},
        {"format": "csv", "types": {"x": "complex"}},
    ],
)
def test_an_unknown_field_or_value_is_one_error(fields: dict[str, Any]) -> None:
    """The message says that the mapping is wrong, and where."""
    with pytest.raises(MappingError, match="the mapping is wrong"):
        mapping_of(fields)


def test_a_file_that_is_missing_or_is_not_toml_is_one_error(tmp_path: Path) -> None:
    """Its path is in the message."""
    with pytest.raises(MappingError, match=r"none\.toml cannot be read: No such file"):
        read_mapping_file(tmp_path / "none.toml")
    for content in (b"format = csv", b"\xff"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(MappingError, match=r"bad\.toml is not TOML"):
            read_mapping_file(tmp_path / "bad.toml")


@given(LINE_MAPPINGS | TABLE_MAPPINGS, LINE_MAPPINGS | TABLE_MAPPINGS, st.binary(max_size=8), st.binary(max_size=8))
def test_only_equal_content_and_mappings_share_an_epoch(one: Mapping, other: Mapping, a: bytes, b: bytes) -> None:
    """An epoch has 16 hexadecimal digits, as every spool's has."""
    epoch = epoch_of(a, one)
    assert len(epoch) == 16
    assert set(epoch) <= set("0123456789abcdef")
    assert (epoch == epoch_of(b, other)) is ((a, one) == (b, other))


def test_no_zone_is_none() -> None:
    """Times then have to contain their offset."""
    assert zone_of("") is None
    assert str(zone_of("Europe/Berlin")) == "Europe/Berlin"
