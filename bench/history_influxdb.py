"""Queries on InfluxDB, as the hub asks them: the same questions as of DuckDB, on as much as is written in a minute."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

from bench.figure import Figure, Outcome, Plan, Tell, at_least, at_most
from bench.history import REGISTRY, Fleet, ask_all
from bench.measure import Failure
from bench.stores import influxdb_bucket
from hub.model.batch import Entry, EntryKind
from hub.model.store import HistoryQuery, SeriesHistory, StoreCursor
from hub.storage.influxdb.answer import Target
from hub.storage.influxdb.influxdb_store import InfluxdbStore
from hub.storage.influxdb.naming import FIELD, MEASUREMENT, TAGS, Naming
from hub.storage.influxdb.server import Credentials
from tests.services.influxdb import Access

SERIES_PER_DEVICE = 1_000
"""Never reached: it is the hub's guard, and not what is measured here."""


class InfluxdbHistoryRow(NamedTuple):
    """Queries on so many readings of 1,000 series; the server runs on the other core."""

    key: str
    name: str
    readings: int

    def run(self, plan: Plan, tell: Tell) -> Outcome:
        """Fills a bucket through the store, asks, and checks each answer against the readings themselves."""
        data = plan.data(self.key)
        data.mkdir(parents=True)
        with influxdb_bucket(plan, self.key, "load") as bucket:
            return asyncio.run(self._measured(data, bucket.access, plan, tell))

    async def _measured(self, data: Path, access: Access, plan: Plan, tell: Tell) -> Outcome:
        fleet = Fleet(round(self.readings * plan.scale))
        async with InfluxdbStore(
            data,
            target=Target(access.url, access.org, access.bucket),
            credentials=Credentials(access.token),
            naming=Naming(measurement=MEASUREMENT, tags=TAGS, field=FIELD, tags_of=lambda device: {}),
            registry=REGISTRY,
            max_series_per_device=SERIES_PER_DEVICE,
        ) as store:
            await store.open()
            began = time.perf_counter()
            stored = 0
            for offset, batch in enumerate(fleet.batches(), start=1):
                entry = Entry(
                    EntryKind.BATCH, "device", "0" * 16, offset, 0, "msgpack", b"", batch=batch, offset=offset
                )
                written = await store.write([entry], StoreCursor("journal", offset))
                if written.refused:
                    raise Failure(f"InfluxDB refused readings: {written.refused[0]}")
                stored += written.readings
                tell(f"{self.name}: storing", stored / fleet.readings)
            rate = stored / (time.perf_counter() - began)
            figures = [at_least(f"{self.name}: stored", rate, "readings/s", None)]
            return Outcome([*figures, *await self._answers(store, fleet, plan)], [f"{stored:,} readings"])

    async def _answers(self, store: InfluxdbStore, fleet: Fleet, plan: Plan) -> list[Figure]:
        async def ask(query: HistoryQuery) -> SeriesHistory:
            (answer,) = (await store.query(query)).series
            return answer

        name = f"{self.name} of {fleet.readings:,} readings"
        return [
            at_most(f"{name}, {range.name.partition(', from')[0]}", took_ms, "ms", None)
            for range, took_ms in (await ask_all(fleet, plan.repeats, ask)).items()
        ]
