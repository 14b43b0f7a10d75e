"""The metrics of a device: their names, types, units and descriptions, which an admin can change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from operator import attrgetter

from msgspec.structs import asdict

from hub.http import answers
from hub.http.paging import PageQuery, select_page
from hub.http.problem import Refusal
from hub.http.quarantine_answers import ChangedMetric
from hub.http.routes.devices import DeviceName
from hub.http.routes.quarantine import retried_batches
from hub.http.routing import Operation
from hub.http.status import Status
from hub.ingest.quarantine_actions import QuarantineActions
from hub.model.batch import Series
from hub.model.identity import Action, Identity
from hub.model.metric import MetricChange


@dataclass(frozen=True)
class MetricRoutes:
    """The operations about the metrics of a device.

    `change` changes a metric of a device by its name; `record` records an event of a device.
    """

    status: Status
    change: Callable[[str, str, MetricChange], Awaitable[Series]]
    actions: QuarantineActions
    record: Callable[[str, int, str, str], None]

    @Operation("GET", "/api/v1/devices/{device}/metrics", may=Action.READ)
    async def metrics(self, device: DeviceName, query: PageQuery) -> answers.MetricsPage:
        """Return a device's metrics with their latest values, earlier names and earlier types, in order of names."""
        known = self._series_of(device)
        page, following = select_page(known, attrgetter("metric"), query, list_name="metrics", kind=str)
        return answers.MetricsPage(metrics=[*map(self._described, page)], next=following)

    @Operation("PATCH", "/api/v1/devices/{device}/metrics", may=Action.ADMINISTER, errors=(409, 503))
    async def change_metric(
        self, caller: Identity, device: DeviceName, body: answers.MetricChangeRequest
    ) -> ChangedMetric:
        """Change the name, type, unit or description of a metric. Stored readings stay readable under it. The device's
        batches in quarantine that may be acceptable now are retried."""
        known = {name: series for series in self._series_of(device) for name in (series.metric, *series.names)}
        before = known.get(body.metric)
        if before is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"{device} has no metric {body.metric}")
        change = MetricChange(body.name, body.type, body.unit, body.description)
        if change == MetricChange():
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "name what to change: name, type, unit or description")
        holder = known.get(body.name or before.metric)
        if holder is not None and holder.id != before.id:
            detail = f"the name {body.name} belongs to the metric {holder.metric}: choose another one"
            raise Refusal(HTTPStatus.CONFLICT, detail)
        was = self._described(before)
        changed = self._described(await self.change(device, body.metric, change))
        if changes := _changes(was, changed):
            detail = f"{was.metric}: {', '.join(changes)}; by {caller.operator}"
            self.record(device, self.status.devices.clock(), "metric changed", detail)
        retried = retried_batches(await self.actions.retry_matching(device, caller))
        return ChangedMetric(changed, retried)

    def _series_of(self, device: str) -> Sequence[Series]:
        if self.status.devices.get(device) is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no device {device}")
        return self.status.series_of(device)

    def _described(self, series: Series) -> answers.DescribedMetric:
        return answers.DescribedMetric(
            **asdict(self.status.metric(series)),
            earlier_names=[name for name in series.names if name != series.metric],
            earlier_types=[earlier for earlier in series.types if earlier != series.type],
        )


def _changes(was: answers.DescribedMetric, now: answers.DescribedMetric) -> list[str]:
    """Return what changed, for the event."""
    labels = {"metric": "name", "type": "type", "unit": "unit", "description": "description"}
    return [
        f"{label} {getattr(was, field) or 'none'} → {getattr(now, field) or 'none'}"
        for field, label in labels.items()
        if getattr(was, field) != getattr(now, field)
    ]
