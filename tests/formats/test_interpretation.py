"""Interpretation by one set of rules: types, labels, templates and bounds."""

from __future__ import annotations

import pytest

from tests.formats.reading_of import Content, read


def series(content: Content, metric: str, device: str = "") -> tuple[object, str, str]:
    found = content.reading.interpreter.metrics[device][metric]
    return found.type, found.unit, found.label


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        ("float", "21,5", 21.5),
        ("integer", "7", 7),
        ("integer", "7.0", 7),
        ("integer", "9007199254740993", 9007199254740993),
        ("boolean", "ON", True),
        ("boolean", "0", False),
        ("string", "007", "007"),
        ("string", "OFF", "OFF"),
        ("string", "unknown", "unknown"),
    ],
)
def test_a_declared_type_wins_over_every_guess(type: str, text: str, value: object) -> None:
    """In JSON and in formats without types."""
    for line in (f'{{"x":"{text}"}}\n', f"x={text}\n"):
        content = read(line, types={"x": type}, format="auto" if line[0] == "{" else "pairs")
        assert [type_and_value(row.values["x"]) for row in content.rows] == [type_and_value(value)]


def type_and_value(value: object) -> tuple[str, object]:
    return value.__class__.__name__, value


@pytest.mark.parametrize(
    ("type", "value"),
    [("float", '"warm"'), ("integer", "1.5"), ("integer", "1e300"), ("boolean", '"maybe"'), ("boolean", "2")],
)
def test_a_value_against_its_declaration_is_refused_alone(type: str, value: str) -> None:
    """Its neighbour is stored."""
    content = read(f'{{"x":{value},"y":1}}\n', types={"x": type})
    assert content.values == [{"y": 1.0}]
    assert content.refusals[0].metric == "x"


def test_the_first_real_value_sets_the_type() -> None:
    """A later value of another type is refused with the setting that changes it."""
    content = read('{"a":null,"b":true}\n{"a":"idle","b":false}\n{"a":5,"b":"on"}\n{"a":"busy","b":7}\n', window=1)
    assert content.column("a") == ["idle", "busy"]
    assert content.column("b") == [True, False, True]
    assert [(r.line, r.metric, r.setting) for r in content.refusals] == [
        (3, "a", 'types.a = "string"'),
        (4, "b", 'types.b = "string"'),
    ]


def test_an_integer_of_a_format_widens_to_float() -> None:
    """A declared one of the rules does not."""
    lines = "m n=1i 1\nm n=1.5 2\nm n=2i 3\n"
    content = read(lines)
    assert [type_and_value(value) for value in content.column("m.n")] == [("int", 1), ("float", 1.5), ("float", 2.0)]
    assert any(note.code == "widened" for note in content.reading.notes)
    ruled = read(lines, types={"m.n": "integer"})
    assert ruled.column("m.n") == [1, 2]
    assert ruled.codes == [(2, "type")]


def test_names_are_repaired_with_a_label() -> None:
    """The label is the original."""
    content = read('{"a\\tb":1}\n')
    metric = next(iter(content.rows[0].values))
    assert series(content, metric) == ("float", "", "a\tb")


def test_two_fields_of_one_metric_are_not_mixed() -> None:
    """The second is refused."""
    content = read('{"a":1,"b":2}\n', columns={"a": "x", "b": "x"})
    assert content.values == [{"x": 1.0}]
    assert content.codes == [(1, "ambiguous")]


def test_a_record_without_the_named_time_or_device_is_refused_as_a_whole() -> None:
    """None of its values has a place."""
    assert read('{"t":1}\n', time="stamp").codes == [(1, "time")]
    assert read('{"t":1}\n', device="{model}").codes == [(1, "device")]
    assert read('{"stamp":"soon","t":1}\n', time="stamp").codes == [(1, "time")]


@pytest.mark.parametrize("time", ['"morning"', "-1", "1e300", "true", '"15:30"'])
@pytest.mark.parametrize("window", [1, 2000])
def test_a_field_time_without_a_time_refuses_its_record(time: str, window: int) -> None:
    """It gets neither the time of its arrival nor a metric, whether other records have times or not."""
    for good in ("", '{"time":1795878000,"t":2}\n'):
        content = read(f'{good}{{"time":{time},"t":1}}\n', window=window)
        assert content.values == [{"t": 2.0}][: len(good)]
        assert [code for _, code in content.codes] == ["time"]


def test_a_field_time_is_a_value_beside_another_time_or_in_the_columns() -> None:
    """A note says so."""
    assert read('{"time":"morning","ts":1795878000,"t":1}\n').values == [{"time": "morning", "t": 1.0}]
    content = read('{"time":"morning","t":1}\n', columns={"time": "phase", "t": "t"})
    assert content.values == [{"phase": "morning", "t": 1.0}]
    assert any("'time'" in note.sentence for note in content.reading.notes)
    assert read('{"time":"","t":1}\n').times == [None]


def test_metrics_of_a_device_are_bounded() -> None:
    """Further ones are refused, the known ones are stored."""
    content = read("{" + ",".join(f'"m{number}":1' for number in range(1030)) + "}\n")
    assert len(content.rows[0].values) == 1024
    assert {r.code for r in content.refusals} == {"limit"}


def test_fields_in_the_name_of_a_metric_are_not_readings() -> None:
    """They are parts of the name, as those of the device are."""
    content = read('{"sensor":"boiler","room":"cellar","temp":21.5}\n', device="{room}", metric="{sensor}.{field}")
    assert content.rows[0].device == "cellar"
    assert content.values == [{"boiler.temp": 21.5}]


@pytest.mark.parametrize(
    "time", ["2024-03-31 02:30", "2024-02-30T12:00:00Z", "13/13/2024 10:00", "2300-01-01T00:00:00Z"]
)
def test_a_date_that_does_not_exist_refuses_its_record(time: str) -> None:
    """Its record does not get the time of its arrival."""
    content = read(f'{{"time":"{time}","t":1}}\n', zone="Europe/Berlin")
    assert (content.rows, content.codes) == ([], [(1, "time")])


def test_a_value_with_another_unit_than_its_metric_is_refused_alone() -> None:
    """Numbers of two units are no series. A unit in the settings wins over what the records declare."""
    pack = '[{"bn":"urn:x","bt":1.320067464e9,"bu":"%RH","v":20},{"u":"lon","v":24.30621},{"n":"t","v":1},{"v":21}]'
    content = read(pack)
    assert content.column("value") == [20.0, 21.0]
    assert [(r.code, r.metric, r.value) for r in content.refusals] == [("unit", "value", "24.30621")]
    assert read(pack, units={"value": "%"}).column("value") == [20.0, 24.30621, 21.0]


def test_a_metric_without_a_unit_has_the_first_one_that_is_declared() -> None:
    """Values before it stay."""
    content = read('[{"n":"d/t","v":20}]\n[{"n":"d/t","u":"Cel","v":21}]\n[{"n":"d/t","u":"K","v":294}]\n')
    assert content.column("t", "d") == [20.0, 21.0]
    assert content.codes == [(3, "unit")]
    assert series(content, "t", "d") == ("float", "°C", "")


@pytest.mark.parametrize(("id", "device"), [("7", "7"), ("7.0", "7"), ('"7"', "7"), ("true", "d-1"), ("null", "d-1")])
def test_a_number_can_be_the_device(id: str, device: str) -> None:
    """A whole number has no fraction. A boolean is a value."""
    content = read(f'{{"device":{id},"t":1}}\n', default_device="d-1")
    assert [row.device for row in content.rows] == [device]
    assert content.rows[0].values == ({"device": True, "t": 1.0} if id == "true" else {"t": 1.0})


def test_a_repaired_name_is_noted() -> None:
    """The check says under which name a metric is stored; a name that stays makes no note."""
    content = read('{"out\\tside": 1, "inside": 2}\n', format="json")
    names = [note.sentence for note in content.reading.notes if note.code == "name"]
    (stored,) = set(content.rows[0].values) - {"inside"}
    assert names == [f"the metric 'out\\tside' is stored as {stored}; its name is the label"]


def test_an_odd_time_is_noted() -> None:
    """Once, with the settings that read it in another way; a usual time makes no note."""
    odd = read('{"time": 86400, "t": 1}\n{"time": 86401, "t": 2}\n', format="json")
    assert [note.setting for note in odd.reading.notes if "kept and marked" in note.sentence and note.setting] == [
        'time_format = "since_2000" or time_format = "uptime_ms"'
    ]
    usual = read('{"time": 1795878000, "t": 1}\n', format="json")
    assert [note for note in usual.reading.notes if note.code == "time_odd"] == []
