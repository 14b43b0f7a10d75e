"""The resources of the HTTP API, one module each."""

from __future__ import annotations

from hub.http.routes.access import AccessRoutes
from hub.http.routes.command_jobs import CommandJobRoutes
from hub.http.routes.commands import CommandRoutes
from hub.http.routes.connection import ConnectionRoutes
from hub.http.routes.desired import DesiredRoutes
from hub.http.routes.devices import DeviceRoutes
from hub.http.routes.download import DownloadRoutes
from hub.http.routes.history import HistoryRoutes
from hub.http.routes.hub import HubRoutes
from hub.http.routes.metrics import MetricRoutes
from hub.http.routes.operations import OperationsRoutes
from hub.http.routes.quarantine import QuarantineRoutes
from hub.http.routes.readings import ReadingRoutes
from hub.http.routes.store import StoreRoutes
from hub.http.routes.store_files import StoreFilesRoutes
from hub.http.routes.tokens import TokenRoutes
from hub.http.routes.trial import TrialRoutes

RESOURCES = (
    HubRoutes,
    ConnectionRoutes,
    DeviceRoutes,
    CommandRoutes,
    DesiredRoutes,
    CommandJobRoutes,
    MetricRoutes,
    HistoryRoutes,
    ReadingRoutes,
    StoreRoutes,
    TokenRoutes,
    AccessRoutes,
    QuarantineRoutes,
    TrialRoutes,
    StoreFilesRoutes,
    DownloadRoutes,
    OperationsRoutes,
)
"""Every resource of the API, in the order of the OpenAPI document."""
