"""Salvage of a spool whose file is damaged, removed or replaced.

Beside the spool is a small file with its last numbers. It is written after each commit and without fsync: after a kill
it is exact, after a power failure it may be older than the spool, but never newer. Its numbers decide the epoch and the
next number of a damaged spool, of one that was cut, and of an older copy, and which batches are declared lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import apsw
import msgspec

from device_agent.batch import EncodedBatch
from device_agent.spool.contract import ROW_BYTES, Count, Gaps, StoredCommand
from device_agent.spool.layout import (
    READ_BATCHES,
    Damaged,
    Standing,
    read_batches,
    read_commands,
    read_gaps,
    read_life,
    read_metrics,
    read_settings,
)
from integrity.checksum import row_checksum
from integrity.descriptors import open_private
from integrity.recovery import beside
from wire.model import Metric

Result = TypeVar("Result")

STATE_BYTES = 512
"""Size of the file with the last numbers: one sector, which a disk writes whole or not at all. The longest device id
leaves 100 bytes of it."""


class LastState(msgspec.Struct, frozen=True):
    """The last known numbers of a spool: batches and readings that waited."""

    device: str
    epoch: str
    next_seq: int
    acked: int
    batches: int
    readings: int

    def __str__(self) -> str:
        """Return the contents for people."""
        if not self.batches:
            return "all batches in it were acknowledged"
        waiting = f"{self.acked + 1} to {self.next_seq - 1} of epoch {self.epoch}"
        return f"it held about {self.readings:,} readings, batches {waiting}"


class _Sealed(msgspec.Struct, frozen=True):
    state: LastState
    checksum: int


def write_last_state(path: Path, state: LastState) -> None:
    """Write the file beside the spool at `path`. Raises OSError."""
    sealed = _Sealed(state, row_checksum(msgspec.structs.astuple(state)))
    content = msgspec.json.encode(sealed).ljust(STATE_BYTES - 1) + b"\n"
    # In place: a new file with a new name would cost 100 µs a commit, this costs 7 µs.
    descriptor = open_private(beside(path, ".state"), os.O_WRONLY | os.O_CREAT)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def read_last_state(path: Path, device: str) -> LastState | None:
    """Read the file beside the spool at `path`; None if it is missing, damaged or of another device."""
    try:
        sealed = msgspec.json.decode(beside(path, ".state").read_bytes(), type=_Sealed)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    state = sealed.state
    return state if row_checksum(msgspec.structs.astuple(state)) == sealed.checksum and state.device == device else None


class Salvage(NamedTuple):
    """Contents of a damaged spool: the intact batches by number, and `standing` with the others declared lost."""

    standing: Standing
    metrics: list[Metric]
    batches: dict[int, EncodedBatch]
    commands: list[StoredCommand]
    settings: bytes | None


def salvage(path: Path, device: str, last: LastState | None) -> Salvage | None:
    """Read what is intact in the file of a damaged spool; None if not even its epoch is known.

    The memory is bounded by the size of the spool. Numbers that are unknown are chosen so that nothing is hidden: a gap
    that the hub knows already is ignored by it, and a number that it knows already begins a new epoch.
    """
    connection = apsw.Connection(os.fspath(path))
    try:
        life = _or_none(lambda: read_life(connection))
        if life is not None:
            epoch, next_seq, claim, _, acked = life
        elif last is not None:
            epoch, next_seq, claim, acked = last.epoch, last.next_seq, last.next_seq, last.acked
        else:
            return None
        batches = _intact_batches(connection, device, epoch)
        gaps = _or_none(lambda: read_gaps(connection)) or Gaps()
        metrics = _or_none(lambda: read_metrics(connection)) or []
        commands = _or_none(lambda: read_commands(connection)) or []
        settings = _or_none(lambda: read_settings(connection))
    finally:
        connection.close()
    waiting = {seq: batch for seq, batch in batches.items() if seq > acked}
    size_bytes = sum(batch.size + ROW_BYTES for batch in waiting.values())
    standing = Standing(
        epoch=epoch,
        device=device,
        next_seq=max([next_seq, *(seq + 1 for seq in batches)]),
        claim=claim,
        acked=acked,
        size_bytes=size_bytes,
        readings=sum(batch.readings for batch in waiting.values()),
        kept_bytes=sum(batch.size + ROW_BYTES for batch in batches.values()) - size_bytes,
        gaps=gaps.trim(acked),
        lost=Count(),
    )
    gaps = standing.gaps_of_damaged(acked, standing.next_seq, sorted(waiting))
    return Salvage(standing._replace(gaps=gaps), metrics, batches, commands, settings)


def _intact_batches(connection: apsw.Connection, device: str, epoch: str) -> dict[int, EncodedBatch]:
    """Return the intact batches, read from both ends up to the first page that cannot be read."""
    found: dict[int, EncodedBatch] = {}
    for order in ("ASC", "DESC"):
        try:
            rows: Iterator[tuple[object, ...]] = connection.execute(f"{READ_BATCHES} ORDER BY seq {order}")
            for row in read_batches(rows, device, epoch):
                if row.batch is not None:
                    found[row.seq] = row.batch
            break
        except (apsw.Error, UnicodeDecodeError):
            continue
    return found


def _or_none(read: Callable[[], Result]) -> Result | None:
    try:
        return read()
    except (Damaged, apsw.Error, UnicodeDecodeError):
        return None
