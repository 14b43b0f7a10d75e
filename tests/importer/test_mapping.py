"""The settings of an import, and the identity of what they make of a file."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.rules import Rules
from importer.mapping import epoch_of, import_rules
from importer.records import MappingError
from wire.limits import MAX_UNIT

RULES = st.builds(Rules, device=st.sampled_from(["", "a", "{b}"]), zone=st.sampled_from(["", "UTC"]))


@pytest.mark.parametrize(
    ("old", "rules"),
    [
        ({"precision": "ms"}, Rules(time_format="ms")),
        ({"device_tag": "host"}, Rules(device="{host}")),
        ({"device_column": "Gerät 1", "device": ""}, Rules(device="{Gerät 1}")),
        ({"device_column": "sensor", "device": "tank"}, Rules(device="tank")),
        ({"time_format": "iso"}, Rules(time_format="iso8601")),
        ({"measurements": ["cpu"], "metric": "{field}"}, Rules(measurements=("cpu",), metric="{field}")),
        ({"time": ["Datum", "Uhrzeit"], "decimal": ","}, Rules(time=("Datum", "Uhrzeit"), decimal=",")),
    ],
)
def test_a_mapping_file_of_an_earlier_version_is_accepted(old: dict[str, Any], rules: Rules) -> None:
    """Its fields are the rules of today, some under other names."""
    assert import_rules(old) == rules


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "a/b"}, "no device id"),
        ({"metric_column": "m"}, "must be set together"),
        ({"value_column": "v"}, "must be set together"),
        ({"thousands": ".."}, "thousands"),
        ({"thousands": ".", "decimal": "."}, "same character"),
        ({"delimiter": ";;"}, "delimiter"),
        ({"delimiter": '"'}, "is not a delimiter"),
        ({"encoding": "utf-99"}, "encoding 'utf-99' is unknown"),
        ({"units": {"level": "x" * (MAX_UNIT + 1)}}, "unit"),
        ({"zoen": "UTC"}, "zoen"),
        ({"format": "xml"}, "rules are wrong"),
        ({"types": {"x": "complex"}}, "rules are wrong"),
        ({"time_format": "yearly"}, "time_format 'yearly' is unknown"),
        ({"time_format": "uptime_ms"}, "start of a device"),
        ({"format": "function"}, "function"),
    ],
)
def test_a_wrong_setting_is_named(fields: dict[str, Any], message: str) -> None:
    """The sentence says what is wrong with it."""
    with pytest.raises(MappingError, match=message):
        import_rules(fields)


@given(RULES, RULES, st.binary(max_size=4), st.binary(max_size=4), st.integers(0, 1), st.integers(0, 1))
def test_only_equal_content_rules_and_batches_share_an_epoch(
    rules: Rules, other: Rules, content: bytes, different: bytes, count: int, more: int
) -> None:
    """An epoch has 16 hexadecimal digits, as every spool's has."""
    epoch = epoch_of(content, rules, [count])
    assert len(epoch) == 16
    assert set(epoch) <= set("0123456789abcdef")
    is_same = (content, rules, count) == (different, other, more)
    assert (epoch == epoch_of(different, other, [more])) is is_same
