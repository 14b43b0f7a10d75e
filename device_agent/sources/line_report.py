"""Log and health of a source of lines: its connection, the format of its lines, and what is refused in them."""

from __future__ import annotations

import logging

from device_agent.source_state import SourceHealth
from device_agent.sources import RepeatedWarning
from device_agent.sources.lines import ForeignInput, LineResult, refusal_of_line
from wire.text import plural

QUIET_LINES = 100
"""Good lines in a row after which a bad line is logged again."""

GOOD_LINES = 10
"""Good lines in a row after which the source works again: one good line between bad ones is luck."""


class LineReport:
    """Log and health of one source of lines. `name` says what people have to look at, such as a port.

    `problem` is what is wrong while there is no connection.
    """

    def __init__(
        self,
        name: str,
        input: ForeignInput,
        log: logging.Logger,
        *,
        aspect: str = "connection",
        problem: str = "no connection",
    ) -> None:
        self.name = name
        self.health = SourceHealth(name, input=input)
        is_connection = problem == "no connection"
        self.absence = RepeatedWarning(log, f"{problem} to {name}" if is_connection else f"{name}: {problem}")
        self._problem = problem
        self._input = input
        self._log = log
        self._aspect = aspect
        self._format = ""
        self._is_connected = False
        self._cause = ""
        self._bad = RepeatedWarning(log, f"{name} sends lines that are not readings", quiet=QUIET_LINES)
        self._bad_values = RepeatedWarning(log, f"{name} sends values that are refused", quiet=QUIET_LINES)

    def record_connection(self, detail: str = "") -> None:
        """Record that the connection is open; log it with the detail, such as a speed, unless it was open before."""
        self.absence.record_success()
        self.health.recover(self._aspect)
        if not self._is_connected:
            self._is_connected = True
            self._log.info("reading from %s%s", self.name, detail)

    def record_release(self) -> None:
        """Record that the connection was closed for another program, so that the next one is logged."""
        self._is_connected = False

    def record_absence(self, reason: str) -> None:
        """Record that there is no connection. Lines of an earlier one say nothing about the next one."""
        self._is_connected = False
        self.absence.record_failure(reason)
        self.health.recover("lines")
        self.health.fail(self._aspect, f"{self._problem}: {reason}")

    def record_format(self) -> None:
        """Log the format when it is detected, or detected again."""
        counts = self._input.counts
        if counts.format != self._format:
            self._format = counts.format
            self._log.info("reading lines of %s as %s: %s", self.name, counts.format, counts.reason)

    def record_cause(self, cause: str) -> None:
        """Record why the lines cannot be read, such as a wrong baud rate; it replaces their count. Empty: not known."""
        if cause and not self._cause:
            self._log.warning("%s: %s", self.name, cause)
        if cause:
            self.health.fail("lines", cause)
        elif self._cause:
            self.health.recover("lines")
        self._cause = cause

    def record_result(self, result: LineResult) -> None:
        """Record what is refused in a line, in the log, in the health of the source, and for the hub; and events."""
        for event in result.events:
            self._log.warning("the board at %s %s: %s", self.name, event.kind, event.detail)
            self.health.on_event(event)
        if not result.refusals:
            self._bad_values.record_success()
            self._bad.record_success()
            if self._bad.count == 0 or self._bad.successes >= GOOD_LINES:
                self.health.recover("lines")
            return
        reason = refusal_of_line(result.refusals[-1])
        if result.readings or result.refusals[-1].metric:
            # The source works: its other values arrive. The hub learns the counts.
            self._bad_values.record_failure(reason, times=len(result.refusals))
        else:
            self._bad.record_failure(reason, times=len(result.refusals))
            text = f"{plural(self._bad.count, 'unreadable line')}, the last: {reason}"
            self.health.fail("lines", self._cause or text)
        self.health.on_refused(result.refusals)
