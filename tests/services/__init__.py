"""Real servers and programs for tests: how each is found, and what to do when it is missing."""

from __future__ import annotations

from tests.services.found import SERVICES, FoundService, Service, find_service, service_table

__all__ = ["SERVICES", "FoundService", "Service", "find_service", "service_table"]
