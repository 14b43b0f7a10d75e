"""From a source to an agent, reading by reading."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping
from contextlib import aclosing
from typing import Protocol

from device_agent.agent import Agent
from device_agent.episode import Episode
from device_agent.errors import ReadingError, SpoolError, SpoolFailed
from device_agent.sources.reading import Source
from wire.model import Value

QUIET_READINGS = 100
"""Readings in a row that were taken, after which those that are not are told of again."""

_log = logging.getLogger(__name__)


class Deliver(Protocol):
    """Agent.send or Agent.collect."""

    def __call__(self, values: Mapping[str, Value], time_ns: int | None = None) -> Awaitable[object]: ...


async def pump(source: Source, agent: Agent, deliver: Deliver) -> int:
    """Delivers readings until the source ends; returns how many were not taken.

    A reading that the agent refuses and a disk that is full are reported and passed over: the sensor goes on. Raises
    SpoolFailed and what stopped the uplink.
    """
    refused = Episode(_log, "a reading was not taken", quiet=QUIET_READINGS)
    unstored = Episode(_log, "a reading was not stored")
    async with aclosing(source.readings()) as readings:
        async for reading in readings:
            try:
                agent.declare(reading.metrics)
                await deliver(reading.values, reading.time_ns)
            except ReadingError as error:
                refused.trouble(error)
            except SpoolFailed:
                raise
            except SpoolError as error:
                unstored.trouble(error)
            else:
                refused.fine()
                unstored.fine()
    return refused.total + unstored.total
