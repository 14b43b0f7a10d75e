"""Declarations of devices, such as commands and settings: one row a device, and all of them in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Generic, Protocol, TypeVar

import apsw
import msgspec
import structlog

from hub.registry.database import RegistryThread
from hub.registry.schema import INTACT

MAX_DECLARED_BYTES = 64 * 1024
"""Declarations of one device as JSON: 128 commands with some parameters each. All of them are in memory, those of
devices that declare the same only once."""

log = structlog.get_logger(__name__)

_encode = msgspec.json.Encoder().encode


class Declaration(Protocol):
    """Something that a device declares under a name."""

    @property
    def name(self) -> str:
        """Return the name, which is unique on a device."""


Declared = TypeVar("Declared", bound=Declaration)


class DeclarationTable(Generic[Declared]):
    """The declarations of one kind in the registry. `table` is the name of its table.

    A device has at most `max_declared` of them, in MAX_DECLARED_BYTES.
    """

    def __init__(
        self,
        thread: RegistryThread,
        clock: Callable[[], int],
        table: str,
        kind: type[Declared],
        *,
        max_declared: int,
    ) -> None:
        self._thread = thread
        self._clock = clock
        self._table = table
        self._decode: Callable[[bytes], list[Declared]] = msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]
        self._max_declared = max_declared
        self._stored: dict[str, bytes] = {}
        self._same: dict[bytes, bytes] = {}
        self._uses: Counter[bytes] = Counter()
        self._watchers: list[Callable[[str], None]] = []

    async def open(self) -> None:
        """Read what the devices have declared. Raises RegistryError."""
        for device, declared in await self._thread.read(lambda connection: select_declared(connection, self._table)):
            self._remember(device, declared)

    def of(self, device: str) -> list[Declared]:
        """Return what a device declares, in the order of its declaration."""
        stored = self._stored.get(device)
        return [] if stored is None else self._decode(stored)

    def names(self, device: str) -> Collection[str]:
        """Return the names that a device declares, in the order of its declaration."""
        return [declaration.name for declaration in self.of(device)]

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher` with each device that declares something else than before, once that is durable."""
        self._watchers.append(watcher)

    async def declare(self, device: str, declared: Sequence[Declared], *, replace: bool) -> list[str]:
        """Record what a device declares, durable on return. `replace`: this is all. Without news nothing is written.

        Return the names of those that have no room, which are left out. Raises RegistryError.
        """
        known = {} if replace else {declaration.name: declaration for declaration in self.of(device)}
        known |= {declaration.name: declaration for declaration in declared}
        kept: list[Declared] = []
        size = 0
        for declaration in known.values():
            size += len(_encode(declaration))
            if size > MAX_DECLARED_BYTES or len(kept) == self._max_declared:
                break
            kept.append(declaration)
        content = _encode(kept) if kept else b""
        if content != self._stored.get(device, b""):
            now_ns = self._clock()
            await self._thread.write(
                lambda connection: write_declared(connection, self._table, device, content.decode(), now_ns),
                lambda _: self._remember(device, content),
            )
        return [*known][len(kept) :]

    def _remember(self, device: str, declared: bytes) -> None:
        before = self._stored.pop(device, None)
        if before is not None:
            self._uses[before] -= 1
            if not self._uses[before]:
                del self._uses[before], self._same[before]
        if declared:
            self._stored[device] = self._same.setdefault(declared, declared)
            self._uses[declared] += 1
        for watcher in self._watchers:
            watcher(device)


def select_declared(connection: apsw.Connection, table: str) -> list[tuple[str, bytes]]:
    """Return what each device declares, as JSON. Damaged rows are left out and logged."""
    declared = []
    for is_intact, device, text in connection.execute(f"SELECT {INTACT[table]}, device, declared FROM {table}"):
        if is_intact:
            declared.append((device, text.encode()))
        else:
            log.error("declarations are damaged, the device declares them again", device=device, table=table)
    return declared


def write_declared(connection: apsw.Connection, table: str, device: str, declared: str, now_ns: int) -> None:
    """Store what a device declares, as JSON, inside a transaction. An empty text deletes it."""
    if not declared:
        connection.execute(f"DELETE FROM {table} WHERE device = ?", (device,))
        return
    connection.execute(
        f"INSERT INTO {table} (device, declared, declared_ns) VALUES (?, ?, ?) ON CONFLICT (device) DO UPDATE "
        "SET declared = excluded.declared, declared_ns = excluded.declared_ns",
        (device, declared, now_ns),
    )
