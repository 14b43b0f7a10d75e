"""Signal K deltas: values by paths, with their time, source and unit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from formats.signalk import device_of, is_delta, source_name
from tests.formats.reading_of import at, read
from wire.limits import MAX_UNIT

VESSEL = "vessels.urn:mrn:imo:mmsi:211457160"


def delta(*updates: dict[str, Any], context: str | None = VESSEL) -> str:
    head = {} if context is None else {"context": context}
    return json.dumps({**head, "updates": list(updates)}) + "\n"


def update(time: str = "2026-11-28T15:00:00.250Z", source: str = "n2k.17", **values: object) -> dict[str, Any]:
    items = [{"path": path.replace("__", "."), "value": value} for path, value in values.items()]
    return {"$source": source, "timestamp": time, "values": items}


def test_each_update_has_its_time_and_the_context_is_the_device() -> None:
    """Values that are objects are metrics below their path; null is no value."""
    content = read(
        delta(
            update(propulsion__0__revolutions=16.5, propulsion__0__oilPressure=None),
            update("2026-11-28T15:00:01Z", "gps", navigation__position={"latitude": 54.25, "longitude": 10.5}),
        )
    )
    assert content.reading.detection is not None
    assert content.reading.detection.format == "signalk"
    assert content.values == [
        {"propulsion.0.revolutions": 16.5},
        {"navigation.position.latitude": 54.25, "navigation.position.longitude": 10.5},
    ]
    assert content.times == [at("2026-11-28T15:00:00Z") + 250_000_000, at("2026-11-28T15:00:01Z")]
    assert {row.device for row in content.rows} == {"211457160"}


def test_units_are_those_of_the_specification_or_of_the_metadata() -> None:
    """No value is converted: a temperature is in kelvin. Metadata applies to its context."""
    meta = {"meta": [{"path": "environment.own.thing", "value": {"units": "m3", "description": "Own"}}]}
    content = read(
        delta(meta)
        + delta(update(environment__water__temperature=288.15, navigation__speedOverGround=3.5))
        + delta(update(environment__own__thing=1.5, electrical__switches__bilge__state=True))
    )
    units = {series.metric: series.unit for series in content.reading.interpreter.metrics["211457160"].values()}
    assert units == {
        "environment.water.temperature": "K",
        "navigation.speedOverGround": "m/s",
        "environment.own.thing": "m³",
        "electrical.switches.bilge.state": "",
    }
    assert content.column("electrical.switches.bilge.state") == [True]


def test_the_root_path_means_the_context_itself() -> None:
    """Texts that look like numbers stay texts."""
    content = read(delta({"values": [{"path": "", "value": {"name": "1234", "mmsi": "211457160"}}]}))
    assert content.values == [{"name": "1234", "mmsi": "211457160"}]


def test_the_hello_of_a_server_has_no_readings() -> None:
    """The stream behind it is read."""
    hello = '{"name":"server","version":"2.1.0","timestamp":"2026-11-28T15:00:00Z","self":"vessels.self"}\n'
    content = read(hello + delta(update(navigation__speedOverGround=3.5), context="vessels.self"))
    assert content.values == [{"navigation.speedOverGround": 3.5}]
    assert content.refusals == []
    assert content.rows[0].device == "self"


def test_several_sources_of_a_path_are_noted() -> None:
    """The setting of the note makes them series of their own."""
    text = delta(update(source="gps.1", navigation__speedOverGround=3.5)) + delta(
        update("2026-11-28T15:00:01Z", "gps.2", navigation__speedOverGround=3.75)
    )
    note = next(note for note in read(text).reading.notes if note.code == "source")
    assert note.setting == 'metric = "{field}.{source}"'
    assert "gps.1" in note.sentence
    assert read(text, metric="{field}.{source}").values == [
        {"navigation.speedOverGround.gps.1": 3.5},
        {"navigation.speedOverGround.gps.2": 3.75},
    ]


def test_a_delta_that_spans_lines_is_read() -> None:
    """Its format is recognised from the whole value."""
    text = json.dumps(json.loads(delta(update(navigation__speedOverGround=3.5))), indent=2)
    content = read(text)
    assert content.values == [{"navigation.speedOverGround": 3.5}]
    assert read(text, format="signalk").rows == content.rows


@pytest.mark.parametrize(
    ("context", "device"),
    [
        (VESSEL, "211457160"),
        ("vessels.urn:mrn:signalk:uuid:c0d7-11", "c0d7-11"),
        ("vessels.self", "self"),
        ("self", "self"),
        ("", ""),
    ],
)
def test_the_device_is_the_identity_of_the_context(context: str, device: str) -> None:
    """An MMSI or a UUID identifies a vessel everywhere."""
    assert device_of(context) == device


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ({"$source": "n2k.17", "source": {"label": "n2k"}}, "n2k.17"),
        ({"source": {"label": "n2k", "type": "NMEA2000", "src": "17", "pgn": 127488}}, "n2k.17"),
        ({"source": {"label": "ttyUSB0", "type": "NMEA0183", "talker": "GP"}}, "ttyUSB0.GP"),
        ({"source": {"label": ["n2k"]}}, ""),
        ({}, ""),
    ],
)
def test_a_source_has_the_name_that_servers_give_it(source: dict[str, Any], name: str) -> None:
    """The label, and the address or the talker on its bus."""
    assert source_name(source) == name


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {"updates": []},
        {"updates": [{}]},
        {"updates": [{"values": {}}]},
        {"updates": [{"values": [{"value": 1}]}]},
        {"updates": [{"values": [{"path": "a", "value": 1}], "meta": {}}]},
        {"updates": [{"values": [{"path": 1, "value": 1}]}]},
        {"updates": 3, "temp": 21.5},
    ],
)
def test_other_json_is_no_delta(content: object) -> None:
    """It is refused where the format is declared, and read as JSON elsewhere."""
    assert not is_delta(content)
    refused = read(json.dumps(content), format="signalk")
    assert refused.rows == []
    assert [code for _, code in refused.codes] == ([] if content == [] else ["syntax"])


def test_a_unit_of_metadata_has_a_bounded_length() -> None:
    """A longer one is that of the specification, or none."""
    metas = [
        {"path": path, "value": {"units": "x" * length}} for path, length in (("a.b", MAX_UNIT), ("a.c", MAX_UNIT + 1))
    ]
    content = read(delta({"meta": metas}) + delta(update(a__b=1.5, a__c=2.5)))
    units = {series.metric: series.unit for series in content.reading.interpreter.metrics["211457160"].values()}
    assert units == {"a.b": "x" * MAX_UNIT, "a.c": ""}


def test_a_source_without_a_name_is_a_source() -> None:
    """The note says that one of both has none."""
    values = [{"path": "a.b", "value": 1.5}]
    text = delta({"values": values}) + delta({"values": values, "$source": "gps.2"})
    note = next(note for note in read(text).reading.notes if note.code == "source")
    assert "the sources none and gps.2" in note.sentence


def test_a_second_value_of_a_path_is_refused_alone() -> None:
    """An update has one time, so both would be one reading."""
    items = [{"path": "a.b", "value": 1}, {"path": "a.b", "value": 2}, {"path": "a.c", "value": 3}]
    content = read(delta({"values": items}))
    assert content.values == [{"a.b": 1.0, "a.c": 3.0}]
    assert [(r.code, r.metric, r.value) for r in content.refusals] == [("ambiguous", "a.b", "2")]
