"""Sampling profiler inside `hub`: reads the stack of every thread a few hundred times a second.

    python -m bench.profiler REPORT run --data DIR

A tracer would double the cost of small functions and so measure its own time. A sample counts for the processor time
that its thread used since the previous sample, so waiting counts for nothing. The sampling thread needs the
interpreter's lock, so a long call into C counts for the line that called it.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import FrameType

PERIOD_SECONDS = 0.003
SWITCH_SECONDS = 0.0005
"""Interval after which a busy thread gives the lock to the sampler; the usual 5 ms would be the sampling period."""
LINES = 45


class Sampler(threading.Thread):
    """Adds up, per thread, the time of the innermost line of each sample and of every function on its stack."""

    def __init__(self) -> None:
        super().__init__(name="sampler", daemon=True)
        self.taken = 0
        self._ended = threading.Event()
        self._used_s: dict[str, float] = {}
        self._inner: dict[str, dict[str, float]] = {}
        self._any: dict[str, dict[str, float]] = {}

    def run(self) -> None:
        while not self._ended.wait(PERIOD_SECONDS):
            threads = {thread.ident: thread for thread in threading.enumerate()}
            for ident, frame in sys._current_frames().items():
                thread = threads.get(ident)
                if thread is not None and thread is not self:
                    self._count(thread, frame)
            self.taken += 1

    def stop(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self.join()

    def report(self) -> str:
        """Return per thread: processor time, then functions by their own share of it and by the share with their
        callees."""
        lines = []
        for name, used_s in sorted(self._used_s.items(), key=_by_share):
            lines.append(f"\nthread {name}: {used_s:.2f} s of processor time")
            for kind, shares in (("own   ", self._inner[name]), ("within", self._any[name])):
                most = sorted(shares.items(), key=_by_share)[:LINES]
                lines += [f"  {share_s / used_s:6.1%} {kind} {where}" for where, share_s in most if share_s]
        return "\n".join(lines) + "\n"

    def _count(self, thread: threading.Thread, frame: FrameType) -> None:
        assert thread.ident is not None
        name = thread.name
        now_s = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        used_s = now_s - self._used_s.get(name, 0.0)
        self._used_s[name] = now_s
        inner, within = self._inner.setdefault(name, {}), self._any.setdefault(name, {})
        where = _where(frame, line=True)
        inner[where] = inner.get(where, 0.0) + used_s
        seen = set()
        outer: FrameType | None = frame
        while outer is not None:
            seen.add(_where(outer, line=False))
            outer = outer.f_back
        for where in seen:
            within[where] = within.get(where, 0.0) + used_s


def _by_share(item: tuple[str, float]) -> float:
    return -item[1]


def _where(frame: FrameType, *, line: bool) -> str:
    code = frame.f_code
    place = "/".join(Path(code.co_filename).parts[-2:])
    return f"{place}:{frame.f_lineno} {code.co_qualname}" if line else f"{place} {code.co_qualname}"


def main() -> None:
    """Sample the hub from its start to its end and write the report."""
    report = Path(sys.argv.pop(1))
    sys.setswitchinterval(SWITCH_SECONDS)
    from hub.cli import main as hub

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
