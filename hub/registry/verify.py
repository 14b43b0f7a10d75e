"""Verification of the registry's file: its structure, its references, and what its rows contain."""

from __future__ import annotations

from typing import NamedTuple

import apsw

from hub.registry.database import APPLICATION_ID, SCHEMA_VERSION, hub_id
from hub.registry.fleet import select_fleet
from integrity.database import ReportBytes, Snapshot
from integrity.finding import Finding
from wire.text import plural

CONSEQUENCE = "devices, series or tokens are wrong or missing: readings could appear under the name of another device"
NEXT_STEP = "stop the hub, and restore registry.db and the files beside it from one backup with `hub restore`"


class RegistryFacts(NamedTuple):
    """Facts about a registry for the comparison with the other files: the hub's id, and the ids of its series."""

    id: str
    series: frozenset[int]


def verify_snapshot(name: str, snapshot: Snapshot, report: ReportBytes) -> tuple[list[Finding], RegistryFacts | None]:
    """Verify the registry of this snapshot, which may be that of a running hub."""
    connection = snapshot.connection
    try:
        if connection.pragma("application_id") != APPLICATION_ID:
            return [Finding(name, False, "the file is no registry", CONSEQUENCE, NEXT_STEP)], None
        version = connection.pragma("user_version")
        if version != SCHEMA_VERSION:
            return [Finding(name, None, f"the file has format {version}, this version reads {SCHEMA_VERSION}")], None
        problems = [f"SQLite's own check: {problem}" for problem in snapshot.structure_problems()]
        problems += [
            f"a row of {table} refers to a missing row of {parent}"
            for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall()
        ]
        fleet = select_fleet(connection)
        facts = RegistryFacts(hub_id(connection), frozenset(fleet.series))
    except (apsw.Error, UnicodeDecodeError, LookupError, TypeError, ValueError) as error:
        return [Finding(name, False, f"the file cannot be read: {error}", CONSEQUENCE, NEXT_STEP)], None
    report(snapshot.size_bytes)
    what = f"{plural(len(fleet.devices), 'device')} with {plural(len(fleet.series), 'series', 'series')}"
    return [Finding(name, False, problem, CONSEQUENCE, NEXT_STEP) for problem in problems] or [
        Finding(name, True, what)
    ], facts
