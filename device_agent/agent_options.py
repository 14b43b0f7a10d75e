"""Options of an agent that rarely differ from their defaults, and its counters."""

from __future__ import annotations

from typing import Literal, NamedTuple

from agent_client.tls import ClientTls
from device_agent.spool import Count
from device_agent.spool_writer import FLUSH_MS
from wire.codec import Format


class AgentCounts(NamedTuple):
    """Counters since the agent was opened.

    `sent` was stored in the spool by this agent. `acknowledged` was sent from here and is durable in the hub, batches
    of earlier runs included; `rejected` of those are in the hub's quarantine. `lost` left the spool because it was
    full. `waiting` is in the spool now, in batches. `transmissions` counts frames, repeated ones included;
    `connections` counts welcomes.
    """

    sent: Count
    acknowledged: Count
    rejected: Count
    lost: Count
    waiting: int
    transmissions: int
    connections: int


class AgentOptions(NamedTuple):
    """Details that rarely differ from their defaults.

    `format` encodes the readings. `flush_ms` is how long `collect` holds a row. `when_full` applies when the spool is
    full: "drop" its oldest batches, which are declared lost, or "wait" until there is room. `proxy` is a proxy's URL.
    `tls` has the trusted authorities and the certificate of the agent. `compression` compresses the frames: for a slow
    or metered network, because it costs the agent and the hub several times the work. With `ask_access` and a
    TokenFile that may be missing, an agent without a token asks the hub for access.
    """

    format: Format = "msgpack"
    flush_ms: int = FLUSH_MS
    when_full: Literal["drop", "wait"] = "drop"
    proxy: str | None = None
    tls: ClientTls | None = None
    compression: bool = False
    ask_access: bool = False
