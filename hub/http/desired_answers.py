"""The answers of the HTTP API about desired values of devices, and the bodies of its requests. See hub.http.answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from hub.http.answers import TimeNs
from hub.http.command_answers import MAX_WAIT_S
from hub.model.desired import DesiredRecord, SyncState, ValueSync, difference, overall
from wire.command import CommandParameter, ParameterValue, parameter_signature
from wire.limits import MAX_COMMAND_NAME, MAX_SEQ, MAX_SETTINGS
from wire.model import MetricType

SyncName = Literal["in_sync", "out_of_sync", "rejected", "unknown"]

ExpectedVersion = Annotated[
    Annotated[int, Meta(ge=0, le=MAX_SEQ)] | None,
    Meta(description="The version that the caller has read. If the desired values have another one, nothing changes."),
]


class DesiredRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A change of desired values."""

    # Any: a text must not become a number, as it would in a query.
    values: Annotated[
        dict[Annotated[str, Meta(max_length=MAX_COMMAND_NAME)], Any],
        Meta(
            min_length=1,
            max_length=MAX_SETTINGS,
            description="Numbers, booleans and texts by the names of settings; null: the setting is no longer desired.",
        ),
    ]
    expected_version: ExpectedVersion = None
    wait_s: Annotated[
        float,
        Meta(
            ge=0,
            le=MAX_WAIT_S,
            description="Wait so long until the device has each of these values, or has rejected it.",
        ),
    ] = 0


class DeclaredSetting(Struct, frozen=True):
    """A setting as a device declares it."""

    type: MetricType
    unit: str
    min: float | int | None
    max: float | int | None
    choices: Annotated[list[ParameterValue], Meta(description="If there are any, no other value is accepted.")]
    description: str
    usage: Annotated[str, Meta(description="The setting in one line, for people.")]


class DesiredSetting(Struct, frozen=True):
    """A desired value of a setting, and its state."""

    value: ParameterValue
    version: Annotated[int, Meta(description="Version of the document in which it was set.")]
    time_ns: TimeNs
    operator: Annotated[str, Meta(description="Role and id of the token, or the user of a local command line.")]
    state: SyncName
    code: Annotated[str, Meta(description="The reason of the state, for programs; empty if there is none.")]
    message: Annotated[str, Meta(description="The reason of the state, for people.")]


class SettingDetails(Struct, frozen=True):
    """A setting of a device: as it is declared, desired, and reported."""

    name: str
    declared: Annotated[DeclaredSetting | None, Meta(description="null: the device does not declare it.")]
    desired: Annotated[DesiredSetting | None, Meta(description="null: no value is desired.")]
    reported: Annotated[ParameterValue | None, Meta(description="The value in force; null: it is not reported.")]


class DesiredDetails(Struct, frozen=True):
    """The desired values of a device, what it has reported, and the difference."""

    device: str
    version: Annotated[int, Meta(description="It grows with each change; 0: nothing was ever desired.")]
    changed_ns: TimeNs | None
    reported_version: Annotated[int | None, Meta(description="The newest version that the device has processed.")]
    reported_ns: Annotated[TimeNs | None, Meta(description="Time of the newest report; null: there is none.")]
    is_current: Annotated[bool, Meta(description="The device has reported on its present connection.")]
    state: Annotated[SyncName | None, Meta(description="The state that matters most; null: no value is desired.")]
    revision: Annotated[str, Meta(description="Changes with the desired values and with the report: see `seen`.")]
    settings: list[SettingDetails]


def revision(record: DesiredRecord) -> str:
    """Return a text that changes with the desired values and with the report."""
    return f"{record.version}-{record.reported_ns}"


def desired_details(record: DesiredRecord, declared: Sequence[CommandParameter], *, is_current: bool) -> DesiredDetails:
    """Return the desired values of a device as the API shows them: declared settings first, in their order."""
    settings = {setting.name: setting for setting in declared}
    differences = {name: difference(record, name, settings) for name in record.values}
    report, state = record.reported, overall([*differences.values()])
    return DesiredDetails(
        device=record.device,
        version=record.version,
        changed_ns=record.changed_ns or None,
        reported_version=None if report is None else report.version,
        reported_ns=record.reported_ns or None,
        is_current=is_current,
        state=None if state is None else state.value,
        revision=revision(record),
        settings=[
            SettingDetails(
                name,
                _declared(settings.get(name)),
                _desired(record, name, differences.get(name)),
                None if report is None else report.values.get(name),
            )
            for name in dict.fromkeys((*settings, *record.values))
        ],
    )


def is_settled(record: DesiredRecord, names: Sequence[str], declared: Sequence[CommandParameter]) -> bool:
    """Return whether the device has each of these desired values, or has rejected it."""
    known = [setting.name for setting in declared]
    settled = (SyncState.IN_SYNC, SyncState.REJECTED)
    return all(difference(record, name, known).state in settled for name in names if name in record.values)


def _declared(setting: CommandParameter | None) -> DeclaredSetting | None:
    if setting is None:
        return None
    return DeclaredSetting(
        type=setting.type,
        unit=setting.unit,
        min=setting.min,
        max=setting.max,
        choices=setting.choices,
        description=setting.description,
        usage=parameter_signature(setting),
    )


def _desired(record: DesiredRecord, name: str, found: ValueSync | None) -> DesiredSetting | None:
    if found is None:
        return None
    desired = record.values[name]
    return DesiredSetting(
        value=desired.value,
        version=desired.version,
        time_ns=desired.time_ns,
        operator=desired.operator,
        state=found.state.value,
        code=found.code,
        message=found.message,
    )
