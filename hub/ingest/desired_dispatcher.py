"""Delivery of desired values to connected devices, and the way of their reports back. Each change is durable first.

The file decides: a change is computed from the stored record in the thread of the registry, and the memory follows in
the order of the commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple, Protocol

from hub.ingest.device import DesiredLink
from hub.ingest.watches import Watch, Watches
from hub.model.desired import Change, DesiredRecord, DesiredRefused, changed, reported
from wire.command import CommandParameter, ParametersRefused
from wire.device import Reported
from wire.setting import accepted_values, unknown_setting

DesiredTransition = Callable[[DesiredRecord], DesiredRecord | None]


class DesiredStore(Protocol):
    """Durable desired values. A future holds the answer once it is on disk; `on_stored` runs first, in commit order."""

    def change(
        self, device: str, transition: DesiredTransition, on_stored: Callable[[DesiredRecord], None]
    ) -> asyncio.Future[DesiredRecord]:
        """Replace the record of a device by what `transition` returns, unless that is None. Return the record."""


class NewValues(NamedTuple):
    """Desired values that an operator sets, and names that are no longer desired. See hub.model.desired.Change."""

    values: Mapping[str, object]
    removed: Collection[str]
    operator: str
    expected_version: int | None = None


class DesiredDispatcher:
    """The desired values of all devices, from the operator to the device and back.

    `declared` returns the settings that a device declares. The memory has one record for each device that has one: 1 kB
    with some numbers, and 40 kB at most. Implements hub.ingest.device.DesiredInbox.
    """

    def __init__(
        self,
        store: DesiredStore,
        *,
        declared: Callable[[str], Sequence[CommandParameter]],
        clock: Callable[[], int],
        is_retired: Callable[[str], bool] = lambda device: False,
    ) -> None:
        self._store = store
        self._declared = declared
        self._clock = clock
        self._is_retired = is_retired
        self._records: dict[str, DesiredRecord] = {}
        self._links: dict[str, DesiredLink] = {}
        self._current: set[str] = set()
        self._watches = Watches[DesiredRecord]()
        self._watchers: list[Callable[[str], None]] = []

    def restore(self, records: Iterable[DesiredRecord]) -> None:
        """Continue with the records of the file."""
        self._records.update((record.device, record) for record in records)

    # Operators.

    def record(self, device: str) -> DesiredRecord:
        """Return the desired values of a device, and its newest report."""
        return self._records.get(device) or DesiredRecord(device=device)

    def is_current(self, device: str) -> bool:
        """Return whether the device has reported on its present connection."""
        return device in self._current

    async def change(self, device: str, new: NewValues) -> DesiredRecord:
        """Record desired values, and send them if the device is connected. Raises DesiredRefused and WireError."""
        if new.values and device not in self._links and self._is_retired(device):
            detail = f"{device} is retired: it takes desired values again when it connects"
            raise DesiredRefused(detail, code="not_connected")
        settings = self._declared(device)
        names = {setting.name for setting in settings}
        unknown = [name for name in (*new.values, *new.removed) if name not in names]
        kept = self.record(device).values
        if any(name in new.values or name not in kept for name in unknown):
            detail = "; ".join(unknown_setting(name, [*names]) for name in unknown[:1])
            raise DesiredRefused(detail, code="unknown_setting")
        try:
            values = accepted_values(new.values, settings)
        except ParametersRefused as refused:
            raise DesiredRefused("; ".join(refused.problems), code="wrong_value") from None
        change = Change(values, new.removed, new.operator, new.expected_version)
        return await self._store.change(device, partial(changed, change=change, now_ns=self._clock()), self._changed)

    def watch_all(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher` with each device whose record changed, once that is durable."""
        self._watchers.append(watcher)

    def watch(self, device: str) -> AbstractContextManager[Watch[DesiredRecord] | None]:
        """Yield what reports each change of a device's record from now on; None if too many requests wait."""
        return self._watches.watch(device)

    # Devices.

    def connected(self, device: str, link: DesiredLink) -> None:
        """Send the device its desired values, now and at each change, through this connection from now on."""
        if self._links.get(device) is not link:
            self._links[device] = link
            self._current.discard(device)
        self._send(self.record(device))

    def disconnected(self, device: str, link: DesiredLink) -> None:
        """Send nothing through this connection any more."""
        if self._links.get(device) is link:
            del self._links[device]
            self._current.discard(device)

    async def report(self, device: str, link: DesiredLink, report: Reported) -> None:
        """Record the settings that a device reports, unless another connection has taken over. Raises WireError."""
        if self._links.get(device) is not link:
            return
        names = [setting.name for setting in self._declared(device)]
        await self._store.change(
            device,
            partial(reported, report=report, declared=names, now_ns=self._clock()),
            partial(self._reported, link),
        )

    # The memory follows the file.

    def _changed(self, record: DesiredRecord) -> None:
        before = self._follow(record)
        if record.version != before.version:
            self._send(record)

    def _reported(self, link: DesiredLink, record: DesiredRecord) -> None:
        if self._links.get(record.device) is link:
            self._current.add(record.device)
        self._follow(record)

    def _follow(self, record: DesiredRecord) -> DesiredRecord:
        """Keep the record; return the one before."""
        before = self.record(record.device)
        self._records[record.device] = record
        self._watches.notify(record.device, record)
        for watcher in self._watchers:
            watcher(record.device)
        return before

    def _send(self, record: DesiredRecord) -> None:
        link, message = self._links.get(record.device), record.message
        if link is not None and message is not None:
            link.send(message)
