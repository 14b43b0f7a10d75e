"""Reading of frames: long ones take turns with the other work of the event loop, and lose nothing by it."""

from __future__ import annotations

import asyncio
import gzip
import json
from datetime import UTC
from typing import Any

import pytest

from formats.rules import Rules
from hub.ingest.input_reader import InputReader, is_short
from hub.model.identity import Identity, Role

DEVICE = Identity("t1", Role.DEVICE, "pump")


def reader(**rules: Any) -> InputReader:
    return InputReader(DEVICE, Rules(**rules), "plain", zone=UTC)


@pytest.mark.parametrize(
    ("rules", "payload"),
    [
        ({"format": "json"}, json.dumps([{"t": place} for place in range(2_000)]).encode()),
        ({"format": "json"}, gzip.compress(b'{"t": 1}\n' * 2_000, mtime=0)),
        ({"format": "csv"}, b"a,b\n" + b"1,2\n" * 2_000),
        ({"format": "pairs"}, b"broken\n" * 2_000),
        ({}, b"t=1\n" * 2_000),
    ],
)
async def test_a_long_frame_takes_turns(rules: dict[str, Any], payload: bytes) -> None:
    """Other work runs between them, and the content is that of one call."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert not is_short(payload)
    frame = await reader(**rules).source().read_in_turns(payload, 9)
    counting.cancel()
    whole = reader(**rules).source().read(payload, 9)
    assert (frame.rows, frame.refusals) == (whole.rows, whole.refusals)
    assert len(frame.rows) + len(frame.refusals) == 2_000
    assert turns >= 8


async def test_frames_of_one_source_that_are_read_at_the_same_time_stay_apart() -> None:
    """Each has a reader of its own, so that their lines do not mix; the format that one detects is that of the next."""
    source = reader().source()
    payloads = [b"a,b\n" + b"%d,2\n" % number * 1_500 for number in (1, 2)]
    first, second = await asyncio.gather(*(source.read_in_turns(payload, 9) for payload in payloads))
    assert {row.values["a"] for row in first.rows} == {1.0}
    assert {row.values["a"] for row in second.rows} == {2.0}
    assert (len(first.rows), len(second.rows)) == (1_500, 1_500)
    assert source.read(b"a;b\n3;4\n", 9).rows[0].values == {"a": 3.0, "b": 4.0}


@pytest.mark.parametrize(
    ("payload", "setting"),
    [
        (b"temperature=21.5", "add format=auto to the URL"),
        (b"t=1", "add format=auto to the URL"),
        (b'{"t": 1', ""),
        (b"\xff", ""),
        (b"[1", ""),
    ],
)
def test_a_text_that_is_no_json_is_refused_with_the_setting_that_reads_it(payload: bytes, setting: str) -> None:
    """A broken JSON text has no such setting."""
    frame = reader(format="json").source().read(payload, 9)
    assert [(refusal.code, refusal.setting) for refusal in frame.refusals] == [("syntax", setting)]


@pytest.mark.parametrize(
    ("payload", "metrics"),
    [
        (b"21.5", {"value"}),
        (b"[1, 2]", {"value.0", "value.1"}),
        (b"", set()),
        (b"{}", set()),
        (b"[]", set()),
        (b'{"t": null}', set()),
    ],
)
def test_what_has_no_names_or_no_values_is_no_error(payload: bytes, metrics: set[str]) -> None:
    """As the table of the content in the documentation says."""
    frame = reader(format="json").source().read(payload, 9)
    assert not frame.refusals
    assert {name for row in frame.rows for name in row.values} == metrics


@pytest.mark.parametrize(
    ("rules", "payload", "place"), [({"format": "json"}, b'{"t": 1}', "field"), ({"format": "line"}, b"m t=1", "tag")]
)
def test_a_record_without_a_device_is_refused_with_the_place_for_its_name(
    rules: dict[str, Any], payload: bytes, place: str
) -> None:
    """A field or a tag, and the setting once."""
    gateway = Identity("t2", Role.GATEWAY, "*")
    [refusal] = InputReader(gateway, Rules(**rules), "http", zone=UTC).source().read(payload, 9).refusals
    assert f"send a {place} `device`" in refusal.reason
    assert ("set device" in refusal.reason, refusal.setting) == (False, "add device=ID to the URL")


async def test_a_frame_has_a_bounded_number_of_lines() -> None:
    """Further ones are refused before they are read."""
    frame = await reader(format="line").source().read_in_turns(b"m t=1\n" * 5_001, 9)
    assert (len(frame.rows), [(r.code, r.values) for r in frame.refusals]) == (5_000, [("limit", 1)])


def test_a_name_that_is_forgotten_while_a_frame_is_read_costs_nothing() -> None:
    """Another frame was refused meanwhile: the values of this one stay, and the next one declares the metric."""
    plain = reader(format="json")
    payload = b'{"t": "21.5 bar", "h": "40 %"}'
    rows, refusals = plain.messages().read(payload, 9)
    plain.forget_unknown("pump", {"h"})
    frame = plain.frame(payload, rows, refusals, 9)
    assert frame.rows[0].values == {"t": 21.5, "h": 40.0}
    assert [*frame.details["pump"].metrics] == ["h"]
    assert not plain.interpreter.series.news
    assert plain.source().read(payload, 9).details["pump"].metrics["t"].unit == "bar"
