"""Error of a hub that cannot run."""

from __future__ import annotations


class HubError(Exception):
    """The hub cannot start or had to stop; the message says why and what to do."""
