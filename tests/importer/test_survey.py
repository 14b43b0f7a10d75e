"""The first reading of a file settles what it means for good."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from importer.mapping import check_mapping, mapping_of, mapping_text, read_mapping_file
from importer.records import FileError, MappingError
from importer.survey import FileSurvey
from tests.importer.files import reasons, rows_of, surveyed

LINES = "m,device=a x=1i 1700000000\nm,device=a x=2.5 1700000001\n"


def test_a_metric_that_has_both_kinds_of_numbers_is_float(tmp_path: Path) -> None:
    """Files that several programs wrote have them; other kinds do not go together, and the first one counts."""
    survey, refused = surveyed(tmp_path / "a.lp", LINES + 'm,device=a x="no" 1700000002\nm,device=a x=t 1700000003\n')
    assert survey.catalogue.devices == {"a": {"x": "float"}}
    assert reasons(refused) == [(3, "type"), (4, "type")]
    assert [row.values["x"] for row in rows_of(survey)] == [1, 2.5]


def test_given_types_and_units_are_used(tmp_path: Path) -> None:
    """A value of another type is refused."""
    survey, refused = surveyed(tmp_path / "a.lp", LINES, types={"x": "integer"}, units={"x": "m"})
    assert [(metric.name, metric.type, metric.unit) for metric in survey.catalogue.metrics("a")] == [
        ("x", "integer", "m")
    ]
    assert reasons(refused) == [(2, "type")]


def test_the_epoch_is_that_of_content_and_meaning(tmp_path: Path) -> None:
    """Under another name, or compressed, the same file is the same import; with one byte or one option changed it is
    not."""
    first, _ = surveyed(tmp_path / "a.lp", LINES)
    assert len(first.epoch) == 16
    assert surveyed(tmp_path / "b.lp", LINES)[0].epoch == first.epoch
    assert surveyed(tmp_path / "a.gz", gzip.compress(LINES.encode()))[0].epoch == first.epoch
    assert surveyed(tmp_path / "c.lp", LINES.replace("2.5", "2.6"))[0].epoch != first.epoch
    assert surveyed(tmp_path / "d.lp", LINES, device="b")[0].epoch != first.epoch


def test_a_truncated_gzip_file_is_rejected_from_its_end(tmp_path: Path) -> None:
    """The complete lines are imported."""
    text = "".join(f"m,device=a x={number} {1_700_000_000 + number}\n" for number in range(50_000))
    survey, refused = surveyed(tmp_path / "a.gz", gzip.compress(text.encode())[:-5000])
    assert refused[-1].why == "cut off"
    assert 0 < survey.readings < 50_000


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    """Its batches would not be those that were counted."""
    survey, _ = surveyed(tmp_path / "a.lp", LINES)
    (tmp_path / "a.lp").write_text(LINES.replace("2.5", "2.6"))
    with pytest.raises(FileError, match="changed"):
        rows_of(survey)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfea\0b\0\n\0"])
def test_an_unreadable_file_is_a_mapping_error(tmp_path: Path, content: bytes) -> None:
    """An empty file, and one that has to be saved as UTF-8 first."""
    with pytest.raises(MappingError, match=r"empty|UTF-8"):
        surveyed(tmp_path / "a.csv", content)
    with pytest.raises(FileError, match="cannot be read"):
        FileSurvey(tmp_path / "none.csv", {})


def test_the_shown_mapping_is_accepted_as_a_file(tmp_path: Path) -> None:
    """As a file; it means the same, so it is the same import."""
    content = 'time;"T ""x"" [°C]";b\n2024-01-01 10:00;1,5;true\n'
    survey, _ = surveyed(tmp_path / "a.csv", content, device="a", zone="UTC")
    (tmp_path / "mapping.toml").write_text(mapping_text(survey.mapping))
    again = mapping_of(read_mapping_file(tmp_path / "mapping.toml"))
    assert again == survey.mapping
    check_mapping(again)
    assert (
        surveyed(tmp_path / "a.csv", content, **read_mapping_file(tmp_path / "mapping.toml"))[0].epoch == survey.epoch
    )
