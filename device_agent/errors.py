"""Errors of an agent, and the exit codes of its commands. Errors of other libraries are translated where they occur."""

from __future__ import annotations

from wire.errors import Code

FAILED = 1
MISUSE = 2
"""Exit codes: the work failed; options or settings are wrong."""


class AgentError(Exception):
    """Base of all errors of an agent."""


class ReadingError(AgentError):
    """A reading that the hub would reject; nothing of the call reached the spool.

    `code` is the hub's code for it (wire.errors.Code), `metric` the metric's name.
    """

    def __init__(self, code: Code, metric: str, message: str) -> None:
        super().__init__(f"{metric!r}: {message}" if metric else message)
        self.code = code
        self.metric = metric


class SpoolError(AgentError):
    """The spool cannot be opened, read or written; the message has the reason. Nothing of the call is stored."""


class SpoolFailed(SpoolError):
    """The disk of the spool failed: it stores nothing until it is opened again."""


class UplinkStopped(AgentError):
    """The connection ended for a reason that reconnecting would repeat, for example another agent of the device.

    `code` is the hub's reason, None if it gave none.
    """

    def __init__(self, message: str, code: Code | None = None) -> None:
        super().__init__(message)
        self.code = code
