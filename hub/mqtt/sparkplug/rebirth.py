"""How often an edge node is asked for its births again. Pure."""

from __future__ import annotations

FIRST_PAUSE_NS = 5_000_000_000
"""Between two requests to one edge node: its births are its largest messages, and a node that is asked by several hosts
answers each of them."""

LONGEST_PAUSE_NS = 300_000_000_000
"""Each request without an answer doubles the pause up to this: some edge nodes know no rebirth, and never answer."""


class Rebirth:
    """Whether an edge node's births are wanted, and when it may be asked for them."""

    __slots__ = ("_asked_ns", "_pause_ns", "wanted")

    def __init__(self) -> None:
        self.wanted = False
        self._asked_ns: int | None = None
        self._pause_ns = 0

    @property
    def due_ns(self) -> int | None:
        """When to ask; None where nothing is wanted."""
        if not self.wanted:
            return None
        return 0 if self._asked_ns is None else self._asked_ns + self._pause_ns

    def ask(self, now_ns: int) -> bool:
        """Whether to ask now; it counts as done."""
        due_ns = self.due_ns
        if due_ns is None:
            return False
        # A clock that was put back must not silence the hub.
        if now_ns < due_ns and (self._asked_ns is None or now_ns >= self._asked_ns):
            return False
        self._asked_ns = now_ns
        self._pause_ns = min(max(2 * self._pause_ns, FIRST_PAUSE_NS), LONGEST_PAUSE_NS)
        return True

    def restart(self) -> None:
        """Requests of before went to another connection, and are none."""
        self._asked_ns, self._pause_ns = None, 0

    def answered(self) -> None:
        """The births came; the next request keeps its distance from the last all the same."""
        self.wanted = False
        self._pause_ns = min(self._pause_ns, FIRST_PAUSE_NS)
