"""InfluxDB line protocol."""

from __future__ import annotations

from datetime import UTC

import pytest

from formats.line_protocol import looks_like_line
from formats.reading import Reading
from formats.rules import rules_of
from tests.formats.reading_of import NOW_NS, read


@pytest.mark.parametrize(
    ("line", "is_line"),
    [
        ("m t=1", True),
        ("m,host=a t=1,n=2i 5", True),
        ('m s="a b"', True),
        (r"m\ x,h\,y=a t=1", True),
        ("m t=nan", True),
        ("temp=21.5 hum=40", False),
        ("m t=warm", False),
        ("m t=1 x", False),
        ("a,b", False),
        ("", False),
    ],
)
def test_the_form_of_a_line(line: str, is_line: bool) -> None:
    """Pairs without a measurement are not line protocol."""
    assert looks_like_line(line) == is_line


def test_tags_distinguish_series() -> None:
    """The tag that names the device is not a part of the metric."""
    content = read("disk,host=a,path=/ used=1\ndisk,host=a,path=/home used=2\n")
    assert content.values == [{"disk./.used": 1.0}, {"disk./home.used": 2.0}]
    assert {row.device for row in content.rows} == {"a"}
    named = read("disk,host=a,path=/ used=1\n", metric="{field}", device="{path}-{host}")
    assert [row.values for row in named.rows] == [{"used": 1.0}]


@pytest.mark.parametrize(
    ("tags", "device", "metric"),
    [
        ("device=sda1,fstype=ext4,host=web01,mode=rw,path=/", "web01", "m.sda1.ext4.rw./.v"),  # inputs.disk
        ("host=web01,name=sda1", "web01", "m.sda1.v"),  # inputs.diskio
        ("host=web01,interface=eth0", "web01", "m.eth0.v"),  # inputs.net
        ("capacity=500,device=sda,host=web01,model=X,serial_no=S1", "web01", "m.500.sda.X.S1.v"),  # inputs.smart
        ("container_name=kafka,device=8:0,engine_host=docker,host=web01", "web01", "m.kafka.8:0.docker.v"),  # docker
        ("device_id=b1,host=web01", "web01", "m.b1.v"),
        ("host=web01,hostname=web01.example", "web01", "m.web01.example.v"),
        ("device=b1,hostname=web01", "b1", "m.web01.v"),
        ("device_id=b1,device=b2", "b2", "m.b1.v"),
        ("device_id=b1,hostname=web01", "b1", "m.web01.v"),
        ("hostname=web01", "web01", "m.v"),
    ],
)
def test_each_host_of_telegraf_is_one_device(tags: str, device: str, metric: str) -> None:
    """It adds the tag `host` to every line, and many inputs have a tag `device`: a disk of the host."""
    content = read(f"m,{tags} v=1\n", format="line")
    assert [(row.device, list(row.values)) for row in content.rows] == [(device, [metric])]


def test_a_field_does_not_take_a_line_from_its_device() -> None:
    """The tag `host` comes first, a field of this name does not."""
    content = read('m,device=b1 host="web01",v=1\n', format="line")
    assert [(row.device, row.values) for row in content.rows] == [("b1", {"m.host": "web01", "m.v": 1.0})]


def test_a_text_in_quotes_spans_lines_and_stays_text() -> None:
    """A quote that is not closed costs its line."""
    content = read('m s="21.5\nx",n=1\nm s="open,n=2\nm n=3\n', format="line")
    assert content.values == [{"m.s": "21.5\nx", "m.n": 1.0}, {"m.n": 3.0}]
    assert content.codes == [(3, "syntax")]


def test_bytes_that_are_not_utf_8_cost_their_line() -> None:
    """They do not reach the parser, which they would crash."""
    content = read(b'm n=1\nm s="\xff"\nm n=2\n', format="line")
    assert content.column("m.n") == [1.0, 2.0]
    assert content.codes == [(2, "encoding")]


def test_times_are_nanoseconds_unless_the_rules_say_otherwise() -> None:
    """The specification has no other default."""
    assert read("m n=1 1795878000000000000\n").times == [1_795_878_000 * 10**9]
    assert read("m n=1 1795878000\n", time_format="s").times == [1_795_878_000 * 10**9]


@pytest.mark.parametrize(
    ("field", "code", "value"),
    [
        ("y=9223372036854775808i", "number", "9223372036854775808i"),
        ("y=1e400", "number", "1e400"),
        ("y=-1e400", "number", "-1e400"),
        ("y=abc", "syntax", "abc"),
        ("y=1x", "syntax", "1x"),
        ("v=2i", "ambiguous", "2i"),
        ('v="a=b,c d"', "ambiguous", '"a=b,c d"'),
    ],
)
def test_a_bad_field_costs_itself(field: str, code: str, value: str) -> None:
    """The fields beside it are stored, also texts and NaN, with the time of the line."""
    content = read(f'm,host=a v=1i,{field},s="x, y=z",n=nan,w=2 1795878000000000000\nm,host=a v=3i\n', format="line")
    assert content.values == [{"m.v": 1, "m.s": "x, y=z", "m.w": 2.0}, {"m.v": 3}]
    assert content.times == [1_795_878_000 * 10**9, None]
    metric = f"m.{field[0]}"
    assert [(r.line, r.code, r.metric, r.value, r.device) for r in content.refusals] == [(1, code, metric, value, "a")]


@pytest.mark.parametrize("line", [b"boiler", b"boiler t", b"a,b t=1", b"m t=1 x"])
def test_the_reason_of_a_wrong_line_ends_without_a_full_stop(line: bytes) -> None:
    """It is a part of a longer sentence."""
    [refusal] = read(line, format="line").refusals
    assert refusal.reason.startswith("the line is not line protocol")
    assert not refusal.reason.endswith(".")


def test_two_tags_with_one_name_refuse_their_line() -> None:
    """The series of its fields is not known."""
    content = read("m,host=a,host=b v=1\nm,host=a,room=b v=2\n", format="line")
    assert (content.values, content.codes) == ([{"m.b.v": 2.0}], [(1, "ambiguous")])


def test_an_open_quote_delays_only_its_own_line() -> None:
    """The next full record ends it, before the input ends."""
    reading = Reading(rules_of({"format": "line"}), UTC, window=1)
    first = reading.feed(b'm v=1\nm s="open\n', NOW_NS)
    assert ([row.values for row in first.rows], first.refusals) == ([{"m.v": 1.0}], [])
    second = reading.feed(b"m v=2\n", NOW_NS)
    assert ([row.values for row in second.rows], [found.line for found in second.refusals]) == ([{"m.v": 2.0}], [2])
