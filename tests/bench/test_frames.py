from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from bench.frames import METRICS, STEP_NS, Frames, Shape, client_header, encode_frames
from wire.codec import AGENT_MESSAGES, Format
from wire.columns import unpack_floats, unpack_times
from wire.device import Data
from wire.model import Value

START_NS = 1_700_000_000_000_000_000


def payloads(frames: Frames) -> list[tuple[int, bytes]]:
    """Return the payloads as the server of the websockets library decodes them."""
    protocol = ServerProtocol(state=OPEN)
    protocol.receive_data(frames.data)
    return [(frame.opcode, bytes(frame.data)) for frame in protocol.events_received()]  # type: ignore[union-attr]


@pytest.mark.parametrize("format", ["json", "msgpack"])
@given(st.integers(1, 4), st.integers(1, 30), st.integers(1, 5))
def test_frames_are_the_protocols_data_messages_in_order(format: Format, metrics: int, times: int, count: int) -> None:
    """Every prepared frame decodes to a batch with the next seq, rising times and a value of each metric."""
    frames = encode_frames(Shape(metrics, times, format), count, start_ns=START_NS, seed=1)
    assert len(frames.data) == frames.frame_bytes * count
    expected_ns = START_NS
    for seq, (opcode, payload) in enumerate(payloads(frames), 1):
        assert opcode == (Opcode.TEXT if format == "json" else Opcode.BINARY)
        data = AGENT_MESSAGES[format].decode(payload)
        assert isinstance(data, Data)
        assert data.seq == seq
        time = unpack_times(data.time) if isinstance(data.time, bytes) else data.time
        assert time == [expected_ns + i * STEP_NS for i in range(times)]
        expected_ns += times * STEP_NS
        assert list(data.values) == [metric.name for metric in METRICS[:metrics]]
        for packed in data.values.values():
            column = unpack_floats(packed) if isinstance(packed, bytes) else packed
            assert len(column) == times
            assert all(isinstance(value, float) and 25.0 <= value <= 75.0 for value in column)
    assert seq == count


def test_both_formats_hold_the_same_values() -> None:
    """The same seed gives the same readings in both formats."""

    def values(spoken: Format) -> list[list[Value]]:
        _, payload = payloads(encode_frames(Shape(2, 3, spoken), 1, start_ns=START_NS, seed=5))[0]
        data = AGENT_MESSAGES[spoken].decode(payload)
        assert isinstance(data, Data)
        return [[*unpack_floats(c)] if isinstance(c, bytes) else c for c in data.values.values()]

    assert values("json") == values("msgpack")


@given(st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 200_000]))
def test_a_header_announces_its_payload(size: int) -> None:
    """The server of the websockets library receives a frame of any length completely."""
    protocol = ServerProtocol(state=OPEN, max_size=None)
    protocol.receive_data(client_header(Opcode.BINARY, size) + bytes(size))
    (frame,) = protocol.events_received()
    assert len(frame.data) == size  # type: ignore[union-attr]


@given(st.integers(1, 4), st.integers(1, 5))
def test_plain_frames_are_flat_objects(metrics: int, count: int) -> None:
    """Each has its time, and a value of each metric."""
    frames = encode_frames(Shape(metrics, 1, "json", is_plain=True), count, start_ns=START_NS, seed=1)
    found = [json.loads(payload) for _, payload in payloads(frames)]
    assert [row.pop("time") for row in found] == [START_NS + i * STEP_NS for i in range(count)]
    assert {tuple(row) for row in found} == {tuple(metric.name for metric in METRICS[:metrics])}
