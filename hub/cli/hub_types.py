"""The types that metrics have in a hub, for commands that read files: a file does not change them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from hub.cli.client import HubClient, RequestFailed, hub_address
from hub.cli.command import HubOptions, settings_or_exit
from hub.config.address import find_running_hub
from hub.model.identity import Role
from wire.limits import MAX_METRICS
from wire.model import MetricType

MAX_DEVICES = 10_000
"""Devices whose types are read, with one request each. Further devices have the types of the file."""


class HubTypes:
    """Types of the metrics of a hub, read when a device is first seen and kept. Without a client there are none.

    `note` says why the types are not known, "" if they are.
    """

    def __init__(self, client: HubClient | None, note: str = "") -> None:
        self.note = note
        self._client = client
        self._devices: dict[str, dict[str, MetricType]] = {}

    def known_type(self, device: str, metric: str) -> MetricType | None:
        """Return the type of a metric, None for one that the hub does not know."""
        if device not in self._devices:
            if not device or len(self._devices) >= MAX_DEVICES:
                return None
            self._devices[device] = self._read(device)
        return self._devices[device].get(metric)

    def _read(self, device: str) -> dict[str, MetricType]:
        if self._client is None:
            return {}
        try:
            path = f"/api/v1/devices/{device}/metrics"
            metrics, _ = self._client.get_pages(path, "metrics", {}, MAX_METRICS)
        except RequestFailed as error:
            if error.status != HTTPStatus.NOT_FOUND:
                self._client = None
                self.note = f"the types of the hub are not known, so a value may still go to its quarantine: {error}"
            return {}
        return {metric["metric"]: metric["type"] for metric in metrics}


@contextmanager
def hub_types(command: str, options: HubOptions, *, dry_run: bool) -> Iterator[HubTypes]:
    """Yield the types of the hub that the options select. A dry run without a hub has none, and says so."""
    if (
        dry_run
        and options.url is None
        and find_running_hub(settings_or_exit(options.config, data=options.data).data) is None
    ):
        yield HubTypes(None, "no hub runs here: the types of its metrics were not compared; name one with --url")
        return
    with hub_address(command, options, role=Role.VIEWER) as address:
        try:
            client = HubClient(*address)
        except ValueError as error:
            yield HubTypes(None, str(error))
            return
        with client:
            yield HubTypes(client)
