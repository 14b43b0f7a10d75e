"""Real servers and programs that tests talk to: where each is found, and what to do when it is not."""

from __future__ import annotations

from tests.services.found import SERVICES, FoundService, Service, find_service, service_table

__all__ = ["SERVICES", "FoundService", "Service", "find_service", "service_table"]
