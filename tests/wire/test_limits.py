"""The bounds of messages: what is at the bound is accepted, what is beyond it is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wire import limits
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES, VIEWER_MESSAGES, Codec
from wire.errors import Code, WireError

HELLO = {
    "type": "hello",
    "device": "pump-7",
    "epoch": "0123456789abcdef",
    "next_seq": 1,
    "durable": True,
    "time": 0,
}
SUBSCRIBE = {"type": "subscribe", "id": 1, "devices": ["*"], "metrics": ["*"]}


def declare(**fields: Any) -> dict[str, Any]:
    """A declaration of one metric."""
    return {"type": "declare", "metrics": [{"name": "a", **fields}]}


def metrics(count: int) -> list[dict[str, str]]:
    """So many metrics."""
    return [{"name": f"m{number}"} for number in range(count)]


def refused_rows(ranges: list[list[int]]) -> dict[str, Any]:
    """A refused column with these rows."""
    return {"metric": "a", "code": "empty", "readings": 1, "rows": ranges}


def partial_reject(columns: list[dict[str, Any]]) -> dict[str, Any]:
    """A reject of some values."""
    return {"type": "reject", "seq": 1, "code": "empty", "message": "", "partial": True, "columns": columns}


def refused(reasons: int = 1, source: str = "s", **fields: object) -> dict[str, Any]:
    """A report of refusals with so many reasons."""
    reason = {"code": "type", "count": 1, "message": "", **fields}
    return {"type": "refused", "seq": 1, "source": source, "from": 1, "to": 1, "reasons": [reason] * reasons}


def event(**fields: object) -> dict[str, Any]:
    """An event of the device."""
    return {"type": "event", "seq": 1, "time": 1, "kind": "restarted", **fields}


def commands(count: int = 1, **fields: object) -> dict[str, Any]:
    """A declaration of commands."""
    return {"type": "declare", "metrics": [], "commands": [{"name": "stop", **fields}] * count}


def parameter(**fields: object) -> dict[str, Any]:
    """A declaration of a command with one parameter."""
    return commands(parameters=[{"name": "p", **fields}])


def command_state(**fields: object) -> dict[str, Any]:
    """The state of a command."""
    return {"type": "command_state", "id": "0123456789abcdef", "state": "failed", "time": 0, **fields}


def settings(n: int = 1, **fields: object) -> dict[str, Any]:
    """A declaration of settings."""
    return {
        "type": "declare", "metrics": [], "settings": [{"name": f"s{number}", **fields} for number in range(n)],
    }  # fmt: skip


def reported(**fields: object) -> dict[str, Any]:
    """A report of settings."""
    return {"type": "reported", "version": 1, **fields}


def problem(**fields: object) -> dict[str, Any]:
    """A report of settings with a problem."""
    return reported(problems=[{"name": "s", "code": "c", **fields}])


def command(**fields: object) -> dict[str, Any]:
    """A command."""
    return {
        "type": "command", "id": "0123456789abcdef", "name": "stop", "parameters": {}, "created": 0, "timeout_ms": 1,
        **fields,
    }  # fmt: skip


AGENT = [
    ("device", lambda n: {**HELLO, "device": "d" * n}, limits.MAX_DEVICE_ID),
    ("metrics of a hello", lambda n: {**HELLO, "metrics": metrics(n)}, limits.MAX_METRICS),
    ("metrics of a declare", lambda n: {"type": "declare", "metrics": metrics(n)}, limits.MAX_METRICS),
    ("tags", lambda n: {**HELLO, "tags": {f"k{number}": "" for number in range(n)}}, limits.MAX_TAGS),
    ("tag key", lambda n: {**HELLO, "tags": {"k" * n: ""}}, limits.MAX_TAG_KEY),
    ("tag value", lambda n: {**HELLO, "tags": {"k": "v" * n}}, limits.MAX_TAG_VALUE),
    ("agent", lambda n: {**HELLO, "agent": "a" * n}, limits.MAX_TAG_VALUE),
    ("token", lambda n: {**HELLO, "token": "t" * n}, limits.MAX_TOKEN),
    ("time", lambda n: {**HELLO, "time": n}, limits.MAX_TIME_NS),
    ("next_seq", lambda n: {**HELLO, "next_seq": n}, limits.MAX_SEQ),
    ("metric name", lambda n: declare(name="é" * n), limits.MAX_METRIC_NAME),
    ("unit", lambda n: declare(unit="°" * n), limits.MAX_UNIT),
    ("description", lambda n: declare(description="d" * n), limits.MAX_DESCRIPTION),
    ("reason", lambda n: {"type": "gap", "from": 1, "to": 1, "reason": "r" * n}, limits.MAX_REASON),
    ("end of a gap", lambda n: {"type": "gap", "from": 1, "to": n, "reason": ""}, limits.MAX_SEQ),
    ("reasons of a report", lambda n: refused(n), limits.MAX_REFUSALS),
    ("source of a report", lambda n: refused(source="s" * n), limits.MAX_SOURCE_NAME),
    ("raw text of a reason", lambda n: refused(raw="r" * n), limits.MAX_REFUSED_RAW),
    ("value of a reason", lambda n: refused(value="v" * n), limits.MAX_REFUSED_VALUE),
    ("setting of a reason", lambda n: refused(setting="s" * n), limits.MAX_SETTING),
    ("sentence of a reason", lambda n: refused(message="m" * n), limits.MAX_MESSAGE),
    ("kind of an event", lambda n: event(kind="k" * n), limits.MAX_EVENT_KIND),
    ("source of an event", lambda n: event(source="s" * n), limits.MAX_SOURCE_NAME),
    ("detail of an event", lambda n: event(detail="d" * n), limits.MAX_REASON),
    ("time of an event", lambda n: event(time=n), limits.MAX_TIME_NS),
    ("commands", lambda n: commands(n), limits.MAX_COMMANDS),
    ("name of a command", lambda n: commands(name="c" * n), limits.MAX_COMMAND_NAME),
    ("description of a command", lambda n: commands(description="d" * n), limits.MAX_DESCRIPTION),
    (
        "parameters",
        lambda n: commands(parameters=[{"name": f"p{number}"} for number in range(n)]),
        limits.MAX_PARAMETERS,
    ),
    ("name of a parameter", lambda n: parameter(name="p" * n), limits.MAX_COMMAND_NAME),
    ("unit of a parameter", lambda n: parameter(unit="u" * n), limits.MAX_UNIT),
    ("choices", lambda n: parameter(choices=[1.5] * n), limits.MAX_CHOICES),
    ("text of a choice", lambda n: parameter(type="string", choices=["t" * n]), limits.MAX_PARAMETER_TEXT),
    ("description of a parameter", lambda n: parameter(description="d" * n), limits.MAX_DESCRIPTION),
    ("code of a command", lambda n: command_state(code="c" * n), limits.MAX_COMMAND_CODE),
    ("message of a command", lambda n: command_state(message="m" * n), limits.MAX_MESSAGE),
    ("result of a command", lambda n: command_state(result="r" * (n - 2)), limits.MAX_COMMAND_BYTES),
    ("settings", lambda n: settings(n), limits.MAX_SETTINGS),
    ("name of a setting", lambda n: settings(name="s" * n), limits.MAX_COMMAND_NAME),
    ("reported version", lambda n: reported(version=n), limits.MAX_SEQ),
    ("reported values", lambda n: reported(values={f"s{number}": 1 for number in range(n)}), limits.MAX_SETTINGS),
    ("bytes of values", lambda n: reported(values={"s": "v" * (n - len('{"s":""}'))}), limits.MAX_SETTINGS_BYTES),
    (
        "problems",
        lambda n: reported(problems=[{"name": f"s{number}", "code": "c"} for number in range(n)]),
        limits.MAX_SETTINGS,
    ),
    ("code of a problem", lambda n: problem(code="c" * n), limits.MAX_COMMAND_CODE),
    ("message of a problem", lambda n: problem(message="m" * n), limits.MAX_MESSAGE),
    ("seq", lambda n: {"type": "data", "seq": n, "time": [], "values": {}}, limits.MAX_SEQ),
    ("a batch's time", lambda n: {"type": "data", "seq": 1, "time": [n], "values": {}}, limits.MAX_TIME_NS),
    (
        "columns",
        lambda n: {"type": "data", "seq": 1, "time": [], "values": {f"m{number}": [] for number in range(n)}},
        limits.MAX_METRICS,
    ),
]
HUB = [
    ("ack", lambda n: {"type": "ack", "seq": n}, limits.MAX_SEQ),
    (
        "message",
        lambda n: {"type": "reject", "seq": 1, "code": "empty", "message": "m" * n},
        limits.MAX_MESSAGE,
    ),
    (
        "refused columns",
        lambda n: partial_reject([{"metric": "a", "code": "empty", "readings": 1}] * n),
        limits.MAX_REFUSED_COLUMNS,
    ),
    ("row ranges", lambda n: partial_reject([refused_rows([[row, row] for row in range(n)])]), limits.MAX_ROW_RANGES),
    ("time-out of a command", lambda n: command(timeout_ms=n), limits.MAX_COMMAND_TIMEOUT_MS),
    (
        "parameters of a command",
        lambda n: command(parameters={f"p{number}": 1 for number in range(n)}),
        limits.MAX_PARAMETERS,
    ),
    ("a refused row", lambda n: partial_reject([refused_rows([[0, n]])]), limits.MAX_TIMES - 1),
]
VIEWER = [
    ("token", lambda n: {"type": "authenticate", "token": "t" * n}, limits.MAX_TOKEN),
    ("devices", lambda n: {**SUBSCRIBE, "devices": ["d"] * n}, limits.MAX_SELECTORS),
    ("a selector", lambda n: {**SUBSCRIBE, "metrics": ["m" * n]}, limits.MAX_METRIC_NAME),
    ("period", lambda n: {**SUBSCRIBE, "period_ms": n}, limits.MAX_PERIOD_MS),
    ("points", lambda n: {**SUBSCRIBE, "history": {"span_ms": 1, "points": n}}, limits.MAX_HISTORY_POINTS),
    ("id", lambda n: {**SUBSCRIBE, "id": n}, 2**31 - 1),
    ("cursor", lambda n: {**SUBSCRIBE, "cursor": {"journal": "j", "offset": n}}, limits.MAX_SEQ),
]
CASES = [
    *(pytest.param(AGENT_MESSAGES["json"], make, bound, id=f"agent: {name}") for name, make, bound in AGENT),
    *(pytest.param(HUB_MESSAGES["json"], make, bound, id=f"hub: {name}") for name, make, bound in HUB),
    *(pytest.param(VIEWER_MESSAGES, make, bound, id=f"viewer: {name}") for name, make, bound in VIEWER),
]


@pytest.mark.parametrize(("codec", "make", "bound"), CASES)
def test_a_bound_is_the_last_that_is_accepted(codec: Codec[Any], make: Any, bound: int) -> None:
    """Lengths are counted in characters, not in bytes."""
    codec.decode(json.dumps(make(bound)))
    with pytest.raises(WireError) as raised:
        codec.decode(json.dumps(make(bound + 1)))
    assert raised.value.code in (Code.BAD_MESSAGE, Code.OUT_OF_RANGE)


def test_the_largest_hello_fits_its_frame() -> None:
    """As many metrics as there may be, with names, units and descriptions of usual length."""
    full = {"name": "m" * 40, "unit": "u" * 8, "type": "boolean", "description": "d" * 80}
    assert len(json.dumps({**HELLO, "metrics": [full] * limits.MAX_METRICS})) < limits.MAX_BATCH_BYTES


def test_a_subscription_of_the_most_devices_with_the_longest_ids_fits_its_frame() -> None:
    """A wall may name every device it shows."""
    devices = ["d" * limits.MAX_DEVICE_ID] * limits.MAX_SELECTORS
    assert len(json.dumps({**SUBSCRIBE, "devices": devices})) < limits.MAX_LIVE_MESSAGE_BYTES
