"""Hypothesis strategies for everything that the protocols can say."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from wire import device, limits, live
from wire.columns import pack_floats, pack_times
from wire.errors import Code
from wire.frames import Kind, NumberColumn, TextColumn, Update
from wire.model import Metric

TYPES = st.sampled_from(["float", "integer", "boolean", "string"])
device_ids = st.text("abcXYZ019_.-", min_size=1, max_size=limits.MAX_DEVICE_ID).filter(
    lambda text: text not in (".", "..")
)
# Up to U+FFFF and beyond, but no control characters; never a space at either end.
metric_names = st.text(
    st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=limits.MAX_METRIC_NAME
).filter(lambda name: name == name.strip(" "))
epochs = st.text("0123456789abcdef", min_size=16, max_size=16)
seqs = st.integers(1, limits.MAX_SEQ)
offsets = st.integers(0, limits.MAX_SEQ)
times = st.integers(0, limits.MAX_TIME_NS)
sentences = st.text(max_size=80)
doubles = st.floats(allow_nan=False, allow_infinity=False)
codes = st.sampled_from(Code)
metrics = st.builds(
    Metric,
    name=metric_names,
    type=TYPES,
    unit=st.text(max_size=limits.MAX_UNIT),
    description=sentences,
)
tags = st.dictionaries(st.text(min_size=1, max_size=limits.MAX_TAG_KEY), sentences, max_size=4)

time_columns = st.lists(times, max_size=5) | st.lists(times, max_size=5).map(pack_times)
values = st.none() | doubles | st.integers(limits.MIN_INTEGER, limits.MAX_INTEGER) | st.booleans() | sentences
value_columns = st.lists(values, max_size=5) | st.lists(st.floats() | st.none(), max_size=5).map(pack_floats)
batches = st.builds(
    device.Data,
    seq=seqs,
    time=time_columns,
    values=st.dictionaries(metric_names, value_columns, max_size=4),
    historical=st.booleans(),
)
gaps = st.tuples(seqs, seqs, sentences).map(
    lambda gap: device.Gap(from_seq=min(gap[0], gap[1]), to=max(gap[0], gap[1]), reason=gap[2])
)
agent_messages: st.SearchStrategy[device.AgentMessage] = st.one_of(
    st.builds(
        device.Hello,
        device=device_ids,
        epoch=epochs,
        next_seq=seqs,
        durable=st.booleans(),
        time=times,
        metrics=st.lists(metrics, max_size=3),
        tags=tags,
        agent=sentences,
        token=st.none() | sentences,
    ),
    st.builds(device.Declare, metrics=st.lists(metrics, max_size=3)),
    batches,
    gaps,
    st.builds(device.TimeReply, hub_time=times, device_time=times),
)
positive = st.integers(1, 2**31)
hub_messages: st.SearchStrategy[device.HubMessage] = st.one_of(
    st.builds(
        device.Welcome,
        hub=sentences,
        acked=offsets,
        window=positive,
        max_batch_bytes=positive,
        time=times,
        retry_ms=positive,
    ),
    st.builds(device.Ack, seq=seqs),
    st.builds(device.Reject, seq=seqs, code=codes, message=sentences),
    st.builds(
        device.Error,
        code=codes,
        message=sentences,
        expected=st.none() | seqs,
        retry_ms=st.none() | positive,
    ),
    st.builds(device.TimeProbe, hub_time=times),
)

ids = st.integers(1, 2**31 - 1)
schemas = st.integers(1, 2**32 - 1)
selectors = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=3)
cursors = st.builds(live.Cursor, journal=st.text(max_size=64), offset=offsets)
viewer_messages: st.SearchStrategy[live.ViewerMessage] = st.one_of(
    st.builds(live.Authenticate, token=sentences),
    st.builds(
        live.Subscribe,
        id=ids,
        devices=selectors,
        metrics=selectors,
        policy=st.sampled_from(["every", "latest"]),
        period_ms=st.integers(limits.MIN_PERIOD_MS, limits.MAX_PERIOD_MS),
        history=st.none()
        | st.builds(live.History, span_ms=st.integers(1, 10**9), points=st.integers(2, limits.MAX_HISTORY_POINTS)),
        cursor=st.none() | cursors,
    ),
    st.builds(live.Unsubscribe, id=ids),
    st.builds(live.WatchFleet),
    st.builds(live.Ping, time_ms=doubles),
)
device_states = st.builds(
    live.DeviceState,
    device=device_ids,
    connected=st.booleans(),
    since=times,
    seen=times,
    epoch=st.none() | epochs,
    acked=offsets,
    backlog=offsets,
    agent=sentences,
    tags=tags,
    clock_offset_ns=st.none() | st.integers(-(2**62), 2**62),
    clock_error_ns=st.none() | st.integers(0, 2**62),
)
live_messages: st.SearchStrategy[live.LiveMessage] = st.one_of(
    st.builds(
        live.Welcome,
        hub=sentences,
        version=sentences,
        journal=sentences,
        offset=offsets,
        time=times,
        role=sentences,
    ),
    st.builds(
        live.Schema,
        schema=schemas,
        first=st.integers(0, 10**6),
        series=st.lists(
            st.builds(
                live.Series, device=device_ids, metric=sentences, type=TYPES, unit=sentences, description=sentences
            ),
            max_size=3,
        ),
    ),
    st.builds(live.Subscribed, id=ids, schema=schemas, start=st.sampled_from(["snapshot", "history", "cursor"])),
    st.builds(live.CaughtUp, id=ids, offset=offsets),
    st.builds(live.Reset, id=ids, reason=st.sampled_from(["other_journal", "too_old", "too_much"])),
    st.builds(live.Fleet, devices=st.lists(device_states, max_size=3)),
    device_states,
    st.builds(live.Pong, time_ms=doubles),
    st.builds(live.Error, code=codes, message=sentences, id=st.none() | ids),
)


@st.composite
def number_columns(draw: st.DrawFn) -> NumberColumn:
    """A numeric column with as many times as values."""
    rows = draw(st.lists(st.tuples(doubles, st.floats() | st.none()), max_size=4))
    return NumberColumn(
        draw(st.integers(0, 2**32 - 1)), pack_floats(time for time, _ in rows), pack_floats(value for _, value in rows)
    )


@st.composite
def text_columns(draw: st.DrawFn) -> TextColumn:
    """A column of strings with as many times as values."""
    rows = draw(st.lists(st.tuples(doubles, sentences | st.none()), max_size=4))
    return TextColumn(draw(st.integers(0, 2**32 - 1)), [time for time, _ in rows], [value for _, value in rows])


updates = st.builds(
    Update,
    kind=st.sampled_from(Kind),
    schema=schemas,
    subscription=st.integers(0, 2**31 - 1),
    conflated=st.integers(0, 2**32 - 1),
    offset=offsets,
    numbers=st.lists(number_columns(), max_size=4),
    texts=st.lists(text_columns(), max_size=3),
)


@st.composite
def damaged(draw: st.DrawFn, frames: st.SearchStrategy[bytes]) -> bytes:
    """A frame with a byte changed, cut out or put in, or cut off at the end."""
    frame = bytearray(draw(frames))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(frame)))
        match draw(st.sampled_from(["change", "remove", "insert", "cut"])):
            case "change" if at < len(frame):
                frame[at] = draw(st.integers(0, 255))
            case "remove":
                del frame[at : at + draw(st.integers(1, 4))]
            case "insert":
                frame[at:at] = draw(st.binary(min_size=1, max_size=4))
            case "cut":
                del frame[at:]
    return bytes(frame)


plain_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | doubles | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
"""Any JSON value there is."""
