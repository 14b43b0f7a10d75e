"""The text about a message in quarantine for a person: its content, and what to do about the reason. Pure.

The content is JSON, whatever the format of the message, and has a bounded length.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from itertools import islice
from struct import unpack
from typing import Any, NamedTuple

import msgspec

from hub.ingest.partial_batch import count_readings, read_loosely, refused_values
from hub.model.batch import MESSAGE_CODES, SOURCE_REFUSED
from hub.model.store import FIELD_CONFLICT
from wire.codec import AGENT_MESSAGES, Format
from wire.columns import ITEM_BYTES
from wire.device import Refused
from wire.errors import Code, WireError

MAX_ITEMS = 200
"""Items of each list and object: more rows of a batch than a person reads."""

MAX_TEXT = 2_000
"""Characters of one string."""

MAX_DEPTH = 12
"""Levels of lists within lists: a batch has three."""

MAX_CHARACTERS = 64 * 1024
"""Characters of the whole text: a page shows them without a pause."""

MAX_VALUES = 100
"""Refused values that are listed one by one: more than a person reads."""

MAX_VALUE = 120
"""Characters of each."""

INDENT = "  "

OMITTED = "…"


class Readable(NamedTuple):
    """The text, and whether it omits something (marked by a `…`)."""

    text: str
    shortened: bool


def readable(payload: bytes, message_format: Format) -> Readable:
    """Return the message as JSON, with a line for each member of an object, and each list on one line.

    Packed columns become numbers, and a NaN in them (no value) becomes null. Invalid JSON is returned unchanged, and
    invalid msgpack in hexadecimal.
    """
    try:
        content = (
            json.loads(payload) if message_format == "json" else msgspec.msgpack.decode(payload, ext_hook=_extension)
        )
    except (ValueError, RecursionError, msgspec.DecodeError):
        text = payload[: MAX_CHARACTERS + 1].decode(errors="replace") if message_format == "json" else payload.hex(" ")
        return Readable(*_cut(text, MAX_CHARACTERS))
    writer = _TextWriter()
    # UTF-8 has no half of a surrogate pair; JSON can escape it, and the escape is kept.
    text = writer.value(content, "", "").encode(errors="backslashreplace").decode()
    short, is_cut = _cut(text, MAX_CHARACTERS)
    return Readable(short, is_cut or writer.shortened)


class ShownValue(NamedTuple):
    """A refused value for a person: as it was sent, with its row in the batch, its time and the reason, if known."""

    metric: str
    value: str
    row: int | None
    time_ns: int | None
    reason: str | None


class RefusedContent(NamedTuple):
    """Content of a message in quarantine. `partial`: the other values of its batch or message are accepted.

    `values` are the refused ones, MAX_VALUES at most, if the message names them, or the examples of an agent's report;
    `readings` counts all. `raw` is a broker's message as text, or the lines of the examples.
    """

    partial: bool = False
    values: Sequence[ShownValue] = ()
    readings: int = 0
    raw: str | None = None


def refused_content(payload: bytes, message_format: Format) -> RefusedContent:
    """Return the refused values of a message in quarantine, and the raw text of what a broker or a source sent."""
    batch = read_loosely(payload, message_format)
    if batch is not None:
        readings = count_readings(batch)
        if batch.rows is None:
            return RefusedContent(readings=readings)
        values = islice(refused_values(batch), MAX_VALUES)
        shown = [ShownValue(v.metric, _shown(v.value), v.row, v.time_ns, None) for v in values]
        return RefusedContent(True, shown, readings)
    report = _report_of(payload, message_format)
    if report is not None:
        examples = [
            ShownValue(reason.metric, _cut(reason.value or reason.raw, MAX_VALUE)[0], None, None, reason.message)
            for reason in report.reasons
        ]
        return RefusedContent(False, examples, report.count, "\n".join(reason.raw for reason in report.reasons) or None)
    try:
        message = msgspec.json.decode(payload, type=_RefusedInput)
        raw = base64.b64decode(message.payload_base64).decode(errors="replace")
    except (msgspec.DecodeError, ValueError):
        return RefusedContent()
    listed = [
        ShownValue(refusal.metric, _cut(refusal.value, MAX_VALUE)[0], None, None, refusal.reason or None)
        for refusal in message.refused[:MAX_VALUES]
    ]
    return RefusedContent(bool(listed), listed, len(message.refused), _cut(raw, MAX_CHARACTERS)[0])


def _report_of(payload: bytes, message_format: Format) -> Refused | None:
    """Return an agent's report about what its source refused; None for any other message."""
    try:
        message = AGENT_MESSAGES[message_format].decode(payload)
    except WireError:
        return None
    return message if isinstance(message, Refused) else None


class _RefusedPart(msgspec.Struct):
    """Refused value of a message."""

    metric: str = ""
    value: str = ""
    reason: str = ""


class _RefusedInput(msgspec.Struct):
    """Message of a broker, or frame of a client, in quarantine."""

    payload_base64: str
    refused: list[_RefusedPart] = []


def _shown(value: Any) -> str:
    """Return a value as text: a string as it is, anything else as JSON."""
    text = value if isinstance(value, str) else _TextWriter().value(value, "", "")
    return _cut(text.encode(errors="backslashreplace").decode(), MAX_VALUE)[0]


class _TextWriter:
    """Writes values as JSON and records whether anything is omitted."""

    def __init__(self) -> None:
        self.shortened = False

    def value(self, value: Any, name: str, indent: str) -> str:
        """Return the text of a value: the member `name` of its object, indented by `indent`."""
        if len(indent) > MAX_DEPTH * len(INDENT):
            self.shortened = True
            return OMITTED
        match value:
            case dict():
                return self._object(value, indent)
            case bytes():
                return self._bytes(value, name, indent)
            case list() | tuple():
                return self._list(value, name, indent)
            case str():
                return self._string(value)
            case float() if not math.isfinite(value):
                return str(value)
        return json.dumps(value, default=str)

    def _object(self, members: dict[Any, Any], indent: str) -> str:
        inner = indent + INDENT
        lines = [
            f"{inner}{self.value(str(name), '', inner)}: {self.value(value, str(name), inner)}"
            for name, value in [*members.items()][:MAX_ITEMS]
        ]
        if len(members) > MAX_ITEMS:
            self.shortened = True
            lines.append(f"{inner}{OMITTED} {len(members) - MAX_ITEMS} more")
        body = ",\n".join(lines)
        return f"{{\n{body}\n{indent}}}" if lines else "{}"

    def _list(self, items: Sequence[Any], name: str, indent: str) -> str:
        texts = [self.value(item, name, indent + INDENT) for item in items[:MAX_ITEMS]]
        if len(items) > MAX_ITEMS:
            self.shortened = True
            texts.append(f"{OMITTED} {len(items) - MAX_ITEMS} more")
        return f"[{', '.join(texts)}]"

    def _string(self, text: str, before: str = "") -> str:
        short, is_cut = _cut(text, MAX_TEXT)
        self.shortened |= is_cut
        return json.dumps(before + short, ensure_ascii=False)

    def _bytes(self, packed: bytes, name: str, indent: str) -> str:
        """Return a packed column as numbers: times are integers, all others floats. Other bytes are hexadecimal."""
        rows, rest = divmod(len(packed), ITEM_BYTES)
        if rest:
            return self._string(packed.hex(" "), f"{len(packed)} bytes: ")
        kind = "q" if name == "time" and len(indent) == len(INDENT) else "d"
        numbers = unpack(f"<{rows}{kind}", packed)
        return self._list([None if number != number else number for number in numbers], name, indent)


def _cut(text: str, length: int) -> tuple[str, bool]:
    return (f"{text[:length]}{OMITTED}", True) if len(text) > length else (text, False)


def _extension(code: int, data: memoryview) -> str:
    return f"extension {code}: {bytes(data).hex(' ')}"


_REMEDIATIONS: dict[str, str] = {
    Code.UNKNOWN_METRIC: (
        "The device sent a metric that it had not declared. Have its agent declare it with name, unit and type, then "
        "retry."
    ),
    Code.TYPE_CONFLICT: (
        "The hub knows the metric with another type, which the reason names. If the device is right, change the type "
        "on the device's page or with `hub metric retype`, which also retries. Otherwise give the metric its old type "
        "or another name in the device's program. A retry accepts the readings that fit."
    ),
    FIELD_CONFLICT: (
        "The field of this metric in the store has values of another type, from another device or another program. "
        "Give each device its own measurement (store.measurement), or delete the old values from the store, then retry."
    ),
    Code.WRONG_TYPE: (
        "A value does not have the type of its metric. If the metric is wrong in the hub, change its type on the "
        "device's page or with `hub metric retype`, which also retries. Otherwise correct the device's program, and "
        "delete the values."
    ),
    Code.OUT_OF_RANGE: (
        "A number, a time or a text is outside the range that can be stored. Check the device's clock and its sensor's "
        "limits. The refused values cannot be accepted: delete them when you no longer need them."
    ),
    Code.NOT_FINITE: (
        "NaN and infinity are not valid readings. Change the device's program to omit a missing value. The refused "
        "values cannot be accepted: delete them when you no longer need them."
    ),
    Code.LENGTH_MISMATCH: (
        "A column of the batch has another length than its times, so the times of its values are unknown. Correct the "
        "device's program and delete the values."
    ),
    Code.EMPTY: "The batch has no reading. Correct the device's program and delete the batch; no data is lost.",
    Code.TOO_MANY: (
        "The batch has more rows than the protocol allows. Have the device send smaller batches; delete this one."
    ),
    SOURCE_REFUSED: (
        "The device's agent could not read these lines or values, so they are in no batch. The message has the first "
        "example of each reason, and the setting of the agent that changes the decision: try it with "
        "device-agent try. Correct the device's program or the agent's settings. A retry cannot help: delete the "
        "report when you no longer need it."
    ),
    Code.BAD_MESSAGE: (
        "The message does not follow the device protocol. Correct or update the device's program. A retry can help "
        "after an update of the hub."
    ),
}

_STORE_REMEDIATION = (
    "The store refused these readings for the given reason. Correct its cause in the store or in the hub's settings, "
    "then retry."
)


_MESSAGE_REMEDIATION = (
    "The hub could not read this message, or not all of its values: those that it could read are stored. The reason "
    "names the setting that changes the decision. Correct the settings of the broker's subscription, and see the "
    "result with `hub mqtt check`; or the parameters with which the client sends; or the type of the metric (`hub "
    "metric retype`, which also retries). Then retry: the message is decoded again, and what can be read is stored. "
    "Delete the entry when you no longer need it."
)


def remediation(code: str) -> str:
    """Return what a person can do about this reason.

    A code that is neither the device protocol's nor a bridge's is a store's.
    """
    return _REMEDIATIONS.get(code, _MESSAGE_REMEDIATION if code in MESSAGE_CODES else _STORE_REMEDIATION)
