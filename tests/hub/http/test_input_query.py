"""Query parameters become the rules of the settings with the same names; what cannot be meant is refused."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.rules import Rules, RulesError
from hub.http.input_query import InputQuery, read_query

UNAVAILABLE = {"modbus", "pattern"}
"""Rules that need the settings of an agent or a bridge."""


def rules_of(query: str) -> Rules:
    return read_query(query.encode(), InputQuery).rules()


def test_every_rule_is_a_parameter_of_its_name() -> None:
    """Except those of formats that are not available here."""
    assert set(InputQuery.__struct_fields__) == set(Rules.__struct_fields__) - UNAVAILABLE


def test_without_parameters_the_content_is_json() -> None:
    """The rules are the defaults then."""
    assert rules_of("") == Rules(format="json")
    assert read_query(b"", InputQuery).rules("csv") == Rules(format="csv")
    assert read_query(b"format=line", InputQuery).rules("csv").format == "line"


def test_lists_and_tables_are_repeated_parameters() -> None:
    """A pair is NAME=VALUE, and the last = separates; a column without one keeps its name."""
    query = [
        ("format", "csv"), ("delimiter", "tab"), ("time", "date"), ("time", "clock"), ("header", "false"),
        ("types", "a=b=string"), ("units", "t=°C"), ("columns", "T1=t"), ("columns", "h"), ("no_value", "off"),
    ]  # fmt: skip
    assert rules_of(urlencode(query)) == Rules(
        format="csv", delimiter="\t", time=("date", "clock"), header=False, types={"a=b": "string"},
        units={"t": "°C"}, columns={"T1": "t", "h": "h"}, no_value=("off",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("fromat=csv", "was format meant?"),
        ("zzz=1", "there is format, device"),
        ("token=x", "never belongs into a URL"),
        ("format=cvs", "`$.format`; use auto, json, senml, signalk, rtl_433, "),
        ("format=regex", "use another one here"),
        ("decimal=;", "`$.decimal`; use '.', ','"),
        ("types=t", "write types=NAME%3DVALUE"),
        ("types=t%3Dnumber", "the rules are wrong"),
        ("zone=Nowhere", "time zone"),
        ("device={a", "is not a template"),
        ("a", "the query is not valid"),
        ("format=%ff", "Invalid enum value"),
    ],
)
def test_a_wrong_query_is_refused(query: str, sentence: str) -> None:
    """With a sentence for the person who wrote the URL."""
    with pytest.raises(RulesError, match=re.escape(sentence)):
        rules_of(query)


@given(st.binary(max_size=60))
def test_any_query_gives_rules_or_a_sentence(query: bytes) -> None:
    """Never another exception."""
    try:
        assert isinstance(read_query(query, InputQuery).rules(), Rules)
    except RulesError as error:
        assert str(error)
