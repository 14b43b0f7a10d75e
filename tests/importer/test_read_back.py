"""A file that a hub exported is imported as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.http.tables import CsvWriter, Layout, LineWriter, TextWriter
from hub.model.batch import Series
from hub.model.store import SeriesHistory
from importer.mapping import import_rules
from importer.survey import FileSurvey
from tests.importer.files import rows_of
from wire import limits
from wire.model import MetricType

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\\ufeff"), min_size=1, max_size=8)
METRICS = NAMES.filter(lambda name: name == name.strip(" ") and not name.startswith("'")) | st.sampled_from(
    ["value", "time", "device", "a b", "x,y=z", '"q"', "-n", "{field}", "°C"]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), min_size=1, max_size=12)
VALUES: dict[MetricType, st.SearchStrategy[Any]] = {
    "float": st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
    "integer": st.integers(limits.MIN_INTEGER, limits.MAX_INTEGER),
    "boolean": st.booleans(),
    "string": TEXTS.filter(lambda text: not text.startswith("'")) | st.sampled_from(["21.5", "nan", "true", "=1+1"]),
}
TIMES = st.integers(10**18, 17 * 10**17)
SERIES = st.dictionaries(
    st.tuples(st.sampled_from(["pump-1", "-x", "b.c"]), METRICS),
    st.sampled_from(sorted(VALUES)).flatmap(
        lambda kind: st.tuples(st.just(kind), st.dictionaries(TIMES, VALUES[kind], min_size=1, max_size=4))
    ),
    min_size=1,
    max_size=5,
)
Content = dict[tuple[str, str], tuple[MetricType, dict[int, Any]]]


def exported(content: Content, writer: type[TextWriter]) -> bytes:
    """Return the file of an export."""
    series = [Series(number, *names, type) for number, (names, (type, _)) in enumerate(content.items())]
    parts = [
        SeriesHistory(known, np.array(list(values), np.int64), list(values.values()), "raw")
        for known, (_, values) in zip(series, content.values(), strict=True)
    ]
    made = writer(Layout(series))
    return made.begin() + made.rows(Layout(series).in_order_of_time(parts)) + made.end()


@pytest.mark.parametrize(("writer", "is_typed"), [(LineWriter, True), (CsvWriter, False)])
@given(content=SERIES)
@settings(deadline=None, max_examples=150)
def test_every_reading_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, writer: type[TextWriter], is_typed: bool, content: Content
) -> None:
    """Line protocol keeps the types, too. CSV has none, so integers become floats, unless the hub knows better."""
    path = tmp_path_factory.getbasetemp() / "export"
    path.write_bytes(exported(content, writer))

    def known_type(device: str, metric: str) -> MetricType | None:
        return None if is_typed else content[device, metric][0]

    # The format of a few lines that are mostly the parts of texts is not detected.
    rules = import_rules({"format": "line" if is_typed else "csv"})
    survey = FileSurvey(path, rules, None, known_type)
    survey.check()
    rejected: list[object] = []
    survey.read(rejected.append, lambda position: None)
    assert rejected == []
    expected = {(*names, time_ns, value) for names, (_, values) in content.items() for time_ns, value in values.items()}
    found = [
        (row.device, metric, row.time_ns, value) for row in rows_of(survey) for metric, value in row.values.items()
    ]
    assert len(found) == len(expected)
    assert set(found) == expected
    for (device, metric), (type, _) in content.items():
        assert survey.types(device)[metric] == type
