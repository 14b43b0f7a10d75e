"""Measures the clocks of all connected devices, again and again, a few at a time."""

from __future__ import annotations

import asyncio

from hub.ingest.intake import Intake

PERIOD_S = 60.0
"""Every device is measured once a minute: a clock that was set by hand is noticed within it."""

STEP_S = 0.5


async def probe_clocks(intake: Intake) -> None:
    """Probes for ever, spread evenly over the period; ended by cancellation."""
    while True:
        connected = [device for device in intake.devices.values() if device.conversation is not None]
        steps = int(PERIOD_S / STEP_S)
        for step in range(steps):
            for device in connected[step::steps]:
                if device.conversation is not None:
                    device.conversation.probe_clock()
            await asyncio.sleep(STEP_S)
