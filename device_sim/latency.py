"""Durations collected into a histogram of constant size and constant relative error, however many there are."""

from __future__ import annotations

import importlib
from typing import Any

from device_sim.errors import SimulatorError
from device_sim.report import Distribution

LONGEST_US = 3_600_000_000
"""An hour. A longer wait counts as one: the hub was gone."""
DIGITS = 3
"""Significant digits: 0.1 % of the value."""


class Latencies:
    """Records durations in seconds, gives their distribution in milliseconds."""

    def __init__(self) -> None:
        self._histogram = _histogram_class()(1, LONGEST_US, DIGITS)

    def record(self, duration_s: float) -> None:
        """One duration; shorter than a microsecond counts as one."""
        self._histogram.record_value(min(max(1, round(duration_s * 1e6)), LONGEST_US))

    def percentile_ms(self, percentile: float) -> float:
        """The duration that this share (in percent) does not exceed; 0 when there is none."""
        if not self._histogram.total_count:
            return 0.0
        return float(self._histogram.get_value_at_percentile(percentile)) / 1000

    def distribution(self) -> Distribution:
        """All that was recorded so far."""
        if not self._histogram.total_count:
            return Distribution()
        return Distribution(
            count=self._histogram.total_count,
            mean=round(self._histogram.get_mean_value() / 1000, 3),
            p50=self.percentile_ms(50),
            p90=self.percentile_ms(90),
            p95=self.percentile_ms(95),
            p99=self.percentile_ms(99),
            p999=self.percentile_ms(99.9),
            max=self._histogram.get_max_value() / 1000,
        )


def _histogram_class() -> Any:
    try:
        return importlib.import_module("hdrh.histogram").HdrHistogram
    except ImportError as error:
        raise SimulatorError(
            "measuring latencies needs hdrhistogram; install it with: pip install 'telemetry-hub[sim]'"
        ) from error
