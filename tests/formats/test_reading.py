"""Laws of reading: any bytes are rows, refusals or wait for more; where a stream is cut changes nothing."""

from __future__ import annotations

import tomllib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.rules import rules_of, rules_text
from tests.formats.laws import case_of, check_any_bytes, check_cuts, read_case_of
from tests.formats.reading_of import CASES, read

SEEDS = st.binary(max_size=48)
"""Seeds of cases. One draw of bytes costs a tenth of a list of drawn pieces, and shrinks as well."""


@given(SEEDS)
@settings(max_examples=10_000, deadline=None)
def test_any_bytes_give_rows_or_refusals(seed: bytes) -> None:
    """Rows have legal names and finite values, a refusal has a code and a reason, and nothing raises."""
    check_any_bytes(case_of(seed))


@given(SEEDS)
@settings(max_examples=10_000, deadline=None)
def test_cutting_the_stream_anywhere_changes_nothing(seed: bytes) -> None:
    """Rows, refusals, metrics and notes are those of the whole stream."""
    case = case_of(seed)
    check_cuts(case, read_case_of(case))


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir()))
def test_the_settings_to_copy_give_the_same_content(name: str) -> None:
    """A file that is read by the printed settings has the same rows and refusals."""
    data = (CASES / name).read_bytes()
    first = read(data)
    rules = first.reading.settings()
    assert rules_of(tomllib.loads(rules_text(rules))) == rules
    again = read(data, **msgspec.to_builtins(rules))
    assert again.rows == first.rows
    assert [(r.line, r.code) for r in again.refusals] == [(r.line, r.code) for r in first.refusals]


@given(
    rows=st.lists(
        st.tuples(st.integers(631_152_000, 1_795_879_800), st.floats(allow_nan=False, allow_infinity=False, width=32)),
        min_size=1,
        max_size=30,
    ),
    mark=st.sampled_from([".", ","]),
)
@settings(max_examples=50, deadline=None)
def test_written_numbers_are_read_back(rows: list[tuple[int, float]], mark: str) -> None:
    """A table with a declared decimal mark has the numbers that were written into it."""
    text = "time;x\n" + "".join(f"{time};{value!r}\n".replace(".", mark) for time, value in rows)
    content = read(text, format="csv", delimiter=";", decimal=mark)
    assert content.column("x") == [value for _, value in rows]
    assert content.times == [time * 10**9 for time, _ in rows]


def test_a_stream_of_single_lines_decides_by_its_first_line() -> None:
    """A window of one frame gives each reading at once."""
    content = read("temp=21.5 hum=40\ntemp=21.6 hum=41\n", window=1)
    assert content.values == [{"temp": 21.5, "hum": 40.0}, {"temp": 21.6, "hum": 41.0}]
    assert content.reading.detection is not None
    assert content.reading.detection.format == "pairs"


def test_a_frame_that_is_too_long_is_one_refusal() -> None:
    """Its beginning is kept, and the next line is read."""
    content = read(b'{"temp":1}\n' + b"x" * 3_000_000 + b'\n{"temp":2}\n', piece=100_000)
    assert content.column("temp") == [1.0, 2.0]
    assert content.codes == [(2, "size")]
    assert len(content.refusals[0].raw) == 4096
