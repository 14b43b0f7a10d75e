"""Desired values of the settings of devices: to read and to change them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from hub.http.command_answers import Wait
from hub.http.desired_answers import (
    DesiredDetails,
    DesiredRequest,
    ExpectedVersion,
    desired_details,
    is_settled,
    revision,
)
from hub.http.long_poll import LongPolls
from hub.http.problem import ProblemCode, Refusal
from hub.http.routes.devices import DeviceName
from hub.http.routing import Operation
from hub.http.status import Status
from hub.ingest.desired_dispatcher import DesiredDispatcher, NewValues
from hub.model.desired import DesiredRecord, DesiredRefused
from hub.model.identity import Action, Identity
from wire.command import CommandParameter
from wire.limits import MAX_COMMAND_NAME

REFUSALS = {
    "unknown_setting": (HTTPStatus.UNPROCESSABLE_ENTITY, ProblemCode.UNKNOWN_SETTING),
    "wrong_value": (HTTPStatus.UNPROCESSABLE_ENTITY, ProblemCode.WRONG_VALUE),
    "wrong_version": (HTTPStatus.CONFLICT, ProblemCode.WRONG_VERSION),
    "not_connected": (HTTPStatus.CONFLICT, ProblemCode.NOT_CONNECTED),
    "too_many_settings": (HTTPStatus.CONFLICT, ProblemCode.TOO_MANY_SETTINGS),
}

SettingName = Annotated[str, Meta(min_length=1, max_length=MAX_COMMAND_NAME)]


class ReadSettings(Protocol):
    """Reads the settings that devices declare."""

    def declared(self, device: str) -> Sequence[CommandParameter]:
        """Return the settings that a device declares, in the order of their declaration."""


class DesiredQuery(Struct, frozen=True):
    """The parameters of a request for desired values."""

    wait_s: Wait = 0
    seen: Annotated[
        Annotated[str, Meta(max_length=64)] | None,
        Meta(
            description="Wait for another `revision` than this one. Without it, wait until the device has each desired "
            "value, or has rejected it."
        ),
    ] = None


class RemovalQuery(Struct, frozen=True):
    """The parameters of a removal."""

    expected_version: ExpectedVersion = None


@dataclass(frozen=True)
class DesiredRoutes:
    """The operations about desired values."""

    status: Status
    dispatcher: DesiredDispatcher
    table: ReadSettings
    long_polls: LongPolls

    @Operation("GET", "/api/v1/devices/{device}/desired", may=Action.READ)
    async def desired(self, device: DeviceName, query: DesiredQuery) -> DesiredDetails:
        """Return the settings of a device: declared, desired and reported, or wait for a change of them."""
        self._check_device(device)

        def has_news(record: DesiredRecord) -> bool:
            if query.seen is not None:
                return revision(record) != query.seen
            return is_settled(record, [*record.values], self.table.declared(device))

        await self._wait(device, query.wait_s, has_news)
        return self._details(device)

    @Operation("PATCH", "/api/v1/devices/{device}/desired", may=Action.OPERATE, errors=(409, 503))
    async def change_desired(self, caller: Identity, device: DeviceName, body: DesiredRequest) -> DesiredDetails:
        """Change desired values; the others stay. The answer is the state as it is recorded, or, with `wait_s`, as it
        is when the device has each of these values or has rejected it, or the time has passed."""
        self._check_device(device)
        values = {name: value for name, value in body.values.items() if value is not None}
        removed = [name for name, value in body.values.items() if value is None]
        await self._change(caller, device, values, removed, body.expected_version)
        if body.wait_s:
            await self._wait(
                device, body.wait_s, lambda record: is_settled(record, [*values], self.table.declared(device))
            )
        return self._details(device)

    @Operation(
        "DELETE", "/api/v1/devices/{device}/desired/{setting}", may=Action.OPERATE, status=200, errors=(409, 503)
    )
    async def remove_desired(
        self, caller: Identity, device: DeviceName, setting: SettingName, query: RemovalQuery
    ) -> DesiredDetails:
        """Desire no value of a setting any more. The value in force stays."""
        self._check_device(device)
        await self._change(caller, device, {}, [setting], query.expected_version)
        return self._details(device)

    async def _change(
        self,
        caller: Identity,
        device: str,
        values: Mapping[str, object],
        removed: Sequence[str],
        expected_version: int | None,
    ) -> None:
        new = NewValues(values, removed, caller.operator, expected_version)
        try:
            await self.dispatcher.change(device, new)
        except DesiredRefused as refused:
            status, code = REFUSALS[refused.code]
            raise Refusal(status, str(refused), code=code) from None

    async def _wait(self, device: str, wait_s: float, has_news: Callable[[DesiredRecord], bool]) -> None:
        with self.dispatcher.watch(device) as watch:
            async with self.long_polls.within(wait_s):
                while watch is not None and wait_s and not has_news(self.dispatcher.record(device)):
                    await watch.next()

    def _details(self, device: str) -> DesiredDetails:
        return desired_details(
            self.dispatcher.record(device),
            self.table.declared(device),
            is_current=self.dispatcher.is_current(device),
        )

    def _check_device(self, device: str) -> None:
        if self.status.devices.get(device) is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no device {device}")
