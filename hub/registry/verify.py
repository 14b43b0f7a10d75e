"""Verification of the registry for `hub verify`, and its facts for the comparison with the other files."""

from __future__ import annotations

from typing import NamedTuple

import apsw

from hub.model.journal import JournalPosition
from hub.registry.database import hub_id
from hub.registry.fleet import select_fleet
from hub.registry.hub_run import select_journal
from hub.registry.last_state import current_state, find_loss, read_state
from hub.registry.repair import verify
from integrity.database import DatabaseSnapshot, ReportBytes
from integrity.finding import Finding
from wire.model import MetricType
from wire.text import plural


class RegistryFacts(NamedTuple):
    """Facts about a registry: the hub's id, its series with each type that they had, and the journal that the hub wrote
    last.

    `loss` is what it lacks of its last recorded state.
    """

    id: str
    series: frozenset[tuple[int, MetricType]]
    journal: JournalPosition | None
    loss: str | None = None


def verify_snapshot(
    name: str, snapshot: DatabaseSnapshot, report: ReportBytes
) -> tuple[list[Finding], RegistryFacts | None]:
    """Verify the registry of this snapshot, which may be that of a running hub."""
    findings = verify(snapshot.path, snapshot.connection)
    report(snapshot.size_bytes)
    if any(not finding.intact for finding in findings):
        return findings, None
    try:
        fleet = select_fleet(snapshot.connection)
        loss = find_loss(current_state(snapshot.connection), read_state(snapshot.path))
        journal = select_journal(snapshot.connection)
        types = frozenset((id, type) for id, series in fleet.series.items() for type in series.types)
        facts = RegistryFacts(hub_id(snapshot.connection), types, journal, loss)
    except (apsw.Error, LookupError, ValueError) as error:
        return [Finding(name, None, f"the file has another format: {error}")], None
    devices, series = plural(len(fleet.devices), "device"), plural(len(fleet.series), "series", "series")
    return [Finding(name, True, f"{devices} and {series}, and every checksum is correct")], facts
