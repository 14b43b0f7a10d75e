"""The start of a hub on its data: what the journal has lost, events that are missing, and the run before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog

from hub.ingest.device import Devices
from hub.ingest.source_report import EventBudget, event_of
from hub.journal.consumer import EntryReader
from hub.journal.continuity import find_discontinuity
from hub.journal.journal import Journal
from hub.journal.losses import NEXT_STEP
from hub.model.accounting import CountedEntry
from hub.model.batch import Batch, Entry
from hub.model.journal import JournalPosition, JournalTrimmed
from hub.model.store import Store
from hub.registry.registry import Registry
from hub.storage.accounting import AccountingService
from hub.storage.warm_start import stored_position

EVENT_ENTRIES = 100_000
"""Newest entries of the journal in which a start looks for events that the registry lacks: far more than arrive in the
second between two of its writes. They are not decoded."""

log = structlog.get_logger(__name__)


async def check_continuity(
    registry: Registry, journal: Journal, store: Store, decode: Callable[[Entry], Batch]
) -> None:
    """Compare the journal with what the registry and the store have seen of it, and report what it lost.

    Raises JournalError for the journal of another hub.
    """
    stored = await stored_position(store)
    check_owner(registry, journal, stored)
    present = JournalPosition(journal.id, journal.last_offset)
    consumed = max((cursor.offset for cursor in journal.consumers()), default=0)
    lost = find_discontinuity(
        present, registry=registry.journal, lock=journal.ownership.recorded, store=stored, consumed=consumed
    )
    if lost is not None and lost.continue_after is not None:
        await journal.continue_after(lost.continue_after, lost.reason)
    elif lost is not None:
        journal.losses.report(f"{lost.reason}. {NEXT_STEP}")
    await journal.ownership.claim(registry.id, journal.last_offset)
    await recover_events(registry, journal, decode)
    await registry.follow_journal(lambda: JournalPosition(journal.id, journal.last_offset))


async def recover_events(registry: Registry, journal: Journal, decode: Callable[[Entry], Batch]) -> None:
    """Record the events of devices that were acknowledged, and that the registry had not stored when the hub ended."""
    stored = registry.events_journal
    if stored is None or stored.id != journal.id:
        return
    budgets: dict[str, EventBudget] = {}
    after = max(stored.offset, journal.last_offset - EVENT_ENTRIES)
    async for entries in EntryReader(journal, decode).read_range(
        after, journal.last_offset, needs_batch=lambda entry: False
    ):
        for entry in entries:
            event = event_of(entry)
            if event is None:
                continue
            refused = budgets.setdefault(entry.device, EventBudget()).spend(entry.received_ns)
            if refused is not None:
                registry.record_event(entry.device, event.time_ns, event.kind, event.detail)


def check_owner(registry: Registry, journal: Journal, stored: JournalPosition) -> None:
    """Raise JournalError for the journal of another hub."""
    known = None if registry.was_replaced else registry.journal
    journal.ownership.check(registry.id, registry=known, store=stored)


def follow_losses(accounting: AccountingService, devices: Devices, journal: Journal) -> None:
    """Let the accounting and the sessions of devices know whether the journal has lost entries."""
    devices.has_lost = bool(journal.losses.incidents)
    accounting.follow_losses(
        lambda: {device.id: device.durable.readings - device.durable.damaged for device in devices},
        partial(_count_lost, devices, journal),
        expects_loss=devices.has_lost,
    )


def _count_lost(devices: Devices, journal: Journal, readings: Mapping[str, int]) -> None:
    """Count accepted readings that the journal lost before they were stored, and those that only the store has."""
    for id, count in readings.items():
        device = devices.device(id)
        device.damaged += max(count, 0)
        device.readings += max(-count, 0)
        journal.touch(device)


def discount(devices: Devices, journal: Journal, known: Sequence[CountedEntry]) -> None:
    """Correct the count of accepted readings: an agent sent them again, and the store had them already."""
    for _, id, readings in known:
        device = devices.device(id)
        device.readings = max(0, device.readings - readings)
        journal.touch(device)


async def begin_run(registry: Registry, journal: Journal, devices: Devices) -> frozenset[str]:
    """Record the start of the hub, and the end of a previous run that was not stopped. Return its connected devices."""
    last_commit_ns = 0
    if journal.first_offset <= journal.last_offset:
        with contextlib.suppress(JournalTrimmed):  # the newest entries are lost
            last_commit_ns = (await journal.read(journal.last_offset - 1))[-1].received_ns
    ended = await registry.begin_run(last_commit_ns)
    if ended is None:
        return frozenset()
    log.warning("previous run ended without a stop", ended_ns=ended.time_ns, connected_devices=len(ended.devices))
    for id in ended.devices:
        devices.device(id).since_ns = ended.time_ns
    return frozenset(ended.devices)
