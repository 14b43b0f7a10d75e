"""Series: the type that the hub or a description has wins over every guess, and values are refused one by one."""

from __future__ import annotations

from datetime import UTC

import pytest

from formats.interpretation import Interpreter
from formats.record import InputRecord, Origin, RefusedInput, Row, Schema
from formats.rules import Rules
from tests.formats.reading_of import read
from wire.model import MetricType

JSON = Schema(identity=("device",))


def interpreted(
    interpreter: Interpreter, *values: dict[str, object], schema: Schema = JSON, origin: Origin | None = None
) -> tuple[list[Row], list[RefusedInput]]:
    """Return the rows and refusals of records with these values."""
    return interpreter.interpret([InputRecord(1, b"raw", value, schema) for value in values], 0, origin)


def test_the_type_in_the_hub_wins_over_a_guess_and_over_a_declaration() -> None:
    """A text for a number is refused alone, and a note says how to correct a type that contradicts a declaration."""
    types: dict[str, MetricType] = {"t": "float", "led": "boolean"}
    interpreter = Interpreter(Rules(), UTC, device="d", known_type=lambda device, metric: types.get(metric))
    interpreter.declare("d", "led", "string")
    rows, refusals = interpreted(interpreter, {"t": "ERR", "led": "ON", "new": "x"})
    assert [row.values for row in rows] == [{"led": True, "new": "x"}]
    assert [(refusal.device, refusal.metric, refusal.code) for refusal in refusals] == [("d", "t", "type")]
    assert interpreter.notes["type", "d led"].setting == "hub metric retype d led string"


def test_an_integer_in_the_hub_widens_to_a_declared_float() -> None:
    """The hub widens it, so the declaration counts."""
    interpreter = Interpreter(Rules(), UTC, device="d", known_type=lambda device, metric: "integer")
    interpreter.declare("d", "a", "float", "m")
    assert interpreted(interpreter, {"a": 1})[0][0].values == {"a": 1.0}
    assert [(series.metric, series.type, series.unit) for series in interpreter.series.news] == [("a", "float", "m")]


def test_a_declaration_wins_over_an_earlier_guess_only_before_the_first_value() -> None:
    """A metric does not change its type, but its unit follows the description."""
    interpreter = Interpreter(Rules(), UTC, device="d")
    assert interpreted(interpreter, {"a": None, "b": "ON"})[0][0].values == {"b": "ON"}
    interpreter.declare("d", "a", "string")
    interpreter.declare("d", "b", "boolean", "x")
    assert interpreted(interpreter, {"a": "1", "b": "OFF"})[0][0].values == {"a": "1", "b": "OFF"}
    assert interpreter.metrics["d"]["b"].unit == "x"


@pytest.mark.parametrize("by", ["hub", "description", "settings"])
def test_a_boolean_becomes_text_only_by_the_settings(by: str) -> None:
    """The device says OPEN or CLOSE by its description, or the hub knows a text: true is none of its values."""
    interpreter = Interpreter(
        Rules(types={"door": "string"} if by == "settings" else {}),
        UTC,
        device="d",
        known_type=lambda device, metric: "string" if by == "hub" and metric == "door" else None,
    )
    if by == "description":
        interpreter.declare("d", "door", "string")
    rows, refusals = interpreted(interpreter, {"door": "OPEN"}, {"door": True, "t": 1})
    stored = {"door": "true"} if by == "settings" else {}
    assert [row.values for row in rows] == [{"door": "OPEN"}, {**stored, "t": 1.0}]
    assert [(refusal.metric, refusal.code, refusal.setting) for refusal in refusals] == (
        [] if by == "settings" else [("door", "type", 'types.door = "string"')]
    )


def test_words_of_a_format_are_booleans_where_nothing_is_declared() -> None:
    """An enumeration with the values ON and OFF stays text."""
    interpreter = Interpreter(Rules(), UTC, device="d")
    schema = Schema({}, {"mode": "string"}, truths={"ON": True, "OFF": False})
    rows, refusals = interpreted(interpreter, {"state": "ON", "mode": "OFF", "text": "on"}, schema=schema)
    assert rows[0].values == {"state": True, "mode": "OFF", "text": "on"}
    rows, refusals = interpreted(interpreter, {"state": "OFF"}, {"state": 7}, schema=schema)
    assert ([row.values for row in rows], [refusal.metric for refusal in refusals]) == ([{"state": False}], ["state"])
    known = Interpreter(Rules(), UTC, device="d", known_type=lambda device, metric: "string")
    assert interpreted(known, {"state": "ON"}, schema=schema)[0][0].values == {"state": "ON"}


def test_an_origin_names_the_device_and_the_metric() -> None:
    """The name of a bare value is the metric of the origin; other fields are added to it."""
    interpreter = Interpreter(Rules(), UTC)
    origin = Origin("d", {"site": "x"}, "t")
    (row,), _ = interpreted(interpreter, {"value": 1, "max": 2, "device": "mine"}, origin=origin)
    assert (row.device, row.values) == ("d", {"t": 1.0, "t.max": 2.0, "t.device": "mine"})
    (row,), _ = interpreted(Interpreter(Rules(device="{site}-{id}"), UTC), {"id": 7, "a": 1}, origin=origin)
    assert (row.device, row.values) == ("x-7", {"t.a": 1.0})


def test_what_was_learned_about_a_metric_can_be_discarded() -> None:
    """Its type may have been corrected in the hub."""
    types: dict[str, MetricType] = {"a": "string"}
    interpreter = Interpreter(Rules(), UTC, device="d", known_type=lambda device, metric: types.get(metric))
    assert interpreted(interpreter, {"a": 1})[0] == []
    types["a"] = "float"
    interpreter.forget("d", "unknown")
    assert interpreted(interpreter, {"a": 1})[0] == []
    interpreter.forget("d", "a")
    assert interpreted(interpreter, {"a": 1})[0][0].values == {"a": 1.0}


@pytest.mark.parametrize("text", ["9007199254740993", "-9007199254740993", "12345678901234567890"])
def test_a_whole_number_that_a_float_changes_is_refused(text: str) -> None:
    """In JSON, in texts, in lines and in blocks of a table; an integer or a text keeps it."""
    for line in (f'[{{"n":"d/x","v":{text}}}]', f'{{"x":{text}}}', f'{{"x":"{text}"}}', f"x={text}"):
        content = read(f"{line}\n", types={"x": "float"})
        assert (content.values, content.codes) == ([], [(1, "number")]), line
    table = read("x,y\n1.5,1.5\n" + "2.5,2.5\n" * 3 + f"{text},7\n", window=2, piece=12)
    assert (table.values[-1], table.codes) == ({"y": 7.0}, [(6, "number")])
    assert read(f'{{"x":{text}}}\n', types={"x": "string"}).values == [{"x": text}]
    setting = content.refusals[0].setting.partition(" or ")[0]
    assert setting == ('types.x = "string"' if len(text) > 19 else 'types.x = "integer"')


@pytest.mark.parametrize("text", ["9007199254740992", "12345678901234567000", "100000000000000000000"])
def test_a_whole_number_that_a_float_keeps_is_stored(text: str) -> None:
    """Programs that have only floats write their digits with zeros behind them."""
    for line in (f'{{"x":{text}}}', f"x={text}"):
        assert read(f"{line}\n", types={"x": "float"}).values == [{"x": float(text)}]
