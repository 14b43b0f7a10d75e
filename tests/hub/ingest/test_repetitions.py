"""Recognition of frames that are repeated before the first one is durable."""

from __future__ import annotations

from datetime import UTC

from formats.line_block import LineBlock
from formats.rules import Rules
from hub.ingest.input_reader import InputFrame, InputReader
from hub.ingest.recent_readings import RecentReadings
from hub.ingest.repetitions import held_back
from hub.model.identity import Identity, Role

READER = InputReader(Identity("t", Role.GATEWAY, "p*"), Rules(format="json"), "plain", zone=UTC)
TIME = 1_700_000_000


def frame(payload: str, *blocks: LineBlock) -> InputFrame:
    return READER.source().read(payload.encode(), 9)._replace(blocks=blocks)


def reading(second: int, value: float, device: str = "pump", metric: str = "n") -> InputFrame:
    return frame(f'{{"device": "{device}", "time": {TIME + second}, "{metric}": {value}}}')


def block(*seconds: int, device: str = "pump") -> LineBlock:
    times = [(TIME + second) * 10**9 for second in seconds]
    return LineBlock(device, {"n": [float(second) for second in seconds]}, times, range(len(times)))


def test_a_repetition_and_what_follows_for_its_device_wait() -> None:
    """Another device, and a frame before the repetition, do not."""
    frames = [reading(1, 1), reading(2, 2), reading(1, 1), reading(3, 3), reading(1, 1, "p2")]
    assert held_back(frames, RecentReadings()) == {2, 3}


def test_another_value_metric_or_time_is_no_repetition() -> None:
    """Nor is a reading without a time, or an equal one in the same frame."""
    twice = f'{{"device": "p3", "time": {TIME}, "n": 1}}'
    frames = [
        *(reading(1, 1), reading(1, 2), reading(2, 1), reading(1, 1, metric="x"), frame(f"[{twice},{twice}]")),
        *(frame('{"device": "pump", "n": 1}'), frame('{"device": "pump", "n": 1}')),
    ]
    assert held_back(frames, RecentReadings()) == set()


def test_repetitions_of_a_durable_reading_do_not_wait() -> None:
    """They are known, and need no commit of their own each."""
    recent = RecentReadings()
    recent.add("pump", (TIME + 1) * 10**9, {"n": 1.0})
    assert held_back([reading(1, 1)] * 5, recent) == set()


def test_blocks_are_compared_with_blocks_and_rows() -> None:
    """By each time: a range that two blocks share is no repetition."""
    empty = "[]"
    frames = [frame(empty, block(1, 3, 5)), frame(empty, block(2, 4)), frame(empty, block(5, 6)), reading(7, 7, "p2")]
    assert held_back(frames, RecentReadings()) == {2}
    assert held_back([reading(7, 7, "p2"), frame(empty, block(7, device="p2"))], RecentReadings()) == {1}
    assert held_back([frame(empty, block(7)), reading(7, 7)], RecentReadings()) == {1}
