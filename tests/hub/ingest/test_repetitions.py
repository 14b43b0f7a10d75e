"""Recognition of frames that are repeated before the first one is durable."""

from __future__ import annotations

from datetime import UTC

from formats.line_block import LineBlock
from formats.message import without_pauses
from formats.rules import Rules
from hub.ingest import repetitions
from hub.ingest.input_reader import InputFrame, InputReader
from hub.ingest.recent_readings import RecentReadings
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


def held_back(frames: list[InputFrame], recent: RecentReadings) -> set[int]:
    return without_pauses(repetitions.held_back(frames, recent))


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


def test_the_work_of_one_turn_is_bounded() -> None:
    """However many readings are repeated: the other devices get their turns between two parts."""
    many = frame("[]", block(*range(20_000)))
    steps = repetitions.held_back([many, many], RecentReadings(has_blocks=True))
    recent = RecentReadings(has_blocks=True)
    recent.add_block("pump", many.blocks[0].times, many.blocks[0].columns)
    known = repetitions.held_back([many, many], recent)
    rows = many.rows_of_block(many.blocks[0], None)
    compared = repetitions.unknown_rows("pump", rows, recent, repetitions.ComparedValues())
    assert without_pauses(steps) == {1}
    assert len([*known]) == len([*compared]) == 20_000 // repetitions.TURN_VALUES
