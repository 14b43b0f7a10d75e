"""Troubles that repeat are told once: when they begin, and how many they were when they are over."""

from __future__ import annotations

import logging


class Episode:
    """One kind of trouble. It is over after `quiet` times in a row without it. `total` counts all of it."""

    def __init__(self, log: logging.Logger, what: str, *, quiet: int = 1) -> None:
        self.total = 0
        self._log = log
        self._what = what
        self._quiet = quiet
        self._count = 0
        self._fine = 0

    def trouble(self, detail: object, *, times: int = 1) -> None:
        """It happened."""
        if self._count == 0:
            self._log.warning("%s: %s", self._what, detail)
        self.total += times
        self._count += times
        self._fine = 0

    def fine(self) -> None:
        """It did not happen."""
        if self._count:
            self._fine += 1
            if self._fine >= self._quiet:
                if self._count > 1:
                    self._log.info("%s: %d times in all, and over now", self._what, self._count)
                self._count = 0
