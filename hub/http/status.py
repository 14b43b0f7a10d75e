"""The status of the hub as the API and Prometheus report it: the fleet, the flow of the data, and readiness."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from hub.http import answers
from hub.ingest.device import Device, Devices
from hub.journal.consumer import ConsumerStatus
from hub.journal.journal import Journal
from hub.live.cadence import Freshness
from hub.live.hub import LiveHub
from hub.model.accounting import Balance
from hub.model.batch import Series
from hub.model.bridge import BridgeState
from hub.model.identity import Action, Identity
from hub.model.journal import JournalIncident
from wire.live import Presence

BALANCE = answers.ReadingBalance.__struct_fields__

SHOWN_INCIDENTS = 3
"""Newest incidents of the journal in an answer of /ready, which monitoring may show in one line."""

COUNTS = answers.FlowCounts.__struct_fields__


class HubIdentity(NamedTuple):
    """Id, name, version and start of this hub."""

    hub: str
    name: str
    version: str
    started_ns: int


class StoreAccounting(Protocol):
    """The accounting of the store, which is a consumer of the journal."""

    consumer: str

    async def refresh(self) -> None: ...
    def balance(self, device: str) -> Balance: ...


@dataclass(frozen=True, kw_only=True)
class Status:
    """Reads the state of the other parts of the hub and changes nothing."""

    identity: HubIdentity
    devices: Devices
    journal: Journal
    live: LiveHub
    accounting: StoreAccounting
    store_status: Callable[[], ConsumerStatus]
    dropped_events: Callable[[], int]
    series_of: Callable[[str], Sequence[Series]]
    history_problem: Callable[[], str | None]
    registry_problem: Callable[[], str | None]
    registry_file_problem: Callable[[], str | None] = lambda: None
    freshness: Callable[[Series], Freshness]
    presence_counts: Callable[[], Mapping[Presence, int]]
    bridges: Callable[[], Sequence[BridgeState]]
    tls_problems: Callable[[], Sequence[str]]
    incidents: Callable[[], Sequence[JournalIncident]] = tuple

    def hub(self, role: str) -> answers.HubDetails:
        """Return the hub and its journal, the caller's role, and the problems that keep the hub from being ready."""
        return answers.HubDetails(
            **self.identity._asdict(),
            journal=self.journal.id,
            time_ns=self.devices.clock(),
            role=role,
            problems=self.problems(),
            damage=[incident.text for incident in self.incidents()],
            mqtt=bool(self.bridges()),
        )

    # The fleet.

    def device_ids(self, *, retired: bool = False) -> list[str]:
        """Return the id of every device in service, or of every retired one."""
        return [device.id for device in self.devices if device.retired is retired]

    def device(self, device_id: str) -> answers.DeviceDetails | None:
        """Return one device with its metrics, also a retired one; None if there is no device with this id."""
        device = self.devices.get(device_id)
        if device is None:
            return None
        metrics = [
            answers.DeviceMetric(
                **msgspec.structs.asdict(self.metric(series)),
                freshness=answers.FreshnessDetails(*self.freshness(series)[:-1]),
            )
            for series in self.series_of(device.id)
        ]
        state = msgspec.structs.asdict(device.state())
        del state["events"]  # the page reads the list of events again when it changes
        state["sources"] = [answers.SourceDetails(**msgspec.structs.asdict(source)) for source in device.sources]
        return answers.DeviceDetails(**state, metrics=metrics)

    def metric(self, series: Series) -> answers.MetricDetails:
        """Return a metric with its latest reading."""
        latest = self.live.live_series(series)
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
        await self.accounting.refresh()
        reads_all = caller.may(Action.READ)
        devices = (device for device in self.devices if reads_all or caller.may_write(device.id))
        return self.counted_flow(devices, limit=limit)

    def counted_flow(self, of: Iterable[Device], *, limit: int | None = None) -> answers.FlowDetails:
        """Return the flow of these devices as it was counted last."""
        journal = self.journal
        store = self.store_status()
        devices = [self._device_flow(device) for device in of]
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
                        name: getattr(totals, name) if consumer.name == self.accounting.consumer else None
                        for name in BALANCE
                    },
                )
                for consumer in journal.consumers()
            ],
            store=answers.StoreDetails(store.phase, store.since_ns, store.last_error, store.missed),
            totals=totals,
            quarantine_dropped=journal.quarantine.dropped,
            dropped_events=self.dropped_events(),
            bad_messages=self.devices.bad_messages,
            devices=devices if limit is None else heapq.nsmallest(limit, devices, key=_urgency),
        )

    def _device_flow(self, device: Device) -> answers.DeviceFlow:
        mark = device.durable
        balance = self.accounting.balance(device.id)
        return answers.DeviceFlow(
            device=device.id,
            epoch=mark.epoch,
            acked=mark.seq,
            accepted_batches=mark.batches,
            accepted=mark.readings,
            duplicate_batches=device.duplicates,
            quarantined=mark.quarantined_readings,
            quarantined_batches=mark.quarantined,
            lost_batches=mark.lost,
            moved=mark.moved,
            damaged=mark.damaged,
            repaired_batches=mark.repaired,
            source_refused=mark.source_refused,
            **balance._asdict(),
            difference=balance.difference(mark.readings - mark.damaged),
        )

    # Readiness.

    def problems(self) -> dict[str, str]:
        """Return what keeps the hub from being ready, by part; empty if it is ready."""
        problems = {}
        if self.devices.refusal is not None:
            problems["journal"] = self.devices.refusal.message
        error = self.store_status().last_error
        if error is not None:
            problems["store"] = error
        history = self.history_problem()
        if history is not None:
            problems["history"] = history
        registry = self.registry_file_problem()
        if registry is not None:
            problems["registry"] = registry
        return problems

    def warnings(self) -> dict[str, str]:
        """Return problems that leave the hub ready, by part: damage of the journal, brokers, the certificate, and the
        registry."""
        warnings = {f"mqtt:{state.name}": state.last_error for state in self.bridges() if state.last_error is not None}
        if incidents := self.incidents():
            warnings["journal"] = " ".join(f"{incident.text.rstrip('.')}." for incident in incidents[-SHOWN_INCIDENTS:])
        if tls := self.tls_problems():
            warnings["tls"] = "; ".join(tls)
        registry = self.registry_problem()
        return warnings if registry is None else {**warnings, "registry": registry}


def _urgency(device: answers.DeviceFlow) -> tuple[bool, int, str]:
    return not device.difference, -(device.waiting or 0), device.device


def _sum(numbers: Sequence[int | None]) -> int | None:
    """Return the sum, or None if one of the numbers is not known."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
