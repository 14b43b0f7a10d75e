"""Detection of the text format, with its reason."""

from __future__ import annotations

import pytest

from formats.detection import detect
from formats.record import TextFrame


@pytest.mark.parametrize(
    ("lines", "format"),
    [
        (['{"t":1}'], "json"),
        (['{"t":nan}'], "json"),
        (['[{"bn":"a:","n":"t","v":1}]'], "senml"),
        (['[{"name":"a","value":1}]'], "json"),
        (["{", '  "t": 1', "}"], "json"),
        (["$GPRMC,150000,A*00"], "nmea"),
        (["!AIVDM,1,1,,A,x,0*00"], "nmea"),
        (["m,host=a t=1 1795878000000000000"], "line"),
        (['m t=1i,s="a b"'], "line"),
        (["temp=21.5 hum=40"], "pairs"),
        (["Temperature: 21.5 °C, Humidity: 40 %"], "pairs"),
        (["temp:21.5,hum:40"], "pairs"),
        (["temp=21,5;hum=40"], "pairs"),
        (["time,temp", "2026-11-28T15:00:00Z,21.5"], "csv"),
        (["# made by x", "time,temp", "2026-11-28T15:00:00Z,21.5"], "csv"),
        (["1.5\t2.5"], "csv"),
        (["1.5 2.5"], "plotter"),
        (["21,5"], "csv"),
        (["21.5"], "value"),
        (["21.5 °C"], "value"),
        (["unavailable"], "value"),
        (['"TOA5","x","CR1000"'], "csv"),
        (['"Plot Title: x"'], "csv"),
        (["#datatype,string"], "csv"),
    ],
)
def test_a_format_is_detected(lines: list[str], format: str) -> None:
    """The reason is a sentence with the count or the line that decided."""
    found = detect([TextFrame(number, line.encode()) for number, line in enumerate(lines, 1)])
    assert found is not None
    assert found.format == format
    assert " " in found.reason


@pytest.mark.parametrize(
    "lines",
    [
        ["hello world"],
        ["\0\0\xff"],
        ["Booting ESP32"],
        ["[12:00:01] INFO temp=21.5"],
        ["[D][sensor:094]: 'T': Sending state 21.5"],
        ['x{a="b"} 21.5'],
    ],
)
def test_other_lines_have_no_format(lines: list[str]) -> None:
    """The caller refuses them, and asks for the format."""
    assert detect([TextFrame(1, line.encode("latin-1")) for line in lines]) is None
