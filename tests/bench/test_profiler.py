from __future__ import annotations

import threading

from bench.profiler import Sampler


def spin(ended: threading.Event) -> int:
    """Use the processor until `stop` is set."""
    turns = 0
    while not ended.is_set():
        turns += 1
    return turns


def test_the_report_names_what_was_busy() -> None:
    """The report has a busy thread with its function, and never the sampler itself."""
    sampler, ended = Sampler(), threading.Event()
    spinner = threading.Thread(target=spin, args=(ended,), name="spinner")
    spinner.start()
    sampler.start()
    while sampler.taken < 3:
        threading.Event().wait(0.01)
    sampler.stop()
    ended.set()
    spinner.join()
    report = sampler.report()
    assert "thread spinner" in report
    assert "bench/test_profiler.py spin" in report
    assert "thread sampler" not in report
