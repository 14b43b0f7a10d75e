"""Cost of the journal alone: commits, catching up, and the file size under steady load.

    python -m bench.journal [--data DIR]

Prints a table. CPU time counts both threads of the process, and hardly depends on other work of the machine.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from hub.journal.journal import Journal
from hub.model.batch import Entry, EntryKind, Mark

DEVICES = 100
PAYLOAD = b'{"type":"data","seq":1234567,"time":[1763900000000000000],"values":{"temperature":[21.5678]}}'.ljust(100)
MIB = 1024 * 1024


def make_entries(count: int) -> list[Entry]:
    """Return frames of 100 bytes with one reading each, in turn from each device."""
    now_ns = time.time_ns()
    return [
        Entry(EntryKind.BATCH, f"device-{i % DEVICES}", f"{i % DEVICES:016x}", i, now_ns, "json", PAYLOAD)
        for i in range(count)
    ]


def make_marks(entries: Sequence[Entry]) -> list[Mark]:
    """Return the marks of the entries."""
    return list({entry.device: Mark(entry.device, entry.epoch, entry.seq) for entry in entries}.values())


def journal(path: Path, *, keep_bytes: int = 1 << 30) -> Journal:
    """Return a journal that keeps this number of bytes."""
    return Journal(path, keep_bytes=keep_bytes, keep_seconds=3600, max_bytes=4 << 30)


async def commits(path: Path, group: int, seconds: float) -> None:
    """Commit groups one after the other; print the rate, the CPU time of an entry and the duration of a commit."""
    prepared = [(entries := make_entries(group), make_marks(entries)) for _ in range(50)]
    async with journal(path) as target:
        await target.append(*prepared[0])
        took: list[float] = []
        began, began_cpu = time.perf_counter(), time.process_time()
        while (now := time.perf_counter()) - began < seconds:
            await target.append(*prepared[len(took) % len(prepared)])
            took.append(time.perf_counter() - now)
        spent, spent_cpu = time.perf_counter() - began, time.process_time() - began_cpu
        written = len(took) * group
        took.sort()
        print(
            f"groups of {group:>5}: {written / spent:>9,.0f} entries/s, "
            f"{spent_cpu / written * 1e6:>7.2f} µs of CPU an entry, "
            f"commit p50 {took[len(took) // 2] * 1e3:.2f} ms, p99 {took[len(took) * 99 // 100] * 1e3:.2f} ms"
        )


async def catch_up(path: Path, group: int, count: int) -> None:
    """Read everything that a consumer missed from the file; print the rate."""
    prepared = [(entries := make_entries(group), make_marks(entries)) for _ in range(10)]
    async with journal(path) as target:
        for number in range(count // group):
            await target.append(*prepared[number % len(prepared)])
    async with journal(path) as target:
        after = size = 0
        began, began_cpu = time.perf_counter(), time.process_time()
        while entries := await target.read(after, max_entries=16_384, max_bytes=8 * MIB):
            after = entries[-1].offset
            size += sum([len(entry.payload) for entry in entries])
        spent, spent_cpu = time.perf_counter() - began, time.process_time() - began_cpu
        print(
            f"catching up, commits of {group:>5}: {after / spent:>9,.0f} entries/s, {size / spent / 1e6:.0f} MB/s, "
            f"{spent_cpu / after * 1e6:.2f} µs of CPU an entry"
        )


async def steady(path: Path, keep_bytes: int, total_bytes: int) -> None:
    """Append while a consumer keeps up; print the largest file size and the cost of trimming."""
    prepared = [(entries := make_entries(1000), make_marks(entries)) for _ in range(10)]
    async with journal(path, keep_bytes=keep_bytes) as target:
        target.consumer("store")
        largest: list[int] = []
        written = 0
        began_cpu = time.process_time()
        for part in range(8):
            largest.append(0)
            for number in range(total_bytes // 8 // 140_000):
                offset = await target.append(*prepared[number % len(prepared)])
                target.advance("store", offset)
                written += 1000
                largest[part] = max(largest[part], target.size_bytes)
        spent_cpu = time.process_time() - began_cpu
        sizes = ", ".join(f"{size / MIB:.0f}" for size in largest)
        print(
            f"steady load, {keep_bytes // MIB} MiB kept, {written:,} entries: "
            f"{spent_cpu / written * 1e6:.2f} µs of CPU an entry; first offset {target.first_offset:,}; "
            f"largest file in each eighth, MiB: {sizes}"
        )


async def main(data: Path) -> None:
    """Run every measurement."""
    gc.disable()
    for group in (1, 100, 1000, 10_000):
        await commits(data / f"commits-{group}.db", group, 2.0)
    await catch_up(data / "behind-1000.db", 1000, 1_000_000)
    await catch_up(data / "behind-1.db", 1, 20_000)
    await steady(data / "steady.db", 32 * MIB, 400 * MIB)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a directory on the disk to measure; default: the temporary one")
    with tempfile.TemporaryDirectory(dir=parser.parse_args().data) as directory:
        uvloop.run(main(Path(directory)))
