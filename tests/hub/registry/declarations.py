"""Declarations and edits of metrics in a file and in memory, as the registry makes them."""

from __future__ import annotations

import apsw

from hub.model.batch import Series
from hub.model.metric import MetricChange
from hub.registry.fleet import DeclaredRows, Fleet, declare
from hub.registry.metric_edit import change_metric
from wire.errors import WireError
from wire.model import Metric


def declare_and_apply(
    connection: apsw.Connection, fleet: Fleet, device: str, *metrics: Metric
) -> dict[str, Series | WireError]:
    """Declare metrics as the registry does."""
    news = fleet.undeclared(device, metrics)
    if news is not None:
        fleet.apply(declare(connection, device, news, 1))
    return fleet.declared(device, metrics)


def change_and_apply(connection: apsw.Connection, fleet: Fleet, metric: str, change: MetricChange) -> Series:
    """Change a metric of the device "a" as the registry does."""
    device = fleet.devices["a"]
    row = change_metric(connection, device.row, metric, change)
    fleet.apply(DeclaredRows((device.row, "a", 1), [row]))
    return fleet.series[row.id]
