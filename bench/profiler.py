"""`hub` watched from inside: every thread's stack is looked at a few hundred times a second.

    python -m bench.profiler REPORT run --data DIR

A sampler and no tracer: tracing doubles the cost of small functions and so tells where its own time goes. A sample
is taken when the watching thread gets the interpreter's lock, so a long call into C counts for the line that called it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

PERIOD_SECONDS = 0.003
SWITCH_SECONDS = 0.0005
"""How soon a busy thread hands the lock to the sampler; the usual 5 ms would be its period."""
LINES = 25
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Sampler(threading.Thread):
    """Counts, per thread, the innermost function of each sample and every function on its stack."""

    def __init__(self) -> None:
        super().__init__(name="sampler", daemon=True)
        self.taken = 0
        self._ended = threading.Event()
        self._inner: dict[str, Counter[str]] = {}
        self._any: dict[str, Counter[str]] = {}
        self._cpu_s: dict[str, float] = {}

    def run(self) -> None:
        while not self._ended.wait(PERIOD_SECONDS):
            threads = {thread.ident: thread for thread in threading.enumerate()}
            for ident, frame in sys._current_frames().items():
                thread = threads.get(ident)
                if thread is not None and thread is not self:
                    self._count(thread, frame)
            self.taken += 1

    def stop(self) -> None:
        """Takes no more samples and notes how busy each thread that still lives was."""
        for thread in threading.enumerate():
            if thread.native_id is not None:
                self._cpu_s[thread.name] = _cpu_s(thread.native_id)
        self._ended.set()
        self.join()

    def report(self) -> str:
        """Per thread: processor time, then functions by their own share of its samples and by that with callees."""
        lines = []
        for name, inner in sorted(self._inner.items(), key=lambda item: -self._cpu_s.get(item[0], 0)):
            total = inner.total()
            lines.append(f"\nthread {name}: {self._cpu_s.get(name, 0):.2f} s of processor time, {total} samples")
            lines += [f"  {count / total:6.1%} own    {where}" for where, count in inner.most_common(LINES)]
            lines += [f"  {count / total:6.1%} within {where}" for where, count in self._any[name].most_common(LINES)]
        return "\n".join(lines) + "\n"

    def _count(self, thread: threading.Thread, frame: FrameType) -> None:
        if thread.native_id is not None:
            self._cpu_s[thread.name] = _cpu_s(thread.native_id)
        self._inner.setdefault(thread.name, Counter())[_where(frame, line=True)] += 1
        seen = set()
        outer: FrameType | None = frame
        while outer is not None:
            seen.add(_where(outer, line=False))
            outer = outer.f_back
        self._any.setdefault(thread.name, Counter()).update(seen)


def _where(frame: FrameType, *, line: bool) -> str:
    code = frame.f_code
    place = "/".join(Path(code.co_filename).parts[-2:])
    return f"{place}:{frame.f_lineno} {code.co_qualname}" if line else f"{place} {code.co_qualname}"


def _cpu_s(native_id: int) -> float:
    try:
        fields = Path(f"/proc/self/task/{native_id}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def main() -> None:
    """Watches hub from its start to its end and writes the report."""
    report = Path(sys.argv.pop(1))
    sys.setswitchinterval(SWITCH_SECONDS)
    from hub.commands import main as hub

    sampler = Sampler()
    sampler.start()
    started_s = time.monotonic()
    try:
        hub()
    finally:
        sampler.stop()
        report.write_text(f"{time.monotonic() - started_s:.1f} s in all\n{sampler.report()}")


if __name__ == "__main__":
    main()
