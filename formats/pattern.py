"""Regular expressions of users. A search ends after a bounded time, so that no pattern and no line stops a program.

The syntax is that of Python's `re`. `regex` searches, because it can be interrupted: 2.3 µs a line instead of 1.0 µs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from formats.record import FrameRefused

MAX_SEARCH_S = 0.05
"""Processor time for one search. A line of 4 kB takes less than 1 ms with a pattern that does not backtrack."""

MIN_SEARCH_S = 0.002
"""Processor time for one search where many searches are slow."""

RECOVERY = 1.01
"""Growth of that time with each search that ends in time: seventy of them make up for one that does not."""

MAX_PATTERNS = 256
"""Compiled patterns that are kept: more than the settings of a hub name."""


class BoundedPattern:
    """A pattern with named groups, `names`. Each slow search halves `seconds`, the time of the next ones.

    A message of thousands of slow lines, or thousands of such messages, would otherwise stop the program, too.
    """

    def __init__(self, pattern: str) -> None:
        """Raises ValueError with a sentence."""
        # Loaded here because it takes 40 ms, and few programs have a pattern.
        import regex

        try:
            # `regex` alone would admit recursion and other additions, which can need any amount of memory.
            self.names = frozenset(re.compile(pattern).groupindex)
            self._search = regex.compile(pattern).search
        except (re.error, regex.error, OverflowError, RecursionError) as error:
            raise ValueError(f"pattern is not a regular expression: {error}") from None
        self.seconds = MAX_SEARCH_S

    def search(self, text: str) -> Mapping[str, str | None] | None:
        """Return the named groups of the first match, None without a match. Raises FrameRefused."""
        try:
            found = self._search(text, timeout=self.seconds)
        except TimeoutError:
            self.seconds = max(MIN_SEARCH_S, self.seconds / 2)
            reason = "the pattern takes too long for the line: write it without repetitions in repetitions"
            raise FrameRefused("limit", reason, "pattern") from None
        if self.seconds < MAX_SEARCH_S:
            self.seconds = min(MAX_SEARCH_S, self.seconds * RECOVERY)
        return None if found is None else found.groupdict()


@lru_cache(MAX_PATTERNS)
def bounded_pattern(pattern: str) -> BoundedPattern:
    """Return the compiled pattern, one for all inputs that have it. Raises ValueError with a sentence."""
    return BoundedPattern(pattern)
