"""The agent of a device: source → spool → uplink. Usable as a library:

async with Agent("ws://127.0.0.1:8600", device="boiler-1", token=token, spool="boiler.spool") as agent:
    await agent.send({"temperature": 21.5})
"""

from __future__ import annotations

from agent_client.client import ConnectionState, Surroundings
from agent_client.tls import ClientTls, TlsFileError
from device_agent.agent import Agent
from device_agent.agent_options import AgentCounts, AgentOptions
from device_agent.errors import AgentError, ReadingError, SpoolError, SpoolFailed, UplinkStopped
from device_agent.operator_commands.handler import Limits, Rejected
from device_agent.spool import Count, MemorySpool, Spool, SqliteSpool
from wire.model import Metric, Value

__all__ = [
    "Agent",
    "AgentCounts",
    "AgentError",
    "AgentOptions",
    "ClientTls",
    "ConnectionState",
    "Count",
    "Limits",
    "MemorySpool",
    "Metric",
    "ReadingError",
    "Rejected",
    "Spool",
    "SpoolError",
    "SpoolFailed",
    "SqliteSpool",
    "Surroundings",
    "TlsFileError",
    "UplinkStopped",
    "Value",
]
