"""What the hub knows of itself, as dashboards and scripts are told: the fleet, the flow of the data, whether it is
ready."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from hub.ingest.device import Device
from hub.ingest.intake import Intake
from hub.live.group import latest_of
from hub.model.batch import Series
from hub.model.books import Balance
from hub.model.bridge import BridgeState
from hub.model.identity import Action, Identity
from hub.model.journal import Journal
from wire import live as messages


class HubInfo(NamedTuple):
    """Which hub this is."""

    id: str
    name: str
    version: str
    started_ns: int


class StoreState(Protocol):
    """Where the store's writer stands. `missed` counts entries that the store can never get: deleted before, or not to
    be decoded any more, because a file was lost or put back from a copy."""

    @property
    def phase(self) -> str: ...
    @property
    def since_ns(self) -> int: ...
    @property
    def last_error(self) -> str | None: ...
    @property
    def missed(self) -> int: ...


class Books(Protocol):
    """The books of a consumer of the journal."""

    @property
    def consumer(self) -> str: ...
    async def refresh(self) -> None: ...
    def of(self, device: str) -> Balance: ...


class Overview:
    """Reads what the other rooms know; changes nothing."""

    def __init__(
        self,
        info: HubInfo,
        *,
        intake: Intake,
        journal: Journal,
        books: Books,
        store_state: Callable[[], StoreState],
        quarantine_dropped: Callable[[], int],
        dropped_events: Callable[[], int],
        series_of: Callable[[str], Sequence[Series]],
        registry_fullness: Callable[[], str | None],
        bridges: Callable[[], Sequence[BridgeState]],
    ) -> None:
        self.info = info
        self._intake = intake
        self._journal = journal
        self._books = books
        self._store_state = store_state
        self._quarantine_dropped = quarantine_dropped
        self._dropped_events = dropped_events
        self._series_of = series_of
        self._registry_fullness = registry_fullness
        self.bridges = bridges

    def hub(self, role: str) -> dict[str, Any]:
        """Which hub and journal this is, the caller's role, and what keeps the hub from being ready."""
        return {
            "hub": self.info.id,
            "name": self.info.name,
            "version": self.info.version,
            "journal": self._journal.id,
            "started_ns": self.info.started_ns,
            "time_ns": self._intake.clock(),
            "role": role,
            "problems": self.problems(),
            "mqtt": bool(self.bridges()),
        }

    def fleet(self) -> list[messages.DeviceState]:
        """The state of every device that is in service."""
        return [state_of(device) for device in self._in_service()]

    def device_ids(self) -> Iterable[str]:
        """The id of every device that is in service."""
        return [device.id for device in self._in_service()]

    def _in_service(self) -> Iterator[Device]:
        return (device for device in self._intake.devices.values() if not device.retired)

    def is_in_service(self, id: str) -> bool:
        """Whether the hub knows this device, and it is not retired."""
        device = self._intake.devices.get(id)
        return device is not None and not device.retired

    def device(self, id: str) -> dict[str, Any] | None:
        """One device with its metrics, also a retired one; None when there is none of this id."""
        device = self._intake.devices.get(id)
        return None if device is None else self._device(device)

    def _device(self, device: Device) -> dict[str, Any]:
        state = state_of(device)
        described = {name: getattr(state, name) for name in state.__struct_fields__}
        return {**described, "metrics": [metric_of(series) for series in self._series_of(device.id)]}

    async def flow(self, identity: Identity, *, limit: int | None = None) -> dict[str, Any]:
        """The books: where every batch and reading is. Who only writes sees its own devices.

        With a limit so many devices are told: those that do not balance first, then those with most waiting. The totals
        are of all.
        """
        await self._books.refresh()
        everything = identity.may(Action.READ)
        journal = self._journal
        store = self._store_state()
        devices = [
            self._flow_of(device)
            for device in self._intake.devices.values()
            if everything or identity.may_write(device.id)
        ]
        totals = {name: _sum([device[name] for device in devices]) for name in COUNTS}
        return {
            "journal": {
                "id": journal.id,
                "first_offset": journal.first_offset,
                "last_offset": journal.last_offset,
                "size_bytes": journal.size_bytes,
            },
            "consumers": [
                {
                    "name": c.name,
                    "offset": c.offset,
                    "lag": max(0, journal.last_offset - c.offset),
                    **{name: totals[name] if c.name == self._books.consumer else None for name in BALANCE},
                }
                for c in journal.consumers()
            ],
            "store": {
                "phase": store.phase,
                "since_ns": store.since_ns,
                "error": store.last_error,
                "missed": store.missed,
            },
            "totals": totals,
            "quarantine_dropped": self._quarantine_dropped(),
            "dropped_events": self._dropped_events(),
            "bad_messages": self._intake.bad_messages,
            "devices": devices if limit is None else heapq.nsmallest(limit, devices, key=_urgency),
        }

    def _balance(self) -> tuple[Balance, int | None]:
        """The books of all devices, and their difference."""
        devices = self._intake.devices.values()
        books = (
            Balance(*map(_sum, zip(*[self._books.of(device.id) for device in devices], strict=True)))
            if devices
            else NONE
        )
        return books, books.difference(sum(device.durable.readings for device in devices))

    def _flow_of(self, device: Device) -> dict[str, Any]:
        mark = device.durable
        balance = self._books.of(device.id)
        return {
            "device": device.id,
            "epoch": mark.epoch,
            "acked": mark.seq,
            "accepted_batches": mark.batches,
            "accepted": mark.readings,
            "duplicate_batches": device.duplicates,
            "quarantined_batches": mark.quarantined,
            "lost_batches": mark.lost,
            "moved": mark.moved,
            **balance._asdict(),
            "difference": balance.difference(mark.readings),
        }

    def now_ns(self) -> int:
        """The hub's clock."""
        return self._intake.clock()

    def counters(self) -> list[tuple[str, str, int]]:
        """(name, what it counts, value); since the data directory was made where it does not say otherwise."""
        devices = self._intake.devices.values()
        books, _ = self._balance()
        return [
            ("accepted_batches", "Batches accepted", sum(d.durable.batches for d in devices)),
            ("accepted_readings", "Readings accepted", sum(d.durable.readings for d in devices)),
            ("duplicate_batches", "Batches that came again", sum(d.duplicates for d in devices)),
            *(
                (f"{name}_readings", help_text, value)
                for name, help_text, value in (
                    ("refused", "Readings that the store will never take", books.refused),
                    ("expired", "Readings deleted from the store when they were old enough", books.expired),
                )
                if value is not None
            ),
            ("lost_batches", "Batches in declared gaps", sum(d.durable.lost for d in devices)),
            ("moved_readings", "Readings moved to the next free nanosecond", sum(d.durable.moved for d in devices)),
            ("quarantine_dropped", "Batches that left the quarantine at its bound", self._quarantine_dropped()),
            ("missed_entries", "Journal entries the store can never get, since the start", self._store_state().missed),
            ("dropped_events", "Events lost to a disk that refused them, since the start", self._dropped_events()),
            ("bad_messages", "Frames that were no message of an agent's, since the start", self._intake.bad_messages),
        ]

    def gauges(self) -> list[tuple[str, str, float]]:
        """(name, what it is, value) now."""
        devices = self._intake.devices.values()
        books, difference = self._balance()
        return [
            ("devices", "Devices in service", sum(1 for _ in self._in_service())),
            ("devices_connected", "Devices connected", sum(d.conversation is not None for d in devices)),
            *(
                (f"{name}_readings", help_text, value)
                for name, help_text, value in (
                    ("stored", "Readings in the store", books.stored),
                    ("waiting", "Readings in the journal that wait for the store", books.waiting),
                    ("unbalanced", "Accepted readings that are in no place: 0 where the books balance", difference),
                )
                # What is not known just now has no sample: 0 would be a lie.
                if value is not None
            ),
            ("journal_bytes", "Size of the journal on disk", self._journal.size_bytes),
            ("journal_offset", "Newest offset of the journal", self._journal.last_offset),
            ("ready", "1 when data are taken in and stored", float(not self.problems())),
        ]

    def quarantined_batches(self) -> dict[str, int]:
        """Batches put in quarantine since the data directory was made, by code."""
        return self._journal.quarantine_totals()

    def lags(self) -> dict[str, int]:
        """Journal entries that each consumer has still to do."""
        last = self._journal.last_offset
        return {consumer.name: max(0, last - consumer.offset) for consumer in self._journal.consumers()}

    def warnings(self) -> dict[str, str]:
        """What is the matter beside its bridges without keeping the hub from its work, by part."""
        fullness = self._registry_fullness()
        return {} if fullness is None else {"registry": fullness}

    def problems(self) -> dict[str, str]:
        """What keeps the hub from being ready, by part; empty when it is."""
        problems = {}
        if self._intake.refusal is not None:
            problems["journal"] = self._intake.refusal.message
        error = self._store_state().last_error
        if error is not None:
            problems["store"] = error
        return problems


NONE = Balance(0, 0, 0, 0)

BALANCE = ("stored", "waiting", "refused", "expired", "difference")

COUNTS = (
    "accepted_batches",
    "accepted",
    "duplicate_batches",
    "quarantined_batches",
    "lost_batches",
    "moved",
    *BALANCE,
)


def _urgency(device: dict[str, Any]) -> tuple[bool, int, str]:
    return not device["difference"], -(device["waiting"] or 0), device["device"]


def _sum(numbers: Sequence[int | None]) -> int | None:
    """None where one of them is not known."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def state_of(device: Device) -> messages.DeviceState:
    """A device's state as dashboards know it."""
    return messages.DeviceState(
        device=device.id,
        connected=device.conversation is not None,
        since=device.since_ns,
        seen=device.seen_ns,
        epoch=device.epoch or None,
        acked=device.acked,
        backlog=device.backlog,
        agent=device.agent,
        tags=device.tags,
        clock_offset_ns=device.clock_offset_ns,
        clock_error_ns=device.clock_error_ns,
        retired=device.retired,
    )


def metric_of(series: Series) -> dict[str, Any]:
    """A metric with its latest reading."""
    latest = latest_of(series)
    return {
        "metric": series.metric,
        "type": series.type,
        "unit": series.unit,
        "description": series.description,
        "latest": None if latest.value is None else {"time_ns": int(latest.time_ns), "value": latest.value},
    }
