"""Data messages as prepared WebSocket frames of one length, which cost the generator almost no work to send.

A client must mask its frames (RFC 6455, 5.3) and chooses the key. Key zero leaves the payload as it is.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wire import columns
from wire.codec import AGENT_MESSAGES, Format
from wire.device import Data
from wire.model import Metric

METRICS = (
    Metric("temperature", unit="°C"),
    Metric("pressure", unit="hPa"),
    Metric("humidity", unit="%"),
    Metric("voltage", unit="V"),
)
STEP_NS = 1_000_000
"""Interval between two times of one device: at 1 kHz, the times of a run span minutes."""
FIN = 0x80
MASKED = 0x80
TEXT, BINARY = 1, 2
_MASK_KEY = bytes(4)
_MARKER_SEQ = 4_000_000_001
"""A seq that takes five bytes in msgpack and occurs nowhere else. Each frame's own seq replaces it."""


class Shape(NamedTuple):
    """Content of one frame: a value of each of the first `metrics` metrics at each of `times` times.

    `is_plain`: a flat object of one time for /v1/plain, in JSON.
    """

    metrics: int
    times: int
    format: Format
    is_plain: bool = False

    @property
    def readings(self) -> int:
        """Return the number of readings in one frame."""
        return self.metrics * self.times


class Frames(NamedTuple):
    """Consecutive frames, each `frame_bytes` long, with the seqs 1, 2, 3, …"""

    data: bytes
    frame_bytes: int
    total: int


NO_FRAMES = Frames(b"", 1, 0)
"""Frames of a device that sends no readings."""


def client_header(opcode: int, payload_bytes: int) -> bytes:
    """Return the header of a final, masked frame with mask key zero (RFC 6455, 5.2)."""
    first = FIN | opcode
    if payload_bytes < 126:
        return struct.pack("!BB", first, MASKED | payload_bytes) + _MASK_KEY
    if payload_bytes < 2**16:
        return struct.pack("!BBH", first, MASKED | 126, payload_bytes) + _MASK_KEY
    return struct.pack("!BBQ", first, MASKED | 127, payload_bytes) + _MASK_KEY


def encode_frames(shape: Shape, count: int, *, start_ns: int, seed: int) -> Frames:
    """Return `count` data messages of this shape from `start_ns` on. Their values change randomly and have two
    decimals."""
    generator = np.random.default_rng(seed)
    steps = generator.normal(0.0, 0.05, (count * shape.times, shape.metrics))
    values = np.round(50.0 + 25.0 * np.sin(np.cumsum(steps, axis=0) * 0.1), 2)
    times = start_ns + np.arange(count * shape.times, dtype="<i8") * STEP_NS
    cells = values.reshape(count, shape.times, shape.metrics).astype("<f8")
    rows = times.reshape(count, shape.times)
    if shape.is_plain:
        payloads = _plain(shape, rows, cells)
    else:
        payloads = _packed(shape, rows, cells) if shape.format == "msgpack" else _text(shape, rows, cells)
    header = client_header(BINARY if shape.format == "msgpack" else TEXT, payloads.shape[1])
    headers = np.broadcast_to(np.frombuffer(header, np.uint8), (count, len(header)))
    frames = np.concatenate([headers, payloads], axis=1)
    return Frames(frames.tobytes(), frames.shape[1], count)


def _packed(shape: Shape, times: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return msgpack frames with packed columns: one message of the codec, repeated with the bytes that differ."""
    count = len(times)
    marker_times = columns.pack_times([2**62 + 1] * shape.times)
    markers = [columns.pack_floats([float(2**40 + i)] * shape.times) for i in range(shape.metrics)]
    names = [metric.name for metric in METRICS[: shape.metrics]]
    template = AGENT_MESSAGES["msgpack"].encode(Data(_MARKER_SEQ, marker_times, dict(zip(names, markers, strict=True))))
    payloads = np.tile(np.frombuffer(template, np.uint8), (count, 1))
    _put(payloads, template.index(struct.pack(">I", _MARKER_SEQ)), np.arange(1, count + 1, dtype=">u4")[:, None])
    _put(payloads, template.index(marker_times), times)
    for i, marker in enumerate(markers):
        _put(payloads, template.index(marker), np.ascontiguousarray(values[:, :, i]))
    return payloads


def _put(payloads: NDArray[np.uint8], position: int, items: NDArray[np.generic]) -> None:
    raw = np.ascontiguousarray(items).view(np.uint8).reshape(len(payloads), -1)
    payloads[:, position : position + raw.shape[1]] = raw


def _text(shape: Shape, times: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return JSON frames with lists: the seq is padded with spaces, which JSON allows, and each value has five
    characters."""
    time = ",".join(["%d"] * shape.times)
    column = ",".join(["%5.2f"] * shape.times)
    named = ",".join(f'"{metric.name}":[{column}]' for metric in METRICS[: shape.metrics])
    template = f'{{"type":"data","seq":%10d,"time":[{time}],"values":{{{named}}}}}'
    rows = zip(times.tolist(), values.transpose(0, 2, 1).reshape(len(times), -1).tolist(), strict=True)
    text = "".join([template % (seq, *row[0], *row[1]) for seq, row in enumerate(rows, 1)])
    return np.frombuffer(text.encode(), np.uint8).reshape(len(times), -1)


def _plain(shape: Shape, times: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return flat JSON objects with one time."""
    named = ",".join(f'"{metric.name}":%5.2f' for metric in METRICS[: shape.metrics])
    template = f'{{"time":%19d,{named}}}'
    rows = zip(times[:, 0].tolist(), values[:, 0].tolist(), strict=True)
    text = "".join([template % (time, *row) for time, row in rows])
    return np.frombuffer(text.encode(), np.uint8).reshape(len(times), -1)
