"""What ends a simulation before it has a result."""

from __future__ import annotations


class SimulatorError(Exception):
    """The simulation cannot be run as asked for; the message says what to do."""
