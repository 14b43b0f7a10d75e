"""What an agent raises: one small tree; outside libraries' errors are translated where they arise."""

from __future__ import annotations

from wire.errors import Code


class AgentError(Exception):
    """Anything that an agent could not do."""


class ReadingError(AgentError):
    """A reading that the hub would refuse; nothing of the call reached the spool.

    `code` is the hub's own code for it (wire.errors.Code), `metric` the metric's name.
    """

    def __init__(self, code: Code, metric: str, message: str) -> None:
        super().__init__(f"{metric!r}: {message}" if metric else message)
        self.code = code
        self.metric = metric


class SpoolError(AgentError):
    """The spool cannot be opened, read or written; the message says why. Nothing of the call is stored."""


class SpoolFailed(SpoolError):
    """The disk failed under the spool: it takes nothing more until it is opened again."""


class UplinkStopped(AgentError):
    """The connection ended in a way that coming back would only repeat, for example superseded by another agent.

    `code` is the hub's reason, None where it gave none.
    """

    def __init__(self, message: str, code: Code | None = None) -> None:
        super().__init__(message)
        self.code = code
