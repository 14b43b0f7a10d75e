"""Composition of a hub: open, connect, run and stop its parts."""

from __future__ import annotations

from hub.app.check import check_settings
from hub.app.errors import HubError
from hub.app.run import run_hub

__all__ = ["HubError", "check_settings", "run_hub"]
