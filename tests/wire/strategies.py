"""Hypothesis strategies for everything that the protocols can say."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from msgspec import Meta, Struct

from wire import command, device, limits, live, setting
from wire.columns import pack_floats, pack_times
from wire.frames import Kind, NumberColumn, TextColumn, Update
from wire.model import DeviceId, Epoch, MetricName

MAX_TEXT = 80
"""Longest generated text; the limits of the protocol have tests of their own."""

doubles = st.floats(allow_nan=False, allow_infinity=False)
times = st.integers(0, limits.MAX_TIME_NS)
sentences = st.text(max_size=MAX_TEXT)
values = st.none() | doubles | st.integers(limits.MIN_INTEGER, limits.MAX_INTEGER) | st.booleans() | sentences

# No controls and formats, among them the marks of direction, and no separators but the space.
_printed = st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])
source_states = st.builds(
    device.SourceState,
    name=st.text(_printed, min_size=1, max_size=limits.MAX_SOURCE_NAME),
    ok=st.booleans(),
    since=times,
    error=st.text(_printed, max_size=MAX_TEXT),
)

_names = st.text("abcXYZ019_.-", min_size=1, max_size=limits.MAX_COMMAND_NAME)
_ids = st.text("0123456789abcdef", min_size=16, max_size=32)


@st.composite
def command_parameters(draw: st.DrawFn, *, is_setting: bool = False) -> command.CommandParameter:
    """A parameter of a command whose bounds, choices and default agree, or a setting."""
    kind = draw(st.sampled_from(["float", "integer", "boolean", "string"]))
    bounds = {"float": doubles, "integer": st.integers(-(2**63), 2**63 - 1)}.get(kind, st.none())
    low, high = draw(st.none() | bounds), draw(st.none() | bounds)
    if low is not None and high is not None and low > high:
        low, high = high, low
    default: Any = draw(st.none() | {"boolean": st.booleans(), "string": sentences}.get(kind, st.just(low)))
    choices = [] if default is None else draw(st.lists(st.just(default), max_size=2))
    return command.CommandParameter(
        name=draw(_names),
        type=kind,  # type: ignore[arg-type]
        unit=draw(st.text(_printed, max_size=limits.MAX_UNIT)),
        min=low,
        max=high,
        choices=choices,
        required=is_setting or draw(st.booleans()),
        default=None if is_setting else default,
        description=draw(st.text(_printed, max_size=MAX_TEXT)),
    )


setting_values = st.dictionaries(_names, doubles | st.integers(-(2**62), 2**62) | st.booleans() | sentences, max_size=3)

# Types whose constraints hypothesis cannot read, or whose fields depend on each other.
SPECIAL: dict[object, st.SearchStrategy[Any]] = {
    float: doubles,
    str: sentences,
    int: st.integers(-(2**62), 2**62),
    DeviceId: st.text("abcXYZ019_.-", min_size=1, max_size=limits.MAX_DEVICE_ID).filter(
        lambda text: text not in (".", "..")
    ),
    # Up to U+FFFF and beyond, but no control characters; never a space at either end.
    MetricName: st.text(
        st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=limits.MAX_METRIC_NAME
    ).filter(lambda name: name == name.strip(" ")),
    Epoch: st.text("0123456789abcdef", min_size=16, max_size=16),
    device.Times: st.lists(times, max_size=5) | st.lists(times, max_size=5).map(pack_times),
    device.Column: st.lists(values, max_size=5) | st.lists(st.floats() | st.none(), max_size=5).map(pack_floats),
    device.SourceState: source_states,
    device.DeviceEvent: st.builds(
        device.DeviceEvent,
        seq=st.integers(1, limits.MAX_SEQ),
        time=times,
        kind=st.from_regex("[a-z][a-z ]{0,63}", fullmatch=True),
        source=st.text(_printed, max_size=MAX_TEXT),
        detail=st.text(_printed, max_size=MAX_TEXT),
    ),
    device.SourceRefusal: st.builds(
        device.SourceRefusal,
        code=st.text("abcxyz_", min_size=1, max_size=32),
        count=st.integers(1, limits.MAX_SEQ),
        **dict.fromkeys(("message", "raw", "metric", "value", "setting"), sentences),
    ),
    command.CommandDeclaration: st.builds(
        command.CommandDeclaration,
        name=_names,
        description=st.text(_printed, max_size=MAX_TEXT),
        confirm=st.booleans(),
        parameters=st.lists(command_parameters(), max_size=3, unique_by=lambda parameter: parameter.name),
    ),
    device.CommandState: st.builds(
        device.CommandState,
        id=_ids,
        state=st.sampled_from(["received", "succeeded", "failed", "rejected"]),
        time=times,
        code=st.text("abcxyz_", max_size=32),
        message=sentences,
        result=st.none() | doubles | st.booleans() | sentences | st.lists(sentences, max_size=3),
    ),
    device.Command: st.builds(
        device.Command,
        id=_ids,
        name=_names,
        parameters=st.dictionaries(_names, doubles | st.booleans() | sentences, max_size=3),
        created=times,
        timeout_ms=st.integers(1, limits.MAX_COMMAND_TIMEOUT_MS),
        queued=st.booleans(),
    ),
    device.CommandRecorded: st.builds(
        device.CommandRecorded, id=_ids, state=st.sampled_from(["received", "succeeded", "failed", "rejected"])
    ),
    setting.Settings: st.lists(
        command_parameters(is_setting=True), max_size=3, unique_by=lambda parameter: parameter.name
    ),
    setting.SettingValues: setting_values,
    device.Reported: st.builds(
        device.Reported,
        version=st.integers(0, limits.MAX_SEQ),
        values=setting_values,
        problems=st.lists(
            st.builds(
                device.SettingProblem,
                name=_names,
                code=st.text("abcxyz_", min_size=1, max_size=32),
                message=sentences,
                retried=st.booleans(),
            ),
            max_size=3,
            unique_by=lambda problem: problem.name,
        ),
    ),
    device.Sources: st.lists(source_states, max_size=3, unique_by=lambda source: source.name),
    device.Gap: st.tuples(st.integers(1, limits.MAX_SEQ), st.integers(1, limits.MAX_SEQ), sentences).map(
        lambda gap: device.Gap(from_seq=min(gap[0], gap[1]), to=max(gap[0], gap[1]), reason=gap[2])
    ),
}


def strategy_of(kind: Any, meta: Meta | None = None) -> st.SearchStrategy[Any]:
    """Return a strategy for a type of the protocol: a struct with all its fields, or the type of a field."""
    if kind in SPECIAL and meta is None:
        return SPECIAL[kind]
    if isinstance(kind, type) and issubclass(kind, Struct):
        hints = get_type_hints(kind, include_extras=True)
        return st.builds(kind, **{name: strategy_of(hint) for name, hint in hints.items()})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return strategy_of(*arguments)
    if origin in (Union, UnionType):
        return st.one_of([strategy_of(argument) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    least = meta.min_length or 0 if meta is not None else 0
    if origin is list:
        most = meta.max_length if meta is not None and meta.max_length is not None else 3
        return st.lists(strategy_of(arguments[0]), min_size=least, max_size=min(most, 3))
    if origin is dict:
        return st.dictionaries(*map(strategy_of, arguments), max_size=4)
    if kind is str and meta is not None:
        return st.text(min_size=least, max_size=min(meta.max_length or MAX_TEXT, MAX_TEXT))
    if kind is int and meta is not None:
        return st.integers(int(meta.ge or 0), int(meta.le or 2**31))
    return st.from_type(kind)


agent_messages: st.SearchStrategy[device.AgentMessage] = strategy_of(device.AgentMessage)
hub_messages: st.SearchStrategy[device.HubMessage] = strategy_of(device.HubMessage)
viewer_messages: st.SearchStrategy[live.ViewerMessage] = strategy_of(live.ViewerMessage)
live_messages: st.SearchStrategy[live.LiveMessage] = strategy_of(live.LiveMessage)


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
    schema=st.integers(1, 2**32 - 1),
    subscription=st.integers(0, 2**31 - 1),
    conflated=st.integers(0, 2**32 - 1),
    offset=st.integers(0, limits.MAX_SEQ),
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
