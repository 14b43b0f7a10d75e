"""The messages of the device protocol, /v1/device: agent to hub and hub to agent.

Each is a frozen struct tagged by `type`; decoding never makes an invalid one. The same structs are used in JSON (text
frames) and msgpack (binary frames).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from wire import limits
from wire.command import CommandDeclaration, CommandId, CommandName, ParameterValue, result_problem
from wire.errors import Code
from wire.model import DeviceId, Epoch, Metric, MetricName, Seq, TimeNs
from wire.setting import Settings, SettingsVersion, SettingValues, check_setting_values, check_settings
from wire.text import has_control, plural

PROTOCOL_JSON = "telemetry.v1.json"
PROTOCOL_MSGPACK = "telemetry.v1.msgpack"
PROTOCOL_JSON_1_1 = "telemetry.v1.1.json"
PROTOCOL_MSGPACK_1_1 = "telemetry.v1.1.msgpack"
PROTOCOL_JSON_1_2 = "telemetry.v1.2.json"
PROTOCOL_MSGPACK_1_2 = "telemetry.v1.2.msgpack"
PROTOCOL_JSON_1_3 = "telemetry.v1.3.json"
PROTOCOL_MSGPACK_1_3 = "telemetry.v1.3.msgpack"
PROTOCOL_JSON_1_4 = "telemetry.v1.4.json"
PROTOCOL_MSGPACK_1_4 = "telemetry.v1.4.msgpack"
"""Version 1.1 adds `status`, version 1.2 `refused` and the fields of a partial `reject`, version 1.3 `event`, version
1.4 commands and settings. An older end rejects what it does not know, so the subprotocol announces them: a client that
offers several versions gets the newest that the hub knows."""

Times = list[TimeNs] | bytes
"""A time column: integers, or packed little-endian int64 (bin in msgpack, base64 in JSON)."""
Column = list[float | int | bool | str | None] | bytes
"""A value column: values with None for "no value", or packed little-endian float64 with NaN for "no value"."""
Tags = Annotated[
    dict[
        Annotated[str, Meta(min_length=1, max_length=limits.MAX_TAG_KEY)],
        Annotated[str, Meta(max_length=limits.MAX_TAG_VALUE)],
    ],
    Meta(max_length=limits.MAX_TAGS),
]
Metrics = Annotated[list[Metric], Meta(max_length=limits.MAX_METRICS)]
Commands = Annotated[list[CommandDeclaration], Meta(max_length=limits.MAX_COMMANDS)]
Sentence = Annotated[str, Meta(max_length=limits.MAX_MESSAGE)]


class Hello(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="hello"):
    """Agent → hub, first: the device and the state of its spool.

    `next_seq` is the number of the next new batch of the spool; `durable`: the spool outlives its process. `time` is
    the device's clock. `token` is for clients that cannot set an Authorization header. A `guest` is another program
    that sends history of the device: it is rejected while the device itself is connected, and it does not change the
    device's tags and agent. `commands` and `settings`, from version 1.4 on, are all that the device has.
    """

    device: DeviceId
    epoch: Epoch
    next_seq: Seq
    durable: bool
    time: TimeNs
    metrics: Metrics = []
    tags: Tags = {}
    agent: Annotated[str, Meta(max_length=limits.MAX_TAG_VALUE)] = ""
    token: Annotated[str, Meta(max_length=limits.MAX_TOKEN)] | None = None
    guest: bool = False
    commands: Commands = []
    settings: Settings = []

    def __post_init__(self) -> None:
        check_settings(self.settings)


class Declare(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="declare"):
    """Agent → hub: metrics that are new since the hello, sent before the first batch that uses them.

    `commands` and `settings`, from version 1.4 on, are new or changed ones; the others stay.
    """

    metrics: Metrics
    commands: Commands = []
    settings: Settings = []

    def __post_init__(self) -> None:
        check_settings(self.settings)


class Data(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="data"):
    """Agent → hub: a batch. Every value column is as long as the time column.

    `historical` marks backfill: stored, and never shown as the latest value.
    """

    seq: Seq
    time: Times
    values: Annotated[dict[MetricName, Column], Meta(max_length=limits.MAX_METRICS)]
    historical: bool = False


class Gap(Struct, frozen=True, forbid_unknown_fields=True, tag="gap"):
    """Agent → hub: the batches `from` to `to` (both included) were lost by the device, with the reason."""

    from_seq: Seq = field(name="from")
    to: Seq
    reason: Annotated[str, Meta(max_length=limits.MAX_REASON)]

    def __post_init__(self) -> None:
        if self.to < self.from_seq:
            raise ValueError(f"a gap cannot begin at {self.from_seq} and end at {self.to}")


class TimeReply(Struct, frozen=True, forbid_unknown_fields=True, tag="time_reply"):
    """Agent → hub: the answer to a time probe; `hub_time` is repeated, `device_time` is read when the probe arrives."""

    hub_time: TimeNs
    device_time: TimeNs


class SourceState(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """State of a source of readings, such as a port or a file: whether it works, since when, and the error if not."""

    name: Annotated[str, Meta(min_length=1, max_length=limits.MAX_SOURCE_NAME)]
    ok: bool
    since: TimeNs
    error: Annotated[str, Meta(max_length=limits.MAX_SOURCE_ERROR)] = ""

    def __post_init__(self) -> None:
        if has_control(self.name) or has_control(self.error):
            raise ValueError("a name or an error of a source has control or bidirectional characters")


Sources = Annotated[list[SourceState], Meta(max_length=limits.MAX_SOURCES)]


class Status(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="status"):
    """Agent → hub, from version 1.1 on: the number of the next new batch, and the states of all sources.

    `time` is the device's clock at sending; the times in `sources` are by the same clock. `acked` is the highest number
    that the hub had acknowledged before, if the welcome contains a lower one; else 0.
    """

    time: TimeNs
    next_seq: Seq
    sources: Sources = []
    acked: Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)] = 0

    def __post_init__(self) -> None:
        if len({source.name for source in self.sources}) < len(self.sources):
            raise ValueError("two sources have the same name")


class SourceRefusal(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Number of lines and values that a source refused for one reason, and the first of them as an example.

    `raw` is the line as text, and `metric` and `value` are set if only this value of it was refused. `setting` is the
    setting of the agent that changes the decision.
    """

    code: Annotated[str, Meta(pattern="^[a-z_]{1,32}$")]
    count: Annotated[int, Meta(ge=1, le=limits.MAX_SEQ)]
    message: Sentence
    raw: Annotated[str, Meta(max_length=limits.MAX_REFUSED_RAW)] = ""
    metric: Annotated[str, Meta(max_length=limits.MAX_METRIC_NAME)] = ""
    value: Annotated[str, Meta(max_length=limits.MAX_REFUSED_VALUE)] = ""
    setting: Annotated[str, Meta(max_length=limits.MAX_SETTING)] = ""


SourceRefusals = Annotated[list[SourceRefusal], Meta(min_length=1, max_length=limits.MAX_REFUSALS)]


class Refused(Struct, frozen=True, forbid_unknown_fields=True, tag="refused"):
    """Agent → hub, from version 1.2 on: what a source could not read, by reason. It has a number like a batch.

    `from` and `to` are the times of the first and the last of them by the device's clock.
    """

    seq: Seq
    source: Annotated[str, Meta(min_length=1, max_length=limits.MAX_SOURCE_NAME)]
    from_time: TimeNs = field(name="from")
    to: TimeNs
    reasons: SourceRefusals

    @property
    def count(self) -> int:
        """The number of refused lines and values."""
        return sum(reason.count for reason in self.reasons)

    def sentence(self, max_length: int) -> str:
        """Return the counts by reason, each with its first example, cut to this length."""
        reasons = ", ".join(f"{reason.code} {reason.count:,} ({reason.message})" for reason in self.reasons)
        what = plural(self.count, "line or value", "lines or values")
        text = f"{what} refused by {self.source}: {reasons}"
        return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


class DeviceEvent(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="event"):
    """Agent → hub, from version 1.3 on: something that happened to the device or a source, such as a restart.

    It has a number like a batch, so it is recorded once. `time` is by the device's clock, as that of readings.
    """

    seq: Seq
    time: TimeNs
    kind: Annotated[str, Meta(pattern="^[a-z][a-z ]*$", max_length=limits.MAX_EVENT_KIND)]
    source: Annotated[str, Meta(max_length=limits.MAX_SOURCE_NAME)] = ""
    detail: Annotated[str, Meta(max_length=limits.MAX_REASON)] = ""

    def __post_init__(self) -> None:
        if any(map(has_control, (self.kind, self.source, self.detail))):
            raise ValueError("a text of an event has control or bidirectional characters")

    def sentence(self, max_length: int) -> str:
        """Return the event as a text, cut to this length."""
        text = ": ".join(filter(None, (self.kind, self.source, self.detail)))
        return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


class CommandState(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="command_state"):
    """Agent → hub, from version 1.4 on: what became of a command. It has no number, so no backlog delays it.

    `received`: the command is on the agent's disk. The others are final. `rejected`: the device did not execute it.
    Repeated after each welcome until the hub answers with `command_recorded`.
    """

    id: CommandId
    state: Literal["received", "succeeded", "failed", "rejected"]
    time: TimeNs
    code: Annotated[str, Meta(pattern=rf"^[a-z_]{{0,{limits.MAX_COMMAND_CODE}}}\Z")] = ""
    message: Sentence = ""
    result: Any = None
    """Any JSON value of at most MAX_COMMAND_BYTES and MAX_RESULT_DEPTH levels."""

    def __post_init__(self) -> None:
        problem = result_problem(self.result)
        if problem:
            raise ValueError(f"the result of a command is not accepted: {problem}")


class SettingProblem(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The reason why the desired value of a setting is not in force. `retried`: the agent tries again by itself."""

    name: CommandName
    code: Annotated[str, Meta(pattern=rf"^[a-z_]{{1,{limits.MAX_COMMAND_CODE}}}\Z")]
    message: Sentence = ""
    retried: bool = False


class Reported(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="reported"):
    """Agent → hub, from version 1.4 on: the settings as they are in force. It has no number and no answer.

    `version` is that of the newest desired values that the agent has processed, 0 if there are none. `values` are all
    that it knows. Sent after each welcome, after `desired`, and when a value changes on the device itself.
    """

    version: SettingsVersion
    values: SettingValues = {}
    problems: Annotated[list[SettingProblem], Meta(max_length=limits.MAX_SETTINGS)] = []

    def __post_init__(self) -> None:
        check_setting_values(self.values)
        if len({problem.name for problem in self.problems}) < len(self.problems):
            raise ValueError("two problems have the name of the same setting")


AgentMessage = Hello | Declare | Data | Gap | TimeReply | Status | Refused | DeviceEvent | CommandState | Reported


class Welcome(Struct, frozen=True, forbid_unknown_fields=True, tag="welcome"):
    """Hub → agent: all up to `acked` of this epoch is on disk (0: nothing yet); continue with `acked + 1`.

    `window` is the number of batches that may be unacknowledged, `time` the hub's clock, `retry_ms` the upper bound of
    the first reconnect delay.
    """

    hub: str
    acked: Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)]
    window: Annotated[int, Meta(ge=1)]
    max_batch_bytes: Annotated[int, Meta(ge=1)]
    time: TimeNs
    retry_ms: Annotated[int, Meta(ge=0)]


class Ack(Struct, frozen=True, forbid_unknown_fields=True, tag="ack"):
    """Hub → agent: every batch up to `seq` is on disk, or durably in quarantine, or a declared gap."""

    seq: Seq


RowRange = Annotated[list[Annotated[int, Meta(ge=0, le=limits.MAX_TIMES - 1)]], Meta(min_length=2, max_length=2)]
"""The first and the last of some rows, counted from 0."""


class RefusedColumn(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Values of one metric that are refused for one reason: how many, and their rows.

    The rows are empty where they are unknown: the column has another length than the times.
    """

    metric: Annotated[str, Meta(max_length=limits.MAX_METRIC_NAME)]
    code: Code
    readings: Annotated[int, Meta(ge=0)]
    rows: Annotated[list[RowRange], Meta(max_length=limits.MAX_ROW_RANGES)] = []


class Reject(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="reject"):
    """Hub → agent: batch `seq` is in quarantine with this reason; it is acknowledged like the others.

    `partial`, from version 1.2 on: only `readings` values of the batch are, those of `columns`, and the others are
    accepted. `code` and `message` are the first of the reasons then.
    """

    seq: Seq
    code: Code
    message: Sentence
    partial: bool = False
    readings: Annotated[int, Meta(ge=0)] = 0
    columns: Annotated[list[RefusedColumn], Meta(max_length=limits.MAX_REFUSED_COLUMNS)] = []


class Error(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="error"):
    """Hub → agent: the reason why the hub closes the connection right after this.

    `expected` is the expected seq if the seq was wrong; `retry_ms` is a time to wait before the next connection.
    """

    code: Code
    message: Sentence
    expected: Seq | None = None
    retry_ms: Annotated[int, Meta(ge=0)] | None = None


class TimeProbe(Struct, frozen=True, forbid_unknown_fields=True, tag="time_probe"):
    """Hub → agent: measures the offset of the device's clock; answer it at once with a time reply."""

    hub_time: TimeNs


class Command(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="command"):
    """Hub → agent, from version 1.4 on: execute this command once.

    Repeated after each welcome until the agent has answered it. `created` is by the hub's clock; `timeout_ms` is the
    time in which the hub expects the result, from `created` on. Of a `queued` command it begins when the agent has
    received it, and has finished the queued commands that it received before.
    """

    id: CommandId
    name: CommandName
    parameters: Annotated[dict[CommandName, ParameterValue], Meta(max_length=limits.MAX_PARAMETERS)]
    created: TimeNs
    timeout_ms: Annotated[int, Meta(ge=1, le=limits.MAX_COMMAND_TIMEOUT_MS)]
    queued: bool = False


class CommandRecorded(Struct, frozen=True, forbid_unknown_fields=True, tag="command_recorded"):
    """Hub → agent, from version 1.4 on: this state of a command is on the hub's disk; do not repeat it."""

    id: CommandId
    state: Literal["received", "succeeded", "failed", "rejected"]


class Desired(Struct, frozen=True, forbid_unknown_fields=True, tag="desired"):
    """Hub → agent, from version 1.4 on: all desired values. They replace those of every earlier `desired`.

    Sent after each welcome and at each change, to a device that declares settings. The agent processes it whatever its
    version is: a hub that was restored from a copy has an older one.
    """

    version: SettingsVersion
    values: SettingValues

    def __post_init__(self) -> None:
        check_setting_values(self.values)


HubMessage = Welcome | Ack | Reject | Error | TimeProbe | Command | CommandRecorded | Desired
