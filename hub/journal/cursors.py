"""The consumers' cursors: in memory at once, handed out to be written with the next commit. Pure."""

from __future__ import annotations

from hub.model.journal import ConsumerState


class Cursors:
    """Each consumer's cursor, and which of them the disk does not have yet."""

    def __init__(self, offsets: dict[str, int]) -> None:
        self._offsets = dict(offsets)
        self._changed: set[str] = set()

    @property
    def changed(self) -> bool:
        """Whether the disk does not have all of it."""
        return bool(self._changed)

    def states(self) -> list[ConsumerState]:
        """Every known consumer."""
        return [ConsumerState(name, offset) for name, offset in self._offsets.items()]

    def consumer(self, name: str, before_oldest: int) -> ConsumerState:
        """The consumer's cursor; one that is not known begins at `before_oldest`."""
        if name not in self._offsets:
            self._offsets[name] = before_oldest
            self._changed.add(name)
        return ConsumerState(name, self._offsets[name])

    def advance(self, name: str, offset: int) -> None:
        """Puts a known consumer's cursor there, backwards, too. Raises ValueError for an unknown one."""
        if name not in self._offsets:
            raise ValueError(f"no consumer is called {name!r}: ask for its cursor first")
        if offset != self._offsets[name]:
            self._offsets[name] = offset
            self._changed.add(name)

    def forget(self, name: str) -> None:
        """Nothing waits for this consumer any more."""
        if self._offsets.pop(name, None) is not None:
            self._changed.add(name)

    def passed(self, last_offset: int) -> int:
        """The offset that all consumers have dealt with; `last_offset` when there is none."""
        return min(self._offsets.values(), default=last_offset)

    def slowest(self) -> ConsumerState | None:
        """The consumer that is furthest behind."""
        return min(self.states(), key=lambda state: state.offset, default=None)

    def take(self) -> dict[str, int | None]:
        """What is to be written: each changed consumer's cursor, None for a forgotten one."""
        changed, self._changed = self._changed, set()
        return {name: self._offsets.get(name) for name in changed}

    def put_back(self, taken: dict[str, int | None]) -> None:
        """The write of what was taken failed."""
        self._changed.update(taken)
