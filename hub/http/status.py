"""The status of the hub as the API and Prometheus report it: the fleet, the flow of the data, and readiness."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from hub.http import answers
from hub.ingest.device import Device, Devices
from hub.journal.consumer import ConsumerStatus
from hub.journal.journal import Journal
from hub.live.hub import LiveHub
from hub.model.accounting import Balance
from hub.model.batch import Series
from hub.model.bridge import BridgeState
from hub.model.identity import Action, Identity

NO_READINGS = Balance(0, 0, 0, 0)

Sample = tuple[str, str, float]
"""Name, help text and value of a metric."""


class HubIdentity(NamedTuple):
    """Id, name, version and start of this hub."""

    id: str
    name: str
    version: str
    started_ns: int


class StoreAccounting(Protocol):
    """The accounting of the store, which is a consumer of the journal."""

    consumer: str

    async def refresh(self) -> None: ...
    def balance(self, device: str) -> Balance: ...


class Status:
    """Reads the state of the other rooms and changes nothing."""

    def __init__(
        self,
        identity: HubIdentity,
        *,
        devices: Devices,
        journal: Journal,
        live: LiveHub,
        accounting: StoreAccounting,
        store_status: Callable[[], ConsumerStatus],
        dropped_events: Callable[[], int],
        series_of: Callable[[str], Sequence[Series]],
        registry_fullness: Callable[[], str | None],
        bridges: Callable[[], Sequence[BridgeState]],
    ) -> None:
        self._identity = identity
        self._devices = devices
        self._journal = journal
        self._live = live
        self._accounting = accounting
        self._store_status = store_status
        self._dropped_events = dropped_events
        self._series_of = series_of
        self._registry_fullness = registry_fullness
        self.bridges = bridges

    def now_ns(self) -> int:
        """Return the time of the hub's clock."""
        return self._devices.clock()

    def hub(self, role: str) -> answers.HubDetails:
        """Return the hub and its journal, the caller's role, and the problems that keep the hub from being ready."""
        return answers.HubDetails(
            hub=self._identity.id,
            name=self._identity.name,
            version=self._identity.version,
            journal=self._journal.id,
            started_ns=self._identity.started_ns,
            time_ns=self.now_ns(),
            role=role,
            problems=self.problems(),
            mqtt=bool(self.bridges()),
        )

    # The fleet.

    def device_ids(self) -> Iterable[str]:
        """Return the id of every device in service."""
        return [device.id for device in self._in_service()]

    def _in_service(self) -> Iterator[Device]:
        return (device for device in self._devices if not device.retired)

    def is_in_service(self, device_id: str) -> bool:
        """Return whether the hub knows this device and the device is not retired."""
        device = self._devices.get(device_id)
        return device is not None and not device.retired

    def device(self, device_id: str) -> answers.DeviceDetails | None:
        """Return one device with its metrics, also a retired one; None if there is no device with this id."""
        device = self._devices.get(device_id)
        if device is None:
            return None
        metrics = [self.metric(series) for series in self._series_of(device.id)]
        return answers.DeviceDetails(**msgspec.structs.asdict(device.state()), metrics=metrics)

    def metric(self, series: Series) -> answers.MetricDetails:
        """Return a metric with its latest reading."""
        latest = self._live.live_series(series)
        return answers.MetricDetails(
            series.metric,
            series.type,
            series.unit,
            series.description,
            None if latest.value is None else answers.TimedValue(int(latest.time_ns), latest.value),
        )

    # The flow.

    async def flow(self, caller: Identity, *, limit: int | None = None) -> answers.FlowDetails:
        """Return where every batch and reading is. A caller that only writes gets its own devices.

        `limit` bounds the devices: those that do not balance come first, then those with most waiting. The totals are
        those of all devices.
        """
        await self._accounting.refresh()
        reads_all = caller.may(Action.READ)
        journal = self._journal
        store = self._store_status()
        devices = [self._device_flow(device) for device in self._devices if reads_all or caller.may_write(device.id)]
        totals = answers.FlowCounts(
            **{name: _sum([getattr(device, name) for device in devices]) for name in COUNTS}  # type: ignore[arg-type]
        )
        return answers.FlowDetails(
            journal=answers.JournalDetails(journal.id, journal.first_offset, journal.last_offset, journal.size_bytes),
            consumers=[
                answers.ConsumerDetails(
                    name=consumer.name,
                    offset=consumer.offset,
                    lag=max(0, journal.last_offset - consumer.offset),
                    **{
                        name: getattr(totals, name) if consumer.name == self._accounting.consumer else None
                        for name in BALANCE
                    },
                )
                for consumer in journal.consumers()
            ],
            store=answers.StoreDetails(store.phase, store.since_ns, store.last_error, store.missed),
            totals=totals,
            quarantine_dropped=journal.quarantine_dropped,
            dropped_events=self._dropped_events(),
            bad_messages=self._devices.bad_messages,
            devices=devices if limit is None else heapq.nsmallest(limit, devices, key=_urgency),
        )

    def _device_flow(self, device: Device) -> answers.DeviceFlow:
        mark = device.durable
        balance = self._accounting.balance(device.id)
        return answers.DeviceFlow(
            device=device.id,
            epoch=mark.epoch,
            acked=mark.seq,
            accepted_batches=mark.batches,
            accepted=mark.readings,
            duplicate_batches=device.duplicates,
            quarantined_batches=mark.quarantined,
            lost_batches=mark.lost,
            moved=mark.moved,
            **balance._asdict(),
            difference=balance.difference(mark.readings),
        )

    def _balance(self) -> tuple[Balance, int | None]:
        """Return the balance of all devices together, and its difference."""
        devices = self._devices
        balances = [self._accounting.balance(device.id) for device in devices]
        total = Balance(*map(_sum, zip(*balances, strict=True))) if balances else NO_READINGS
        return total, total.difference(sum(device.durable.readings for device in devices))

    # Metrics and readiness.

    def counters(self) -> list[Sample]:
        """Return the counters, since the data directory was created unless the help text says otherwise."""
        devices = self._devices
        balance, _ = self._balance()
        return [
            ("accepted_batches", "Batches accepted", sum(d.durable.batches for d in devices)),
            ("accepted_readings", "Readings accepted", sum(d.durable.readings for d in devices)),
            ("duplicate_batches", "Batches that a device sent again", sum(d.duplicates for d in devices)),
            *_known(
                ("refused_readings", "Readings that the store will never take", balance.refused),
                ("expired_readings", "Readings that the store deleted by its retention", balance.expired),
            ),
            ("lost_batches", "Batches in declared gaps", sum(d.durable.lost for d in devices)),
            ("moved_readings", "Readings moved to the next free nanosecond", sum(d.durable.moved for d in devices)),
            ("quarantine_dropped", "Batches that left the full quarantine", self._journal.quarantine_dropped),
            ("missed_entries", "Journal entries the store can never get, since the start", self._store_status().missed),
            ("dropped_events", "Events lost to a failing disk, since the start", self._dropped_events()),
            ("bad_messages", "Frames that were no message of an agent, since the start", self._devices.bad_messages),
        ]

    def gauges(self) -> list[Sample]:
        """Return the gauges as of now."""
        devices = self._devices
        balance, difference = self._balance()
        return [
            ("devices", "Devices in service", sum(1 for _ in self._in_service())),
            ("devices_connected", "Devices connected", sum(d.session is not None for d in devices)),
            *_known(
                ("stored_readings", "Readings in the store", balance.stored),
                ("waiting_readings", "Readings in the journal that wait for the store", balance.waiting),
                ("unbalanced_readings", "Accepted readings that are in no place: 0 if all is well", difference),
            ),
            ("journal_bytes", "Size of the journal on disk", self._journal.size_bytes),
            ("journal_offset", "Newest offset of the journal", self._journal.last_offset),
            ("ready", "1 when data are accepted and stored", float(not self.problems())),
        ]

    def quarantined_batches(self) -> dict[str, int]:
        """Return the batches quarantined since the data directory was created, by code."""
        return self._journal.quarantine_totals()

    def lags(self) -> dict[str, int]:
        """Return the number of journal entries that each consumer still has to process."""
        last = self._journal.last_offset
        return {consumer.name: max(0, last - consumer.offset) for consumer in self._journal.consumers()}

    def problems(self) -> dict[str, str]:
        """Return what keeps the hub from being ready, by part; empty if it is ready."""
        problems = {}
        if self._devices.refusal is not None:
            problems["journal"] = self._devices.refusal.message
        error = self._store_status().last_error
        if error is not None:
            problems["store"] = error
        return problems

    def warnings(self) -> dict[str, str]:
        """Return problems that leave the hub ready, by part: those of brokers, and a full registry."""
        warnings = {f"mqtt:{state.name}": state.last_error for state in self.bridges() if state.last_error is not None}
        fullness = self._registry_fullness()
        return warnings if fullness is None else {**warnings, "registry": fullness}


BALANCE = answers.ReadingBalance.__struct_fields__

COUNTS = answers.FlowCounts.__struct_fields__


def _known(*samples: tuple[str, str, int | None]) -> Iterator[Sample]:
    """Leave out values that are unknown at the moment: a sample of 0 would be wrong."""
    return ((name, help_text, value) for name, help_text, value in samples if value is not None)


def _urgency(device: answers.DeviceFlow) -> tuple[bool, int, str]:
    return not device.difference, -(device.waiting or 0), device.device


def _sum(numbers: Sequence[int | None]) -> int | None:
    """Return the sum, or None if one of the numbers is not known."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
