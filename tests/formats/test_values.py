"""Numbers as people and programs write them, by the evidence of their column."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.values import Column, ValueRefused, cleaned, is_identifier, truth_of, written_number


def learned(*texts: str, words: bool = True) -> Column:
    column = Column(words=words)
    column.learn(texts)
    return column


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1,234.5", "900.25", "12,345"], [1234.5, 900.25, 12345.0]),
        (["1.234,5", "900,25", "12.345"], [1234.5, 900.25, 12345.0]),
        (["21,5", "1,234"], [21.5, 1.234]),
        (["1.234", "2.345"], [1.234, 2.345]),
        (["0,125", "1,125"], [0.125, 1.125]),
        (["12,345,678", "1,234"], [12345678.0, 1234.0]),
        (["1 234,5", "1\u202f900,25"], [1234.5, 1900.25]),
        (["1'234.5", "1’234"], [1234.5, 1234.0]),
        (["'-0.125", "−1.5", '"2"'], [-0.125, -1.5, 2.0]),
        (["1e3", "1.5E-3", ".5", "5.", "+7"], [1000.0, 0.0015, 0.5, 5.0, 7.0]),
        (["21.5 °C", "22 °C"], [21.5, 22.0]),
        (["3 apples", "4 apples"], [3.0, 4.0]),
    ],
)
def test_a_column_is_read_by_its_own_evidence(texts: list[str], numbers: list[float]) -> None:
    """All values are numbers of one notation."""
    column = learned(*texts)
    assert column.kind == "number"
    assert [column.number(cleaned(text)) for text in texts] == numbers


def test_a_value_against_the_evidence_is_refused() -> None:
    """It is not read the other way round."""
    with pytest.raises(ValueRefused, match="against the other values"):
        learned("1,234.5", "900.25").number("21,5")
    with pytest.raises(ValueRefused, match="as the decimal mark"):
        learned("21,5", "22,5").number("1,234,567")


def test_an_unclear_comma_is_refused_until_a_value_decides_it() -> None:
    """A later value with certain marks is evidence for the values behind it."""
    column = learned("1,234")
    with pytest.raises(ValueRefused) as refused:
        column.number("1,234")
    assert refused.value.code == "ambiguous"
    assert column.number("900.5") == 900.5
    assert column.number("1,234") == 1234.0


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["on", "off"], "boolean"),
        (["idle", "busy"], "text"),
        (["21.5", "idle", "22"], "number"),
        (["a", "b", "5"], "text"),
        (["2026-01-01", "2026-01-02"], "text"),
        (["1234567890123456789"], "text"),
        (["10.0.0.1"], "text"),
        (["--", ""], None),
    ],
)
def test_the_kind_of_a_column_is_that_of_most_values(texts: list[str], kind: str | None) -> None:
    """Words without a value decide nothing."""
    assert learned(*texts).kind == kind


@pytest.mark.parametrize("text", ["007", "12345678901234567", "7E10", "on", "1.2.3", "3 apples"])
def test_a_text_of_json_that_only_looks_like_a_number_stays_text(text: str) -> None:
    """Identifiers keep their digits."""
    assert learned(text, words=False).kind == "text"


def test_another_known_unit_is_refused() -> None:
    """A value in another unit is not a reading of the metric."""
    column = learned("21.5 °C", "22 °C")
    with pytest.raises(ValueRefused, match="unit"):
        column.number("70 °F")


def test_words_for_true_and_false() -> None:
    """1 and 0 count only where they are declared."""
    assert truth_of(" Open ", declared=False) is True
    assert truth_of("1", declared=False) is None
    assert truth_of("1", declared=True) is True


@given(st.text(alphabet="0123456789.,' eE+-\u202f°CkWh%", max_size=20))
def test_any_text_is_a_number_or_not(text: str) -> None:
    """Nothing but a refusal is raised, and what is written is a number to Python after its marks are decided."""
    column = learned(text)
    try:
        number = column.number(cleaned(text))
    except ValueRefused:
        return
    assert number is None or isinstance(number, float)
    assert written_number(text) is None or not is_identifier("x")


@pytest.mark.parametrize("text", ["12 345,75'", "12 345,75’", "1 234.5 6", "1'234,5'6", "1 234,5.6"])
def test_a_group_behind_the_decimal_mark_makes_it_no_number(text: str) -> None:
    """Only the whole part has groups."""
    assert written_number(text) is None
